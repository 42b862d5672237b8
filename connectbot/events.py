"""Events: their types, their form on the wire, and strict decoding (contract v21)."""

from __future__ import annotations

import hashlib
import math
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec

from connectbot import cloud_events
from connectbot.errors import MalformedEvent

SOURCE: Final = "django-connectbot"
VIA_STREAM: Final = "stream"
OURS_ENDS_WITH: Final = b'"via":"stream"}'
"""How the JSON of all that this package publishes ends: the cheapest way to know it among messages of v21."""

T = TypeVar("T")
E = TypeVar("E", bound="Event")

UserId = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Telegram's ids and Django's fit into 64 bits; what does not is no id."""


class ConnectBotEvents:
    """The types of events, by the names that v21 gives them."""

    USER_CREATED: Final = "user.created"
    USER_UPDATED: Final = "user.updated"
    USER_DELETED: Final = "user.deleted"
    USER_LOGIN: Final = "user.login"
    USER_LOGOUT: Final = "user.logout"

    ACTIVITY_CREATED: Final = "activity.created"
    ACTIVITY_UPDATED: Final = "activity.updated"
    ACTIVITY_CANCELLED: Final = "activity.cancelled"
    ACTIVITY_COMPLETED: Final = "activity.completed"

    MATCHING_REQUEST: Final = "matching.request"
    MATCHING_COMPLETED: Final = "matching.completed"
    MATCHING_FAILED: Final = "matching.failed"

    SYSTEM_CACHE_CLEARED: Final = "system.cache_cleared"
    SYSTEM_SERVICE_STARTED: Final = "system.service_started"
    SYSTEM_SERVICE_STOPPED: Final = "system.service_stopped"

    NOTIFICATION_SENT: Final = "notification.sent"
    NOTIFICATION_DELIVERED: Final = "notification.delivered"
    NOTIFICATION_READ: Final = "notification.read"

    # Seen in v21 beside the class of this name.
    USER_MENU_OPENED: Final = "user.menu_opened"
    USER_CACHE_CLEARED: Final = "user.cache_cleared"
    SYSTEM_MAINTENANCE: Final = "system.maintenance"

    # Ours: v21 has no such events.
    TEMP_EXPIRED: Final = "temp.expired"
    MENUS_WARM: Final = "menus.warm"
    JAVA_FORWARD: Final = "java.forward"
    TASK_ENQUEUED: Final = "task.enqueued"
    JAVA_TASK_ENQUEUED: Final = "task.enqueued.java"


JAVA_TASKS: Final = ("matching.", "java.")
"""Tasks whose names begin so are for the lane ``java``, all others for the lane ``default`` (contract v21)."""
KNOWN_TYPES: Final = frozenset(name for key, name in vars(ConnectBotEvents).items() if key.isupper())
USER_ACTION_PREFIX: Final = "user.action."


def is_known(event_type: str) -> bool:
    """Whether anybody publishes such events, as far as we know."""
    return event_type in KNOWN_TYPES or event_type.startswith(USER_ACTION_PREFIX)


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One event, as its JSON says it. Fields that we do not know are ignored when reading.

    ``via`` is ``"stream"`` on everything published by this package: a listener of v21's channels that
    feeds the stream knows by it that the stream has the event already. ``specversion`` is never set and never
    written: it is here so that `decode` notices a CloudEvent without looking twice at v21's shape.
    """

    id: str
    type: str
    data: dict[str, Any]
    timestamp: str = ""
    channel: str = ""
    user_id: UserId | None = None
    source: str = ""
    via: str | None = None
    specversion: Any = msgspec.UNSET

    @staticmethod
    def data_of(event: Event) -> Any:
        """What ``data`` of an event is in this shape. A subclass says so for its own; it may raise `MalformedEvent`."""
        return event.data


def new_event(
    event_type: str,
    data: Mapping[str, Any] | None,
    *,
    channel: str,
    user_id: int | None = None,
    event_id: str | None = None,
) -> Event:
    """An event of now; ``data`` of None is no data.

    ``event_id`` defaults to a random one; give it where the same fact must carry the same id whenever it is
    published again.
    """
    return Event(
        id=event_id or _as_uuid(os.urandom(16), version=4),
        type=event_type,
        data=dict(data or {}),
        timestamp=datetime.now(UTC).isoformat(),
        channel=channel,
        user_id=user_id,
        source=SOURCE,
        via=VIA_STREAM,
    )


def derived_id(event_id: str, *names: object) -> str:
    """An id that is always the same for what follows from one event, so that doing it twice is seen."""
    name = ":".join(["connectbot", event_id, *map(str, names)])
    digest = hashlib.sha1(uuid.NAMESPACE_URL.bytes + name.encode(), usedforsecurity=False).digest()
    return _as_uuid(digest, version=5)


