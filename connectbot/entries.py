"""What a consumer of the stream holds in its hand: entries, and batches of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias

import msgspec

from connectbot import events
from connectbot.errors import MalformedEvent
from connectbot.events import Event

_ID = re.compile(rb"\d{1,20}-\d{1,20}")
_MILLISECONDS_DIGITS, _SEQUENCE_DIGITS = 14, 20

DEATH: Final = 1_000_000
"""What the death of a process adds to the number that Redis keeps with a pending entry (XPENDING), where any other
delivery adds one. So the number tells how many of the deliveries ended in that way, and is gone with the entry."""
UNREADABLE: Final = ""
"""Stands for the type of an entry whose type cannot be read."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One item of the stream, as a consumer of a lane received it.

    ``fields`` are the item's own: ``event`` always; ``type`` beside it when the publisher was kind; ``lane``,
    ``attempts``, ``tries`` and ``origin`` when the entry was put aside before or replayed from the dead; ``parked``
    when it was released from the parked ones. ``deliveries`` is how often it was handed out, and ``deaths`` how many
    processes have died, or taken too long, over a batch that it was in. Workers that died as a whole are not among
    them: that was hardly the entry's doing.
    """

    id: str
    fields: Mapping[bytes, bytes]
    deliveries: int = 1
    deaths: int = 0

    @classmethod
    def read(cls, id_: bytes, fields: Mapping[bytes, bytes], counted: int = 1) -> Self:
        """The entry as Redis answers it; ``counted`` is what Redis keeps with it while it is pending."""
        deaths, deliveries = divmod(counted, DEATH)
        return cls(id_.decode(), fields, deliveries, deaths)

    @property
    def size(self) -> int:
        """Bytes of its fields and their values."""
        return sum(len(name) + len(value) for name, value in self.fields.items())

    @property
    def text(self) -> bytes:
        """The event's JSON; empty when the publisher left the field out."""
        return self.fields.get(b"event", b"")

    @property
    def type(self) -> str:
        """The event's type, by its own field or else by the JSON; `UNREADABLE` when neither tells it."""
        named = self.fields.get(b"type")
        try:
            return named.decode() if named else events.decode_type(self.text)
        except (UnicodeDecodeError, MalformedEvent):
            return UNREADABLE

    @property
    def lane(self) -> str | None:
        """The only lane that this entry is for; None when it is for every lane."""
        named = self.fields.get(b"lane")
        return named.decode("utf-8", "replace") if named else None

    @property
    def attempts(self) -> int:
        """How often a handler has failed on this event, in earlier entries."""
        return self._number(b"attempts")

    @property
    def tries(self) -> int:
        """How often a handler has failed on this event, counting what was no attempt because the target was down."""
        return max(self._number(b"tries"), self.attempts)

    @property
    def parked(self) -> str:
        """The name under which the entry was parked before it was released; empty when it never was."""
        return self.fields.get(b"parked", b"").decode("utf-8", "replace")

    @property
    def origin(self) -> str:
        """Id of the entry in which the event first came."""
        named = self.fields.get(b"origin")
        return named.decode() if named and _ID.fullmatch(named) else self.id

    @property
    def version(self) -> str:
        """The origin as text that sorts by age: what is newer compares greater."""
        milliseconds, _, sequence = self.origin.partition("-")
        return f"{milliseconds.zfill(_MILLISECONDS_DIGITS)}-{sequence.zfill(_SEQUENCE_DIGITS)}"

    def event(self) -> Event:
        """The event itself. Raises `MalformedEvent`."""
        return events.decode(self.text)

    def enclosed(self) -> Enclosed:
        """The entry as it travels in a batch."""
        return self.id, tuple(word for pair in self.fields.items() for word in pair)

    def put_aside(self, *, lane: str, attempts: int, tries: int) -> list[bytes]:
        """The fields, one after the other, with which the entry comes back."""
        fields = {
            **self.fields,
            b"lane": lane.encode(),
            b"attempts": str(attempts).encode(),
            b"tries": str(tries).encode(),
            b"origin": self.origin.encode(),
        }
        return [word for pair in fields.items() for word in pair]

    def _number(self, field: bytes) -> int:
        named = self.fields.get(field, b"0")
        return int(named) if named.isdigit() and len(named) < _SEQUENCE_DIGITS else 0


def entries_of(rows: Iterable[tuple[bytes, Sequence[bytes]]]) -> list[Entry]:
    """Entries as Redis answers them: of each its id, and its fields and their values by turns."""
    return [
        # Nearly all have two fields, and writing these out saves a third of the time.
        Entry(id_.decode(), {words[0]: words[1], words[2]: words[3]} if len(words) == 4 else fields_of(words))
        for id_, words in rows
    ]


def fit_for(lane: str, types: Collection[str], entries: Iterable[Entry]) -> list[Entry]:
    """Those of the entries that are for a lane, and of one of some types."""
    named = frozenset(type_.encode() for type_ in types if type_ != UNREADABLE)  # an empty field names no type
    return [
        entry
        for entry in entries
        # Nearly all tell their type and no lane: of these nothing else need be asked.
        if (entry.fields.get(b"type") in named and b"lane" not in entry.fields)
        or (entry.lane in (None, lane) and entry.type in types)
    ]


def fields_of(words: Iterable[bytes]) -> dict[bytes, bytes]:
    """An entry's fields, from a row of names and values by turns, as Redis answers it."""
    each = iter(words)
    return dict(zip(each, each))  # noqa: B905 - to be strict takes as long again, and Redis never answers half a pair


Enclosed: TypeAlias = tuple[str, tuple[bytes, ...]]
"""An entry's id, and its fields and their values, one after the other."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries of one consumer, at most its lane's batch size, by reference: the order to work on them travels light.

    ``ids`` names the entries one by one; when it is empty, they are all those from ``first`` to ``last`` whose
    type is among ``types``. Where they are few and small they are ``enclosed``, each as its id and its fields, so that
    nobody has to ask Redis for them.
    """

    lane: str
    consumer: str
    types: tuple[str, ...]
    first: str
    last: str
    count: int
    ids: tuple[str, ...] = ()
    enclosed: tuple[Enclosed, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        """What operators see of it (Flower, logs)."""
        return f"{self.count} entries of lane {self.lane}, {self.first} to {self.last}"

    def opened(self) -> list[Entry]:
        """The entries that are enclosed."""
        return [Entry(id_, fields_of(words)) for id_, words in self.enclosed]

    def picked_from(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those of the entries between ``first`` and ``last`` that are part of this batch."""
        return fit_for(self.lane, self.types, entries)


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What one sweep brought: consumers found dead, and entries that are the heir's now."""

    fallen: tuple[str, ...]
    entries: tuple[Entry, ...]
