"""Waiting for an answer without going to sleep, as long as answers come soon.

Who sleeps until an answer comes is woken some time after it has come: on a virtual machine 30 µs and more, in which a
Redis on the same machine would have answered twice.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

SPIN_SECONDS: Final = 0.000_2
"""Longest that an answer is waited for so; it costs a core as long. A Redis on another machine takes longer."""
SLEEPS: Final = 100
"""Where one answer took longer, so do the next ones: so many of them are slept for before it is tried again."""


class SpinWait:
    """That of one kind of question. Threads may share it."""

    def __init__(self) -> None:
        self._sleeps = 0

    def wait(self, is_there: Callable[[], object]) -> None:
        """Return when ``is_there`` says so, or when sleeping for it is better."""
        if self._sleeps > 0:
            self._sleeps -= 1
            return
        until = perf_counter() + SPIN_SECONDS
        while not is_there():
            if perf_counter() > until:
                self._sleeps = SLEEPS
                return
