"""What was published and what is owed for it: kept outside of Redis, by nobody who is under attack."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the numbered events."""

    published: int
    lost: int
    doubled: int


@dataclass(slots=True)
class _Roles:
    """What a user's role may be: what was certainly published last, and what may have been published after it."""

    certain: str = ""
    maybe: list[str] = field(default_factory=list)


class Ledger:
    """Numbers events, and remembers which are in the stream for certain and which may be.

    ``lock`` is held while something is published and written down; who wipes Redis holds it, too.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._next = 0
        self._owed: set[int] = set()
        self._maybe: set[int] = set()
        self._roles: dict[int, _Roles] = {}
        self._published = 0
        self._lost = 0
        self._doubled = 0
        self._forgotten = 0

    def next_number(self) -> int:
        """A number that no event has had."""
        self._next += 1
        return self._next

    @property
    def published(self) -> int:
        """How many numbered events are in the stream for certain, or were."""
        return self._published

    @property
    def owed(self) -> frozenset[int]:
        """The events whose effect must be there in the end."""
        return frozenset(self._owed)

    @property
    def forgotten(self) -> int:
        """How many events went with the data of a Redis that came back empty."""
        return self._forgotten

    def record(self, numbers: Iterable[int], roles: Sequence[tuple[int, str]], *, certain: bool) -> None:
        """Write down events that were published; not ``certain``: the answer was lost, so they may be."""
        numbers = set(numbers)
        (self._owed if certain else self._maybe).update(numbers)
        self._published += len(numbers) if certain else 0
        for user_id, role in roles:
            known = self._roles.setdefault(user_id, _Roles())
            if certain:
                known.certain, known.maybe = role, []
            else:
                known.maybe.append(role)

    def forget(self, effects: Mapping[int, int], *, unfinished: Set[int]) -> None:
        """Redis comes back empty: nothing is owed any more for what was in it.

        ``effects`` are those applied until then, and ``unfinished``, read before them, what waits or is worked on: what
        is among neither was lost before.
        """
        self._lost += sum(1 for number in self._owed if number not in effects and number not in unfinished)
        self._doubled += _doubled(effects)
        self._forgotten += len(self._owed & unfinished)
        self._owed.clear()
        self._maybe.clear()
        self._roles.clear()

    def judge(self, effects: Mapping[int, int]) -> Verdict:
        """Compare with the ``effects`` (number → how often) found in the end."""
        return Verdict(
            published=self._published,
            lost=self._lost + sum(1 for number in self._owed if number not in effects),
            doubled=self._doubled + _doubled(effects),
        )

    def stale(self, roles: Mapping[int, str]) -> int:
        """How many users' menus were not made for the newest role. ``roles`` are those of the menus found."""
        return sum(1 for user_id, known in self._roles.items() if roles.get(user_id, "") not in _allowed(known))

    @property
    def users(self) -> tuple[int, ...]:
        """The users of whom something was told."""
        return tuple(self._roles)


def _allowed(known: _Roles) -> set[str]:
    return {known.certain, *known.maybe}


def _doubled(effects: Mapping[int, int]) -> int:
    return sum(1 for times in effects.values() if times > 1)
