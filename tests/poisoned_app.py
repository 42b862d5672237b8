"""The worker's own app with handlers that do what no handler should, when an event asks for it.

An event of type user.created with ``data.poison`` makes the process that handles it suffer.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from connectbot.errors import Later, Never
from tasks import menus
from tasks.base import Received
from worker import app

__all__ = ["app"]


def _raise() -> None:
    raise RuntimeError("secret-marker")


def _loop() -> None:
    while True:
        pass


def _recurse() -> None:
    _recurse()


def _allocate() -> None:
    raise MemoryError


def _later() -> None:
    raise Later("not_yet", delay_seconds=0.1)


def _never() -> None:
    raise Never("not_ever")


POISONS: dict[str, Callable[[], None]] = {
    "raise": _raise,
    "exit": lambda: os._exit(1),
    "loop": _loop,
    "recurse": _recurse,
    "allocate": _allocate,
    "later": _later,
    "never": _never,
}

_cure = menus._APPLY["user.created"]


def _poisoned(changes: menus.UserChanges, one: Received) -> None:
    poison = one.event.data.get("poison")
    if poison:
        POISONS[poison]()
    _cure(changes, one)


menus._APPLY["user.created"] = _poisoned
