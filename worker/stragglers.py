"""Batches whose task has returned while some of their calls may still be under way (tasks/callers.py).

What has become of these calls is in the lane's pending list. A call ends in time, and its entry with it; what is still
pending long afterwards was in a process that died, and is to be handed out again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from connectbot.settings import Settings
from worker.planning import Order


class Stragglers:
    """Those of one consumer. Safe to use from two threads, one of which notes."""

    def __init__(self, settings: Settings) -> None:
        # A call waits for its permit, is made, and its effects are written.
        self._patience_seconds = settings.java_service_timeout_seconds + settings.batch_time_limit_seconds
        self._noted: deque[tuple[float, Order]] = deque()

    def note(self, order: Order) -> None:
        """The task of an order has returned. One whose batch names its entries has waited for all of them."""
        if order.task.work.one_by_one and not order.batch.ids:
            self._noted.append((time.monotonic() + self._patience_seconds, order))

    def overdue(self) -> Iterator[Order]:
        """The orders whose calls have all had their time, each once."""
        while self._noted and self._noted[0][0] < time.monotonic():
            yield self._noted.popleft()[1]

    def forget(self) -> None:
        """They are somebody else's now."""
        self._noted.clear()
