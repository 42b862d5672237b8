"""Where an event is now, as far as the stream, what is put aside and the dead letters tell: looked up within bounds.

An entry is found by its id at once. An event is searched for, by its own id, among the newest entries only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec

from connectbot.dead_letters import DeadLetter
from connectbot.entries import Entry
from connectbot.errors import MalformedEvent
from connectbot.events import Event
from connectbot.keys import Keys
from connectbot.redis_client import RedisClient, translated_errors
from connectbot.tracing.trace import is_entry_id

SEARCHED: Final = 10_000
"""Newest entries of the stream that are searched."""
SEARCHED_ASIDE: Final = 1_000
"""Entries that are searched of each lane's delayed and parked ones, and newest dead letters."""
SEARCHED_BYTES: Final = 64 * 1024 * 1024
"""No more entries of the stream are read after so much."""
MOST_ENTRIES: Final = 50
_PAGE: Final = 50

_Rows = Iterable[tuple[bytes, dict[bytes, bytes]]]


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place where an entry of the event is.

    ``where`` is ``waiting`` (its lane has not read it), ``pending`` (``consumer`` has had it for ``idle_seconds``, and
    ``deaths`` processes have died over it), ``finished`` (its lane is through with it), ``delayed`` or ``parked`` until
    ``until`` (epoch seconds), or ``dead``.
    """

    where: str
    entry: str
    lane: str
    consumer: str = ""
    deliveries: int = 0
    deaths: int = 0
    idle_seconds: float = 0.0
    until: float | None = None
    attempts: int = 0
    reason: str = ""
    error: str = ""
    died_at: float | None = None
    letter: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: the event, its id (both empty when it cannot be read, or there is none), and its places."""

    event: Event | None
    event_id: str
    places: Sequence[Place]


class Whereabouts:
    """Looks events up. ``lanes`` are those of the installation. Every method raises `RedisUnavailable`."""

    def __init__(self, client: RedisClient, keys: Keys, lanes: Sequence[str]) -> None:
        self._redis = client
        self._keys = keys
        self._lanes = lanes

    def look(self, ids: Collection[str]) -> Found:
        """Find what goes by one of ``ids``, those of events, entries or dead letters."""
        named = [id_ for id_ in ids if is_entry_id(id_)]

        def fits(entry: Entry) -> bool:
            return not {entry.id, entry.origin, _event_id(entry)}.isdisjoint(ids)

        with translated_errors():
            entries = {entry.id: entry for entry in self._in_stream(named, fits)}
            aside = {(place.where, place.entry): (entry, place) for entry, place in self._aside(named, fits)}
            letters = [letter for letter in self._letters() if _names(letter).intersection(ids)]
            places = self._in_lanes(sorted(entries.values(), key=_age)[-MOST_ENTRIES:])
        seen = [*entries.values(), *(entry for entry, _ in aside.values())]
        seen += [Entry(letter.entry_id or letter.id, letter.fields) for letter in letters]
        event = next((event for event in map(_event, seen) if event), None)
        places += [place for _, place in aside.values()] + [_buried(letter) for letter in letters]
        return Found(event, event.id if event else "", places)

    # --- the stream -----------------------------------------------------------------------------------

    def _in_stream(self, named: Sequence[str], fits: Callable[[Entry], bool]) -> Iterator[Entry]:
        for id_ in named[:MOST_ENTRIES]:
            yield from _read(self._redis.xrange(self._keys.events, id_, id_))
        read = 0
        for entry in islice(_read(self._newest(self._keys.events)), SEARCHED):
            read += len(entry.text)
            if fits(entry):
                yield entry
            if read > SEARCHED_BYTES:
                return

    def _newest(self, stream: str) -> _Rows:
        end = "+"
        while rows := self._redis.xrevrange(stream, end, count=_PAGE):
            yield from rows
            end = f"({rows[-1][0].decode()}"

    def _in_lanes(self, entries: Sequence[Entry]) -> list[Place]:
        """Where each lane stands with each of the entries."""
        if not entries:
            return []
        groups = self._redis.xinfo_groups(self._keys.events)
        read = {group["name"].decode("utf-8", "replace"): group for group in groups}
        pairs = [
            (entry, lane) for entry in entries for lane in self._lanes if lane in read and entry.lane in (None, lane)
        ]
        with self._redis.pipeline(transaction=False) as pipe:
            for entry, lane in pairs:
                pipe.xpending_range(self._keys.events, lane, entry.id, entry.id, 1)
            answers = pipe.execute()
        return [
            _in_lane(entry, lane, pending, read[lane]["last-delivered-id"].decode())
            for (entry, lane), pending in zip(pairs, answers, strict=True)
        ]

    # --- put aside, and dead --------------------------------------------------------------------------

    def _aside(self, named: Sequence[str], fits: Callable[[Entry], bool]) -> Iterator[tuple[Entry, Place]]:
        for lane in self._lanes:
            delayed = self._keys.delayed(lane)
            for member, held in self._held(delayed, named, partial(self._keys.delayed_entry, lane)):
                if fits(entry := Entry(member, held)):
                    yield entry, _put_aside("delayed", lane, entry, self._redis.zscore(delayed, member))
            members = [
                f"{Entry(id_, {}).version}/{id_}" for id_ in named
            ]  # as it is named when parked for the first time
            for member, held in self._held(self._keys.parked(lane), members, partial(self._keys.parked_entry, lane)):
                if fits(entry := Entry(member.rpartition("/")[2], held)):
                    deadline = self._redis.zscore(self._keys.parked_deadlines(lane), member)
                    yield entry, _put_aside("parked", lane, entry, deadline)

    def _held(
        self, index: str, named: Sequence[str], key_of: Callable[[str], str]
    ) -> Iterator[tuple[str, dict[bytes, bytes]]]:
        """The fields of what is put aside: of the members named, and of the first ones of the index."""
        first = (member.decode("utf-8", "replace") for member in self._redis.zrange(index, 0, SEARCHED_ASIDE - 1))
        members = [*named, *first]
        for at in range(0, len(members), _PAGE):
            page = members[at : at + _PAGE]
            with self._redis.pipeline(transaction=False) as pipe:
                for member in page:
                    pipe.hgetall(key_of(member))
                yield from ((member, held) for member, held in zip(page, pipe.execute(), strict=True) if held)

    def _letters(self) -> Iterator[DeadLetter]:
        for id_, fields in islice(self._newest(self._keys.dead), SEARCHED_ASIDE):
            yield DeadLetter(id_.decode(), fields)


