"""Saying what is wrong once, and not with every call that meets it."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from typing import Final

SILENT_SECONDS: Final = 300.0
MOST_REMEMBERED: Final = 256


class Complaints:
    """Logs each complaint when it is new, and again when it is still true after some minutes."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._said: OrderedDict[str, float] = OrderedDict()
        self._last: tuple[str, float] | None = None

    @property
    def last(self) -> tuple[str, float] | None:
        """The newest complaint, logged or not, and when it came (epoch seconds)."""
        return self._last

    def say(self, complaint: str) -> None:
        """Say that something is wrong."""
        with self._lock:
            self._last = (complaint, time.time())
            now = time.monotonic()
            if now < self._said.get(complaint, 0.0):
                return
            self._said[complaint] = now + SILENT_SECONDS
            self._said.move_to_end(complaint)
            if len(self._said) > MOST_REMEMBERED:
                self._said.popitem(last=False)
        self._logger.warning("%s", complaint)
