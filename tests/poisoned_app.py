"""The worker's own app with handlers that do what no handler should, when an event asks for it.

A user's event with ``data.poison`` makes the process that handles it suffer.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable

from connectbot.entries import Entry
from connectbot.errors import Later, Never
from tasks import menus
from tasks.process import clients
from tasks.work import Received
from worker import app
from worker.routing import DEFAULT

__all__ = ["app"]

LIMIT_BYTES = 2 << 30
"""Address space of each process of the worker: far more than it needs, and less than some events ask for."""

resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))


def _raise() -> None:
    raise RuntimeError("secret-marker")


def _loop() -> None:
    while True:
        pass


def _recurse() -> None:
    _recurse()


def _allocate() -> None:
    """Take 2 GB, in earnest: `LIMIT_BYTES` is in the way."""
    bytearray(2 << 30)


def _be_killed_for_memory() -> None:
    """What the kernel does to a process when memory runs out, in a container for example: nobody is asked."""
    os.kill(os.getpid(), signal.SIGKILL)


def _hold() -> None:
    """Tell which process has got hold of the event, and wait for the word to let go."""
    client = clients().redis
    client.rpush("test:held", os.getpid())
    while not client.exists("test:released"):
        time.sleep(0.02)


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
    "oom": _be_killed_for_memory,
    "hold": _hold,
    "later": _later,
    "never": _never,
}

_said = menus._said


def _finish(entry: Entry) -> None:
    """Acknowledge the event's entry, as a process does that is killed for taking too long, and is quicker."""
    ours = clients()
    ours.redis.xack(ours.settings.keys.events, DEFAULT, entry.id)


def _poisoned(one: Received) -> menus._Said:
    poison = one.entry.event().data.get("poison")
    if poison == "finished":
        _finish(one.entry)
    elif poison:
        POISONS[poison]()
    return _said(one)


menus._said = _poisoned