def _as_uuid(random: bytes, *, version: int) -> str:
    """A UUID (RFC 9562) as text: what ``uuid.uuid4`` and ``uuid.uuid5`` make, in a third of their time."""
    digits = random.hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def _plain(value: object) -> str:
    """Text of a class of its own, such as Django's ``SafeString``, as text: v21's ``json`` takes it, too."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"JSON has no form for {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_event_decoder = msgspec.json.Decoder(Event)


class _TypeOnly(msgspec.Struct):
    type: str


class _RequestOnly(msgspec.Struct):
    request_id: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class _DataOnly(msgspec.Struct):
    data: _RequestOnly


_type_decoder = msgspec.json.Decoder(_TypeOnly)
_request_decoder = msgspec.json.Decoder(_DataOnly)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text_id_decoder = msgspec.json.Decoder(UserId, strict=False)


def encode(event: Event, *, largest_bytes: float = math.inf) -> bytes:
    """The JSON text of an event.

    Raises `MalformedEvent` when its data has a value that JSON has not, or it would be longer than ``largest_bytes``.
    """
    try:
        text = _encoder.encode(event)
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedEvent(f"event {event.id} ({event.type}) cannot be written as JSON: {error}") from error
    if len(text) > largest_bytes:
        raise MalformedEvent(
            f"event {event.id} ({event.type}) has {len(text):,} bytes, more than CONNECTBOT_MAX_EVENT_BYTES "
            f"({largest_bytes:,}): publish what its data can be looked up by"
        )
    return text


def decode(text: bytes) -> Event:
    """Read an event strictly, in v21's shape, or as a CloudEvent when it has a ``specversion``.

    Raises `MalformedEvent` with a reason that a person understands.
    """
    try:
        event = _event_decoder.decode(text)
    except (ValueError, RecursionError):
        is_cloud_event = _decode(cloud_events.is_one, text)
        return _decode(_read_cloud_event if is_cloud_event else _event_decoder.decode, text)
    return event if event.specversion is msgspec.UNSET else _decode(_read_cloud_event, text)


def reader(shape: type[E]) -> Callable[[bytes], E]:
    """What reads events as `decode` does, in ``shape``: `Event`, or a subclass of it that says what its ``data`` is.

    What does not fit as it stands is read in full, and then the data of it as the shape's `Event.data_of` says.
    """
    decoder = msgspec.json.Decoder(shape)

    def read(text: bytes) -> E:
        try:
            event = decoder.decode(text)
        except (ValueError, RecursionError):
            pass
        else:
            if event.specversion is msgspec.UNSET:
                return event
        # In another form than nearly all, or malformed.
        fields = msgspec.structs.asdict(any_event := decode(text))
        return shape(**fields | {"data": shape.data_of(any_event)})

    return read


def mended(text: bytes) -> bytes:
    """What v21 passed on as it got it, in the form of `decode`: an id in text as a number, no data as an empty object.

    All else stays as it is written. Raises `MalformedEvent` when it is no JSON object.
    """
    fields: dict[str, Any] = _decode(_fields_decoder.decode, text)
    if fields.get("data") == msgspec.Raw(b"null"):
        fields["data"] = {}
    with suppress(KeyError, ValueError):  # `decode` will tell
        fields["user_id"] = _text_id_decoder.decode(fields["user_id"])
    return msgspec.json.encode(fields)


def decode_type(text: bytes) -> str:
    """Only the type of an event, for routing. Raises `MalformedEvent`."""
    return _decode(_type_decoder.decode, text).type


def decode_request_id(text: bytes) -> str | None:
    """Only ``data.request_id``, whatever else is wrong with an event; None where it cannot be read, or is none."""
    try:
        return _request_decoder.decode(text).data.request_id
    except (ValueError, RecursionError):
        return None


def read_data(event: Event, shape: type[T], *, strict: bool = True) -> T:
    """The event's ``data`` as ``shape``, a msgspec Struct. Raises `MalformedEvent` when it does not fit.

    Unless ``strict``, a number may come as text: v21 passed on ids as it got them.
    """
    try:
        return msgspec.convert(event.data, shape, strict=strict)
    except msgspec.ValidationError as error:
        raise MalformedEvent(f"data of {event.type} has the wrong shape: {error}") from error


def _read_cloud_event(text: bytes) -> Event:
    cloud = cloud_events.decode(text)
    return Event(
        id=cloud.id,
        type=cloud.type,
        data=cloud.object(),
        timestamp=cloud.time.isoformat() if cloud.time else "",
        user_id=cloud.user_id,
        source=cloud.source,
        via=cloud.via,
    )


def _decode(read: Callable[[bytes], T], text: bytes) -> T:
    try:
        return read(text)
    except msgspec.ValidationError as error:
        raise MalformedEvent(f"the JSON has the wrong shape: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedEvent(f"not valid JSON: {error}") from error
    except RecursionError as error:
        raise MalformedEvent("the JSON is nested too deeply") from error
