"""The trace of an event: what happened to it, kept in Redis for `connectbot events trace`.

A step is written by the very script that does what it tells: publishing, admission by the bridge, or the commit of the
work. So a trace claims nothing that did not happen; of work whose commit was refused or never came it says nothing.

What it may cost is bounded. Events are followed or not by a hash of their id (CONNECTBOT_TRACE), so that every process
decides alike. The hash also puts an event's steps into one of `BUCKETS` streams, each capped: many steps push out the
oldest of the same bucket, and all together are never more than some `BUCKETS` times `STEPS_A_BUCKET`.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from zlib import crc32

import msgspec

from connectbot.entries import Entry
from connectbot.events import Event
from connectbot.keys import Keys
from connectbot.redis_client import Command, RedisClient, translated_errors

BUCKETS: Final = 256
STEPS_A_BUCKET: Final = 500
"""Also the most steps that are kept of one event."""
KEPT_SECONDS: Final = 8 * 86_400
"""A bucket is gone that long after its last step: a day longer than the longest wait, CONNECTBOT_MATCHING_DEADLINE."""
LONGEST_TEXT: Final = 200
CALLS_A_TRY: Final = 20
_STEPS_NEAR_AN_ENTRY: Final = 100

Ending: TypeAlias = Literal["done", "delayed", "parked", "dead"]


class Published(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="what", tag="published"):
    """An event has entered the stream. ``by`` is the process (``host:pid``) that put it there.

    ``made`` is when its publisher says that it was made; ``entry`` is the entry, where the script told it; ``bridge``:
    v21 had published it by pub/sub only.
    """

    event: str
    type: str
    channel: str = ""
    source: str = ""
    made: str = ""
    by: str = ""
    bridge: bool = False
    entry: str = ""


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One HTTP call: ``status`` is None when no answer came; it began ``ago_seconds`` before its step was written."""

    operation: str
    status: int | None
    seconds: float
    ago_seconds: float


class Worked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="what", tag="worked"):
    """An entry was worked on, for ``seconds`` from its delivery to a process until its commit; None when nobody knows.

    ``origin`` is the entry in which the event first came, where that is another one. ``error`` says why it is not
    done; ``reason``, in a word, why it is dead. ``until`` (epoch seconds) is when
    a delay ends, or when a parked entry returns in any case. ``attempts`` is how many count so far, this one included.
    """

    event: str
    entry: str
    lane: str
    consumer: str
    end: Ending
    seconds: float | None = None
    origin: str = ""
    deliveries: int = 1
    attempts: int = 0
    calls: tuple[Call, ...] = ()
    reason: str = ""
    error: str = ""
    until: float | None = None


