"""Which entries go together in an order, and which task works on them.

What is new goes out as it was read, one batch for each task. An entry that was handed out before is a *suspect*: it may
be what killed its process. Suspects go out in small batches, then alone, so that the culprit takes nobody along.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connectbot.entries import Batch, Enclosed, Entry, fit_for
from connectbot.events import is_known
from worker.routing import Route, tasks_of

MOST_DEATHS: Final = 3
"""After so many deaths of a process, the last with this entry alone, the entry is taken to be the cause."""
ALONE_FROM: Final = 3
"""Number of the delivery from which on an entry goes out alone."""
SUSPECTS_AT_ONCE: Final = 32
"""Size of the batches of a second delivery: so few are left over that on the third each can go out alone."""


ENCLOSED_BYTES: Final = 4096
"""So much of entries travels with its order: at a low rate of events, one question to Redis less is a tenth of the way.
More of it would be copied, encoded and decoded for longer than Redis takes to answer."""
MOST_ENCLOSED: Final = 32
"""No entry is shorter than a hundred bytes, so that more of them need not be weighed."""


@dataclass(frozen=True, slots=True)
class Order:
    """A batch and the task that is to work on it."""

    task: Any
    batch: Batch

    @property
    def weight(self) -> float:
        """How much of a batch it is: suspects that are alone go out many at once, or it would take for ever.

        Not where each is a call that may last: so many would keep all processes of the pool from the other lane.
        """
        if not self.batch.ids or self.task.work.one_by_one:
            return 1.0
        return min(1.0, self.batch.count / SUSPECTS_AT_ONCE)


class Planner:
    """Makes the orders of one lane."""

    def __init__(self, lane: str, routes: Sequence[Route]) -> None:
        self._lane = lane
        self._tasks = tasks_of(lane, routes)
        self._names = {type_: task.name for type_, task in self._tasks.items()}  # asked of each entry: Celery is slow
        self._types = {route.type for route in routes}
        self._routed = {(route.type, route.lane) for route in routes}

    def ours(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those of the entries that the lane has a task for."""
        return fit_for(self._lane, self._tasks, entries)

    def is_unknown(self, entry: Entry) -> bool:
        """Whether no lane has a task for the entry, or not the one that it is for, and that is not as it should be."""
        if entry.lane is not None:
            return (entry.type, entry.lane) not in self._routed
        return entry.type not in self._types and not is_known(entry.type)

    def orders_for_news(self, consumer: str, entries: Sequence[Entry], *, most: int) -> list[Order]:
        """Few orders a task, of up to ``most`` entries each.

        Read in one go, the entries of a batch are all those of its types between two ids.
        """
        return [
            Order(task, self._batch(consumer, task, part, enclosed=_enclosed(task, part)))
            for task, group in self._by_task(entries)
            for part in (group[at : at + most] for at in range(0, len(group), most))
        ]

    def orders_for_suspects(self, consumer: str, entries: Sequence[Entry]) -> list[Order]:
        """Orders for entries delivered before, named one by one."""
        return [
            Order(task, self._batch(consumer, task, part, ids=tuple(entry.id for entry in part)))
            for task, group in self._by_task(entries)
            for part in _parts(group)
        ]

    def _batch(self, consumer: str, task: Any, entries: Sequence[Entry], **more: Any) -> Batch:
        types = tuple(sorted(type_ for type_, its_task in self._tasks.items() if its_task is task))
        return Batch(self._lane, consumer, types, entries[0].id, entries[-1].id, len(entries), **more)

    def _by_task(self, entries: Sequence[Entry]) -> Iterable[tuple[Any, list[Entry]]]:
        groups: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            groups[self._names[entry.type]].append(entry)
        return ((self._tasks[group[0].type], group) for group in groups.values())


def _enclosed(task: Any, entries: Sequence[Entry]) -> tuple[Enclosed, ...]:
    """Never for a task whose calls leave Redis: it asks for its entries, and hears if its consumer was found dead."""
    if task.work.one_by_one or len(entries) > MOST_ENCLOSED or sum(entry.size for entry in entries) > ENCLOSED_BYTES:
        return ()
    return tuple(entry.enclosed() for entry in entries)


def _parts(entries: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
    """Entries in batches whose size depends on how often they were delivered."""
    together = [entry for entry in entries if entry.deliveries < ALONE_FROM]
    for at in range(0, len(together), SUSPECTS_AT_ONCE):
        yield together[at : at + SUSPECTS_AT_ONCE]
    for entry in entries:
        if entry.deliveries >= ALONE_FROM:
            yield [entry]
