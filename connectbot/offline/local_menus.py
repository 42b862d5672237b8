"""Menus in the memory of this process, for the time in which Redis is away."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any, Final

from connectbot import json_text
from connectbot.cache_keys import menu_key

MOST: Final = 1000
"""Menus that are kept; the one that was asked for the longest ago makes room. A menu takes about 2 KB."""


class LocalMenus:
    """A few menus by user and type, as text: who changes a menu that he was given changes none that is kept."""

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, user_id: int, menu_type: str) -> dict[str, Any] | None:
        """What was kept, as v21's record; None when nothing is."""
        key = menu_key(user_id, menu_type)
        with self._lock:
            ends, text = self._kept.get(key, (0.0, ""))
            if ends <= time.monotonic():
                return None
            self._kept.move_to_end(key)
        return dict(json_text.loads(text))

    def keep(self, user_id: int, menu_type: str, record: dict[str, Any], *, ttl_seconds: float) -> None:
        """Keep a record. Raises `TypeError` or `ValueError` when it cannot be written as JSON."""
        key, text = menu_key(user_id, menu_type), json_text.dumps(record)
        with self._lock:
            self._kept[key] = (time.monotonic() + ttl_seconds, text)
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def forget(self, user_id: int, *menu_types: str) -> None:
        """Forget some menus of a user."""
        with self._lock:
            for menu_type in menu_types:
                self._kept.pop(menu_key(user_id, menu_type), None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()