Record: TypeAlias = Published | Worked

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class Tracer:
    """Writes and reads traces. ``share`` of all events, from 0.0 to 1.0, are followed; it is false when none are."""

    def __init__(self, keys: Keys, share: float) -> None:
        self.share = share
        self._keys = keys
        self._limit = round(share * 2**32)
        self._host = socket.gethostname()

    def __bool__(self) -> bool:
        return self._limit > 0

    def follows(self, event_id: str) -> bool:
        """Whether an event is followed. Never one whose id is so long that its steps would not be small."""
        return _hash(event_id) < self._limit and len(event_id) <= LONGEST_TEXT

    # --- writing --------------------------------------------------------------------------------------

    def writing(self, record: Record) -> tuple[Command, Command]:
        """The commands that write a record, as part of what it tells."""
        key = self._key(record.event)
        return (
            ("XADD", key, "MAXLEN", "~", STEPS_A_BUCKET, "*", "step", _encoder.encode(record)),
            ("EXPIRE", key, KEPT_SECONDS),
        )

    def publishing(self, event: Event) -> tuple[Command, ...]:
        """The commands that tell that an event is published, as part of that; none when it is not followed."""
        return self.writing(self._published(event)) if self.follows(event.id) else ()

    def admitting(self, event: Event) -> tuple[str, bytes]:
        """What lua/bridge_admit.lua wants to know: the key and the step; both empty when it is not followed."""
        if not self.follows(event.id):
            return "", b""
        return self._key(event.id), _encoder.encode(self._published(event, bridge=True))

    def working(self, event_id: str, entry: Entry, *, error: str = "", **facts: Any) -> tuple[Command, ...]:
        """The commands that tell how work on an entry ends, as part of its commit; none when it is not followed.

        ``facts`` are further fields of `Worked`; ``attempts`` are the entry's own unless they are given.
        """
        if not event_id or not self.follows(event_id):
            return ()
        origin = entry.origin if entry.origin != entry.id else ""
        facts = {"attempts": entry.attempts, **facts, "error": error[:LONGEST_TEXT]}
        return self.writing(Worked(event=event_id, entry=entry.id, origin=origin, **facts))

    def scripted(self, published: Sequence[Event]) -> tuple[list[str], list[Any]]:
        """What lua/publish.lua wants to know about those events that are followed: further keys and arguments."""
        keys: list[str] = []
        words: list[Any] = [STEPS_A_BUCKET, KEPT_SECONDS]
        for nth, event in enumerate(published, 1):
            if self.follows(event.id):
                keys.append(self._key(event.id))
                words += (nth, _encoder.encode(self._published(event)))
        return keys, words if keys else []

    # --- reading --------------------------------------------------------------------------------------

    def read(self, client: RedisClient, event_id: str) -> list[tuple[float, Record]]:
        """What is kept of one event: epoch seconds of Redis' clock, and the record. Raises `RedisUnavailable`."""
        with translated_errors():
            rows = client.xrange(self._key(event_id))
        return [(at, record) for at, record in _records(rows) if record.event == event_id]

    def event_of(self, client: RedisClient, entry: str) -> str:
        """The id of the event that an entry held, as far as a record written soon after tells; else empty.

        Raises `RedisUnavailable`.
        """
        since = int(entry.partition("-")[0])
        with translated_errors(), client.pipeline(transaction=False) as pipe:
            for bucket in range(BUCKETS):
                pipe.xrange(self._keys.trace(bucket), max(0, since - 1000), count=_STEPS_NEAR_AN_ENTRY)
            pages = pipe.execute()
        found = (record for rows in pages for _, record in _records(rows) if entry in _entries(record))
        return next((record.event for record in found), "")

    # --- inside ---------------------------------------------------------------------------------------

    def _key(self, event_id: str) -> str:
        return self._keys.trace(_hash(event_id) % BUCKETS)

    def _published(self, event: Event, *, bridge: bool = False) -> Published:
        return Published(
            event=event.id,
            type=event.type[:LONGEST_TEXT],
            channel=event.channel[:LONGEST_TEXT],
            source=event.source[:LONGEST_TEXT],
            made=event.timestamp[:LONGEST_TEXT],
            by=f"{self._host}:{os.getpid()}",
            bridge=bridge,
        )


# --- HTTP calls -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class CallUnderWay:
    """A call that is being noted; ``status`` is set when the head of an answer is there. Times are monotonic."""

    operation: str
    begun: float
    status: int | None = None
    ended: float = 0.0

    def noted(self, now: float) -> Call:
        """The call as a step written at ``now`` (monotonic seconds) holds it."""
        return Call(self.operation, self.status, round(self.ended - self.begun, 6), round(now - self.begun, 6))


_calls: ContextVar[list[CallUnderWay] | None] = ContextVar("calls", default=None)


def collect_calls() -> None:
    """From now on, in this thread, calls are noted: those of one try of one event."""
    _calls.set([])


def calls_collected(now: float) -> tuple[Call, ...]:
    """The calls of this thread since `collect_calls`, for a step written at ``now`` (monotonic seconds)."""
    return tuple(call.noted(now) for call in _calls.get() or ())


@contextmanager
def noting(operation: str) -> Iterator[CallUnderWay]:
    """Note one call where they are collected."""
    call = CallUnderWay(operation, time.monotonic())
    calls = _calls.get()
    if calls is not None and len(calls) < CALLS_A_TRY:
        calls.append(call)
    try:
        yield call
    finally:
        call.ended = time.monotonic()


# --- inside ---------------------------------------------------------------------------------------------

_ENTRY_ID: Final = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)


def is_entry_id(text: str) -> bool:
    """Whether a text has the form of an entry's id."""
    return _ENTRY_ID.fullmatch(text) is not None and all(int(part) < 2**64 for part in text.split("-"))


def _hash(event_id: str) -> int:
    return crc32(event_id.encode("utf-8", "surrogatepass"))


def _entries(record: Record) -> tuple[str, ...]:
    return (record.entry,) if isinstance(record, Published) else (record.entry, record.origin)


def _records(rows: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[tuple[float, Record]]:
    for id_, fields in rows:
        try:
            record = _decoder.decode(fields.get(b"step", b""))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # of another release
        if isinstance(record, Published) and b"entry" in fields:
            record = msgspec.structs.replace(record, entry=fields[b"entry"].decode("ascii", "replace"))
        yield int(id_.partition(b"-")[0]) / 1000, record
