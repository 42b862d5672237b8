"""Menus in the memory of this process, for the time in which Redis is away."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any, Final

MOST: Final = 1000
"""Menus that are kept; the one that was asked for the longest ago makes room. A menu takes about 2 KB."""


class LocalMenus:
    """A few menus by user and type, each for ``ttl_seconds``."""

    def __init__(self, *, ttl_seconds: float, most: int = MOST) -> None:
        self._ttl_seconds = ttl_seconds
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, str], tuple[float, dict[str, Any]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, user_id: int, menu_type: str) -> dict[str, Any] | None:
        """What was kept, as v21's record; None when nothing is."""
        key = (user_id, menu_type)
        with self._lock:
            ends, record = self._kept.get(key, (0.0, {}))
            if ends < time.monotonic():
                return None
            self._kept.move_to_end(key)
            return record

    def keep(self, user_id: int, menu_type: str, record: dict[str, Any]) -> None:
        """Keep a record."""
        key = (user_id, menu_type)
        with self._lock:
            self._kept[key] = (time.monotonic() + self._ttl_seconds, record)
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def forget(self, user_id: int, *menu_types: str) -> None:
        """Forget some menus of a user."""
        with self._lock:
            for menu_type in menu_types:
                self._kept.pop((user_id, menu_type), None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()
