"""Publishing events: into the stream, which keeps them, and on v21's channels, for who listens now."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from connectbot import events
from connectbot.errors import BacklogFull, MalformedEvent
from connectbot.events import Event, new_event
from connectbot.keys import Keys
from connectbot.log import about
from connectbot.quick_script import Call, QuickScript
from connectbot.redis_client import Command, RedisClient, told_of, translated_errors
from connectbot.tracing.trace import Tracer

AT_ONCE: Final = 100
"""So many events a socket takes at once, so that Redis and the publisher do not wait for each other."""

logger = logging.getLogger(__name__)


class EventPublisher:
    """Publishes events in one round trip each; the three methods ``publish_*_event`` are those of v21.

    ``room`` is how many entries the stream may hold: what waits and what is kept for looking back.
    ``largest_bytes`` is how long an event may be. ``tracer`` says which events are traced; without one, none are.
    """

    def __init__(
        self,
        client: RedisClient,
        *,
        keys: Keys,
        room: int,
        largest_bytes: float = math.inf,
        tracer: Tracer | None = None,
    ) -> None:
        self._script = QuickScript(client, "publish", is_brief=True)
        self._keys = keys
        self._tracer = tracer
        self.room = room
        self._largest_bytes = largest_bytes

    def publish_user_event(self, user_id: int, event_type: str, data: Mapping[str, Any] | None) -> bool:
        """Tell what concerns one user. Answers whether it was published; never raises (contract v21)."""
        return self._try(event_type, lambda: user_event(self._keys, user_id, event_type, data))

    def publish_global_event(self, event_type: str, data: Mapping[str, Any] | None) -> bool:
        """Tell what concerns everybody. Answers whether it was published; never raises (contract v21)."""
        return self._try(event_type, lambda: global_event(self._keys, event_type, data))

    def publish_microservice_event(self, service_name: str, event_type: str, data: Mapping[str, Any] | None) -> bool:
        """Tell a microservice. Answers whether it was published; never raises (contract v21)."""
        return self._try(event_type, lambda: microservice_event(self._keys, service_name, event_type, data))

    def publish(self, *published: Event) -> None:
        """Publish events, all or none.

        Raises `BacklogFull`, `RedisUnavailable`, or `MalformedEvent` when one cannot be written as JSON or is too long.
        """
        with translated_errors():
            keys, words = self._call(published)
            self._require_room(self._script(keys=keys, args=words))

    def publish_many(self, published: Iterable[Event]) -> int:
        """Publish many events in their order, some hundred at a time; answers how many.

        Raises what `publish` raises. What came before the part that fails is published then, and nothing after it.
        """
        coming, count = iter(published), 0
        parts = iter(lambda: list(islice(coming, AT_ONCE)), [])
        with translated_errors():
            for done in self._script.each(map(self._call, parts)):
                self._require_room(done)
                count += done
        return count

    def publishing(self, event: Event, *, largest_bytes: float = math.inf) -> tuple[Command, Command]:
        """The commands that publish an event as part of a commit. Raises `MalformedEvent` as `publish` does."""
        text = events.encode(event, largest_bytes=largest_bytes)
        return (
            ("XADD", self._keys.events, "*", "type", event.type, "event", text),
            ("PUBLISH", event.channel, text),
        )

    def announcing(self, event: Event) -> Command:
        """The command that tells an event on its channel only, as part of a commit: the stream holds its like."""
        return ("PUBLISH", event.channel, events.encode(event))

    def distrust_connections(self) -> None:
        """Close the connection at hand: it may be half-open."""
        self._script.distrust()

    def _call(self, published: Sequence[Event]) -> Call:
        keys = [self._keys.events]
        words: list[Any] = [self.room, len(published)]
        for event in published:
            words += (event.type, events.encode(event, largest_bytes=self._largest_bytes), event.channel)
        if self._tracer:
            traces, told = self._tracer.scripted(published)
            keys += traces
            words += told
        return keys, words

    def _require_room(self, done: int) -> None:
        if done == -1:
            raise BacklogFull.of(self._keys.events, self.room)

    def _try(self, event_type: str, make: Callable[[], Event]) -> bool:
        event_id = ""
        try:
            event = make()
            event_id = event.id
            self.publish(event)
        except Exception as error:  # v21 promises its callers an answer, never an exception
            with about(event_id=event_id):
                # What is passed as the type by mistake may be anybody's data.
                type_ = event_type if isinstance(event_type, str) else "of no type"
                logger.warning("event %s (%s) was not published: %s", event_id, type_, told_of(error))
            return False
        return True


def user_event(keys: Keys, user_id: int, event_type: str, data: Mapping[str, Any] | None) -> Event:
    """An event that concerns one user. Raises `MalformedEvent`."""
    return _event(event_type, data, channel=keys.user_channel(user_id), user_id=user_id)


def global_event(keys: Keys, event_type: str, data: Mapping[str, Any] | None) -> Event:
    """An event that concerns everybody. Raises `MalformedEvent`."""
    return _event(event_type, data, channel=keys.global_channel)


def microservice_event(keys: Keys, service_name: str, event_type: str, data: Mapping[str, Any] | None) -> Event:
    """An event for a microservice. Raises `MalformedEvent`."""
    return _event(event_type, data, channel=keys.service_channel(service_name))


def as_data(argument: str, data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Data of an event; None is none. Raises `MalformedEvent`, naming the argument, for what is no mapping."""
    try:
        return dict(data or {})
    except (TypeError, ValueError):
        # Not chained: the error's text may quote the data.
        raise MalformedEvent(f"{argument} must be a dict, and is of type {type(data).__name__}") from None


def _event(event_type: str, data: Mapping[str, Any] | None, *, channel: str, user_id: int | None = None) -> Event:
    if not isinstance(event_type, str):
        raise MalformedEvent(f"event_type must be text, and is of type {type(event_type).__name__}")
    if not event_type:
        raise MalformedEvent("event_type must be text, and is empty")
    return new_event(event_type, as_data("data", data), channel=channel, user_id=user_id)
