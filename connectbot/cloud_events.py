"""CloudEvents 1.0 as JSON in structured mode: the other shape in which a publisher may write an event.

The rules are those of the CNCF's specification "CloudEvents 1.0" and of its JSON event format: ``specversion``,
``id``, ``source`` and ``type`` are required and not empty, any other attribute that is null counts as absent,
``time`` is a timestamp of RFC 3339, and attributes that we do not know (extensions) are ignored.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from connectbot.errors import MalformedEvent

VERSION: Final = "1.0"

_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_JSON_TYPE: Final = re.compile(r"(application|text)/([^\s;]+\+)?json\s*(;.*)?", re.IGNORECASE)
_USER: Final = re.compile(r"(?:/?users?[/:])?(\d{1,19})", re.ASCII)
_LARGEST_ID: Final = 2**63 - 1


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of this shape, its envelope read and found well. ``data`` may be anything that JSON has."""

    specversion: str
    id: _Name
    source: _Name
    type: _Name
    time: _Time | None = None
    subject: _Name | None = None
    datacontenttype: _Name | None = None
    data: Any = None
    data_base64: str | None = None
    via: str | None = None

    @property
    def user_id(self) -> int | None:
        """The user whom ``subject`` names, as ``7``, ``user:7``, ``user/7`` or ``users/7``; None when it names none."""
        named = _USER.fullmatch(self.subject or "")
        number = int(named[1]) if named else None
        return number if number is not None and number <= _LARGEST_ID else None

    def object(self) -> dict[str, Any]:
        """``data`` as the JSON object that our events carry; an empty one when there is none.

        Raises `MalformedEvent` when it is something else.
        """
        if self.data_base64 is not None:
            raise MalformedEvent("data of the CloudEvent is binary (data_base64): only a JSON object is read")
        if self.datacontenttype is not None and not _JSON_TYPE.fullmatch(self.datacontenttype):
            raise MalformedEvent(
                f"datacontenttype of the CloudEvent is {self.datacontenttype[:50]!r}: only JSON is read"
            )
        if not isinstance(self.data, dict | None):
            raise MalformedEvent("data of the CloudEvent is not a JSON object")
        return self.data or {}


class _Probe(msgspec.Struct):
    specversion: Any = msgspec.UNSET


_probe = msgspec.json.Decoder(_Probe)
_decoder = msgspec.json.Decoder(CloudEvent)


def is_one(text: bytes) -> bool:
    """Whether a JSON text is meant as a CloudEvent: its outermost object has a ``specversion``.

    Raises what msgspec raises when it is not a JSON object at all.
    """
    return _probe.decode(text).specversion is not msgspec.UNSET


def decode(text: bytes) -> CloudEvent:
    """Read the envelope. Raises `MalformedEvent`, or what msgspec raises."""
    event = _decoder.decode(text)
    if event.specversion != VERSION:
        raise MalformedEvent(f"specversion of the CloudEvent is {event.specversion[:20]!r}: only {VERSION} is read")
    return event
