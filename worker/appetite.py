"""How many entries a consumer takes at once: as many as a batch may hold, and fewer where they are large.

Redis serves nobody else while it answers, and is given up when that takes too long (redis_client.py): who then asked
for the same once more would never get any further. And a worker must not need more memory when larger events come. It
hears of these when they have come, though: of one read, in which they follow on small ones, all may be large.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

from connectbot.entries import Entry

AT_ONCE_BYTES: Final = 16 * 2**20
GROWTH: Final = 4
"""So many times more may be taken than the last time."""
READ_AT_ONCE: Final = 1000
"""So many may be read for a few that are ours. Every lane reads all entries; one that took them in batches as small as
those of the lane ``java`` would fall behind a flood of events for the other lane."""


class Appetite:
    """That of one consumer: ``most`` entries of its own; of ``largest_bytes`` each, only what makes AT_ONCE_BYTES."""

    def __init__(self, *, most: int, largest_bytes: int) -> None:
        self.most = most
        self._largest_bytes = largest_bytes
        self.forget()

    def forget(self) -> None:
        """Nobody knows what waits: it may be large, and all of it ours."""
        self._entry_bytes = float(self._largest_bytes)
        self._for_one_of_ours = 1.0

    @property
    def limit(self) -> int:
        """How many to read, where some may be for other lanes."""
        return self._no_more_bytes(max(self.most, min(READ_AT_ONCE, int(self.most * self._for_one_of_ours))))

    @property
    def limit_of_ours(self) -> int:
        """How many to take over, of which each is ours."""
        return self._no_more_bytes(self.most)

    def note(self, entries: Sequence[Entry], *, ours: int) -> None:
        """What came, and how many of them are ours."""
        if entries:
            size = sum(map(len, chain.from_iterable(entry.fields.values() for entry in entries)))
            self._entry_bytes = max(size / len(entries), self._entry_bytes / GROWTH, 1.0)
            self._for_one_of_ours = min(len(entries) / max(ours, 1), self._for_one_of_ours * GROWTH)

    def _no_more_bytes(self, count: int) -> int:
        return max(1, min(count, int(AT_ONCE_BYTES / self._entry_bytes)))