# --- inside ---------------------------------------------------------------------------------------------


def _in_lane(entry: Entry, lane: str, pending: Sequence[dict[str, Any]], read_up_to: str) -> Place:
    if not pending:
        where = "waiting" if _order(entry.id) > _order(read_up_to) else "finished"
        return Place(where=where, entry=entry.id, lane=lane, attempts=entry.attempts)
    (row,) = pending
    counted = Entry.read(row["message_id"], entry.fields, row["times_delivered"])
    return Place(
        where="pending",
        entry=entry.id,
        lane=lane,
        attempts=entry.attempts,
        consumer=row["consumer"].decode("utf-8", "replace"),
        deliveries=counted.deliveries,
        deaths=counted.deaths,
        idle_seconds=row["time_since_delivered"] / 1000,
    )


def _put_aside(where: str, lane: str, entry: Entry, until: float | None) -> Place:
    return Place(where=where, entry=entry.id, lane=lane, until=until, attempts=entry.attempts)


def _buried(letter: DeadLetter) -> Place:
    return Place(
        where="dead",
        entry=letter.entry_id,
        lane=letter.lane,
        attempts=letter.attempts,
        reason=letter.reason,
        error=letter.error,
        died_at=letter.died_at.timestamp(),
        letter=letter.id,
    )


def _read(rows: _Rows) -> Iterator[Entry]:
    return (Entry.read(id_, fields) for id_, fields in rows)


def _event(entry: Entry) -> Event | None:
    try:
        return entry.event()
    except MalformedEvent:
        return None


def _event_id(entry: Entry) -> str:
    event = _event(entry)
    return event.id if event else ""


def _names(letter: DeadLetter) -> set[str]:
    return {letter.id, letter.entry_id, letter.event_id}


def _age(entry: Entry) -> tuple[int, int]:
    return _order(entry.id)


def _order(id_: str) -> tuple[int, int]:
    milliseconds, _, sequence = id_.partition("-")
    return int(milliseconds), int(sequence)
