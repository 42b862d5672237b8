"""How events that came by v21's pub/sub enter the stream: each once, whoever heard it, and no gap unseen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from connectbot import events
from connectbot.errors import BacklogFull, MalformedEvent, RedisUnavailable
from connectbot.events import VIA_STREAM, Event
from connectbot.keys import Keys
from connectbot.listener import Message
from connectbot.redis_client import RedisClient, translated_errors
from connectbot.scripts import text_of
from connectbot.tracing.trace import KEPT_SECONDS, STEPS_A_BUCKET, Tracer

MARKER_SECONDS: Final = 600
"""How long a message is remembered. What a listener brings later than that could come in twice."""

_LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class Candidate:
    """A message on its way into the stream.

    ``problem`` says why it cannot be an event; it is empty, and ``text`` is not, when it is one.
    """

    channel: str
    marker: str
    type: str = ""
    text: bytes = b""
    problem: str = ""

    @classmethod
    def of(cls, message: Message) -> Candidate | None:
        """The candidate that a message is; None when the stream has its event already."""
        channel = message.channel[:_LONGEST_NAME].decode("utf-8", "replace")
        try:
            event, text = _read(message.text)
            if not event.id:
                raise MalformedEvent("its id is empty, so that nobody can tell it from another")  # noqa: TRY301
        except MalformedEvent as error:
            return cls(channel, _digest(message.text), problem=str(error))
        if event.via == VIA_STREAM:
            return None
        # A publisher of CloudEvents may number its events, so that the source belongs to the id.
        marker = f"{event.source}:{event.id}"
        if len(marker) > _LONGEST_NAME:
            marker = _digest(marker.encode())
        return cls(channel, marker, event.type, text)


@dataclass(frozen=True, slots=True)
class Admitted:
    """What came of some candidates: those that another worker had brought in before are in neither number."""

    events: int
    malformed: int


@dataclass(frozen=True, slots=True)
class Noted:
    """What Redis answered to a note; ``redis_ms`` is its clock, in epoch milliseconds. No gap is 0 seconds."""

    gap_seconds: float
    redis_ms: int


class Admission:
    """The way into the stream. ``room`` is how many entries the stream may hold; ``tracer``, what is traced.

    Its methods raise `RedisUnavailable` when Redis cannot serve.
    """

    def __init__(self, client: RedisClient, keys: Keys, *, room: int, tracer: Tracer | None = None) -> None:
        self._redis = client
        self._keys = keys
        self._room = room
        self._tracer = tracer

    def admit(self, candidates: Sequence[Candidate]) -> Admitted:
        """Put events into the stream that are not there yet, and count them and what is malformed.

        Raises `BacklogFull` when there is no room; nothing is done then.
        """
        keys = [self._keys.events, self._keys.counters]
        words: list[Any] = [self._room, MARKER_SECONDS, STEPS_A_BUCKET, KEPT_SECONDS]
        for candidate in candidates:
            keys.append(self._keys.bridged(candidate.marker))
            words += (candidate.type, candidate.text, *self._traced(candidate))
        with translated_errors():
            new, malformed = self._scripts["bridge_admit"](keys=keys, args=words)
        if new == -1:
            raise BacklogFull.of(self._keys.events, self._room)
        return Admitted(new, malformed)

    def note_listening(self, *, sent_ms: int, silent_seconds: float, shortest_gap_seconds: float) -> Noted:
        """Note that v21's channels are listened to now, and count the gap when nobody did before.

        ``sent_ms`` is the present time of Redis' clock for a caller that has listened ever since its last note; 0
        for one that begins. ``silent_seconds`` is how long the caller has not listened, 0 when it never did; it
        counts where Redis does not know. Shorter than ``shortest_gap_seconds`` is no gap.

        Raises `RedisUnavailable` also when the note was under way for longer than that.
        """
        with translated_errors():
            gap_ms, now_ms = self._scripts["bridge_listening"](
                keys=[self._keys.bridge_heard, self._keys.counters],
                args=[sent_ms, int(silent_seconds * 1000), int(shortest_gap_seconds * 1000)],
            )
        if gap_ms == -1:
            raise RedisUnavailable(f"Redis hung for more than {shortest_gap_seconds:g} s, or its clock was set")
        return Noted(gap_seconds=gap_ms / 1000, redis_ms=now_ms)

    def _traced(self, candidate: Candidate) -> tuple[str, bytes]:
        """The key of its steps, and the step that tells of it; both empty when it is not traced."""
        if not self._tracer or not candidate.text:
            return "", b""
        return self._tracer.admitting(events.decode(candidate.text))

    @cached_property
    def _scripts(self) -> dict[str, Any]:
        return {name: self._redis.register_script(text_of(name)) for name in ("bridge_admit", "bridge_listening")}


def _read(text: bytes) -> tuple[Event, bytes]:
    """An event, and its text as the stream takes it. Raises `MalformedEvent`."""
    try:
        return events.decode(text), text
    except MalformedEvent:
        text = events.mended(text)
        return events.decode(text), text


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=16).hexdigest()
