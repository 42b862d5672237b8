"""Batches whose task has returned while some of their calls may still be under way (tasks/callers.py).

What has become of these calls is in the lane's pending list. A call ends in time, and its entry with it; what is still
pending long afterwards was in a process that died, and is to be handed out again.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from connectbot.settings import Settings
from worker.planning import Order


class _Noted(NamedTuple):
    order: Order
    pid: int | None
    until: float


class Stragglers:
    """Those of one consumer. Safe to use from two threads, one of which notes."""

    def __init__(self, settings: Settings) -> None:
        # A call waits for its permit, is made, and its effects are written.
        self._patience_seconds = settings.java_service_timeout_seconds + settings.batch_time_limit_seconds
        self._noted: deque[_Noted] = deque()

    def note(self, order: Order, pid: int | None) -> None:
        """The task of an order has returned. One whose batch names its entries has waited for all of them."""
        if order.task.work.one_by_one and not order.batch.ids:
            self._noted.append(_Noted(order, pid, time.monotonic() + self._patience_seconds))

    def overdue(self) -> Iterator[Order]:
        """The orders whose process is gone, or whose calls have all had their time; each once."""
        pids = {one.pid for one in tuple(self._noted) if one.pid}
        gone = {pid for pid in pids if not _is_alive(pid)}
        for _ in range(len(self._noted)):
            one = self._noted.popleft()
            if one.pid in gone or one.until < time.monotonic():
                yield one.order
            else:
                self._noted.append(one)

    def forget(self) -> None:
        """They are somebody else's now."""
        self._noted.clear()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # or its number is somebody else's by now
        return False
    return True
