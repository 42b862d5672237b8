"""How many entries a consumer takes at once: as many as a batch may hold, and fewer where they are large.

Redis serves nobody else while it answers, and is given up when that takes too long (redis_client.py): who then asked
for the same once more would never get any further. And a worker must not need more memory when larger events come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from connectbot.entries import Entry

AT_ONCE_BYTES: Final = 16 * 2**20
GROWTH: Final = 4
"""So many times more may be taken than the last time."""


class Appetite:
    """That of one consumer: ``most`` entries, but of ``largest_bytes`` each only what makes AT_ONCE_BYTES."""

    def __init__(self, *, most: int, largest_bytes: int) -> None:
        self.most = most
        self._largest_bytes = largest_bytes
        self.forget()

    def forget(self) -> None:
        """Nobody knows what waits: it may be large."""
        self._entry_bytes = float(self._largest_bytes)

    @property
    def limit(self) -> int:
        """How many to ask for."""
        return max(1, min(self.most, int(AT_ONCE_BYTES / self._entry_bytes)))

    def note(self, entries: Sequence[Entry]) -> None:
        """What came."""
        if entries:
            size = sum(len(value) for entry in entries for value in entry.fields.values())
            self._entry_bytes = max(size / len(entries), self._entry_bytes / GROWTH, 1.0)
