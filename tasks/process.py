"""The clients of this process, opened once it needs them."""

from __future__ import annotations

import os
from functools import lru_cache

from connectbot.clients import Clients
from connectbot.settings import Settings


def clients() -> Clients:
    """The clients of the running process: a prefork child never uses its parent's connections."""
    return _open(os.getpid())


@lru_cache(maxsize=1)
def _open(_pid: int) -> Clients:
    return Clients.open(Settings.load())
