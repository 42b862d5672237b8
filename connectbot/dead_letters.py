"""Dead letters: events that could not be handled, kept until an operator replays or drops them.

They are a stream (fields: contract v21, "Dead letters"), read here page by page, never as a whole: there may be a
million of them, and one may be megabytes long.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any, Final

from connectbot import events
from connectbot.errors import BacklogFull, MalformedEvent
from connectbot.keys import Keys
from connectbot.redis_client import RedisClient, translated_errors
from connectbot.scripts import text_of

PAGE: Final = 50
AT_ONCE: Final = 20
"""Letters that one step replays or drops: small enough that a step of megabyte events does not hold up Redis."""
_STEPS_PER_SECOND: Final = 4

_END_OF_TIME_MS: Final = 253_402_300_799_000
"""The last second of the year 9999: Python knows no later one, Redis does."""

_ID: Final = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter. Its fields may be missing or nonsense: anybody may write to the stream."""

    id: str
    fields: Mapping[bytes, bytes]

    @property
    def event(self) -> bytes:
        """The event as it came: not to be shown but to who asks for it."""
        return self.fields.get(b"event", b"")

    @property
    def type(self) -> str:
        """The event's type, by its own field or else by the JSON; empty when neither tells it."""
        named = self._text(b"type")
        try:
            return named or events.decode_type(self.event)
        except MalformedEvent:
            return ""

    @property
    def event_id(self) -> str:
        """The event's own id; empty when the event cannot be read."""
        try:
            return events.decode(self.event).id
        except MalformedEvent:
            return ""

    @property
    def lane(self) -> str:
        """The lane in which it died, and to which it is replayed."""
        return self._text(b"lane")

    @property
    def reason(self) -> str:
        """Why it died, in a word."""
        return self._text(b"reason")

    @property
    def error(self) -> str:
        """Why it died, in a sentence."""
        return self._text(b"error")

    @property
    def attempts(self) -> int:
        """How often it was tried."""
        named = self.fields.get(b"attempts", b"")
        return int(named) if named.isdigit() and len(named) < 10 else 0

    @property
    def entry_id(self) -> str:
        """Id of the entry of the stream in which the event first came."""
        return self._text(b"entry_id")

    @property
    def died_at(self) -> datetime:
        """When it died, by Redis' clock."""
        return datetime.fromtimestamp(min(_order(self.id)[0], _END_OF_TIME_MS) / 1000, UTC)

    def summary(self) -> dict[str, Any]:
        """What may be shown of it in a list: everything but the event itself."""
        return {
            "id": self.id,
            "type": self.type,
            "lane": self.lane,
            "reason": self.reason,
            "error": self.error,
            "attempts": self.attempts,
            "event_id": self.event_id,
            "entry_id": self.entry_id,
            "died_at": self.died_at.isoformat(timespec="seconds"),
            "bytes": len(self.event),
        }

    def _text(self, field: bytes) -> str:
        return self.fields.get(field, b"").decode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which dead letters are meant: those that pass every filter. An empty filter lets all pass.

    ``ids`` may be those of letters, of entries or of events. ``died_after`` and ``died_before`` are epoch seconds.
    """

    types: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    died_after: float | None = None
    died_before: float | None = None

    @property
    def is_everything(self) -> bool:
        """Whether no filter is set."""
        return self == Selection()

    def admits(self, letter: DeadLetter) -> bool:
        """Whether a letter passes. The time of death is left to `DeadLetters.find`, which reads no others."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.types or letter.type in self.types)
            and (not self.ids or not self.ids.isdisjoint((letter.id, letter.entry_id, letter.event_id)))
        )


class DeadLetters:
    """The stream of dead letters. ``room`` is how many entries the stream of events may hold.

    Every method raises `RedisUnavailable` when Redis cannot serve.
    """

    def __init__(self, client: RedisClient, keys: Keys, *, room: int) -> None:
        self._redis = client
        self._keys = keys
        self._room = room

    def __len__(self) -> int:
        with translated_errors():
            return int(self._redis.xlen(self._keys.dead))

    def find(self, selection: Selection, *, limit: int | None = None) -> Iterator[DeadLetter]:
        """The letters selected, the oldest first, at most ``limit``.

        What dies while this goes on is not found: otherwise an event that dies at once when it is replayed would
        come up again for ever.
        """
        found = (letter for letter in self._scan(selection) if selection.admits(letter))
        return islice(found, limit)

    def replay(self, ids: Sequence[str]) -> int:
        """Return letters (by their own ids) to the lanes they died in, as if they had never been tried.

        Answers how many: those that are gone already are not counted, nor are those of a lane that does not exist,
        which stay: nobody would take them. Raises `BacklogFull` when there is no room
        for them; nothing is done then.
        """
        with translated_errors():
            done = self._replay_script(keys=[self._keys.events, self._keys.dead], args=[self._room, *ids])
        if done == -1:
            raise BacklogFull(
                f"the stream {self._keys.events} is full ({self._room} entries): replay later, when the workers have "
                "caught up, or raise CONNECTBOT_MAX_BACKLOG"
            )
        return int(done)

    def drop(self, ids: Sequence[str]) -> int:
        """Remove letters (by their own ids) for good. Answers how many were there."""
        with translated_errors():
            return int(self._redis.xdel(self._keys.dead, *ids))

    # --- inside ---------------------------------------------------------------------------------------

    def _scan(self, selection: Selection) -> Iterator[DeadLetter]:
        start, end = _bound(selection.died_after, "-"), _bound(selection.died_before, "+")
        last = self._last()
        while last:
            with translated_errors():
                rows = self._redis.xrange(self._keys.dead, start, end, count=PAGE)
            for id_, fields in rows:
                letter = DeadLetter(id_.decode(), fields)
                if _order(letter.id) > last:
                    return
                yield letter
            if len(rows) < PAGE:
                return
            start = f"({rows[-1][0].decode()}"

    def _last(self) -> tuple[int, int] | None:
        """Where the newest letter stands; None when there is none."""
        with translated_errors():
            rows = self._redis.xrevrange(self._keys.dead, count=1)
        return _order(rows[0][0].decode()) if rows else None

    @cached_property
    def _replay_script(self) -> Any:
        return self._redis.register_script(text_of("replay_dead"))


def in_steps(
    letters: Iterable[DeadLetter],
    *,
    per_second: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[list[str]]:
    """The ids of letters in portions for `DeadLetters.replay` and `drop`, at most ``per_second`` letters a second."""
    most = AT_ONCE if per_second is None else max(1, min(AT_ONCE, int(per_second / _STEPS_PER_SECOND)))
    ids = (letter.id for letter in letters)
    next_at = clock()
    while step := list(islice(ids, most)):
        if per_second is not None:
            sleep(max(0.0, next_at - clock()))
            next_at = max(next_at, clock()) + len(step) / per_second
        yield step


def _bound(at: float | None, otherwise: str) -> str:
    return otherwise if at is None else str(max(0, int(at * 1000)))


def _order(id_: str) -> tuple[int, int]:
    parts = _ID.fullmatch(id_)
    return (int(parts[1]), int(parts[2])) if parts else (0, 0)
