"""The clients of this process, opened once it needs them."""

from __future__ import annotations

import os
from functools import lru_cache

from connectbot.clients import Clients
from connectbot.settings import Settings


def clients() -> Clients:
    """The clients of the running process: a prefork child never uses its parent's connections."""
    return _open(os.getpid())


def clients_for(lane: str, consumer: str) -> Clients:
    """The clients of the running process, for work on what the consumer of a lane has handed out.

    A consumer takes a new name after whatever went wrong, with Redis most likely: connections from before may be
    half-open, and each would cost the time in which an answer may come.
    """
    ours = clients()
    if _consumers.get(lane) != consumer:
        _consumers[lane] = consumer
        ours.distrust_connections()
    return ours


_consumers: dict[str, str] = {}
"""Lane → the consumer that gave the last order."""


@lru_cache(maxsize=1)
def _open(_pid: int) -> Clients:
    return Clients.open(Settings.load())
