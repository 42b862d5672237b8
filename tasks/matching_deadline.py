"""Until when a matching request is to be answered."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final

from connectbot.clients import Clients
from connectbot.errors import MalformedEvent
from tasks.work import Received

_EPOCH_MS_FROM: Final = 1e11
"""A number from here on is in milliseconds, as Java counts: in seconds it would be the year 5138."""
_REAL_CLOCK_MS: Final = 10**12
"""An entry older than that (2001) was given its id by hand, and says nothing of when it came."""


def deadline_of(ours: Clients, one: Received) -> float | None:
    """When a request is to be answered, in epoch seconds; None when nobody can tell.

    Its own word (``data.deadline``: ISO 8601, or epoch seconds or milliseconds) counts, else
    CONNECTBOT_MATCHING_DEADLINE from when it came. Raises `MalformedEvent` when its own word cannot be read.
    """
    named = one.event.data.get("deadline")
    if named is not None:
        return _read(named)
    came_ms = int(one.entry.origin.partition("-")[0])
    return None if came_ms < _REAL_CLOCK_MS else came_ms / 1000 + ours.settings.matching_deadline_seconds


def known_deadline_of(ours: Clients, one: Received) -> float | None:
    """Like `deadline_of`, but None where ``data.deadline`` cannot be read."""
    try:
        return deadline_of(ours, one)
    except MalformedEvent:
        return None


def _read(named: Any) -> float:
    try:
        if isinstance(named, str):
            return datetime.fromisoformat(named).timestamp()  # without a zone it is local time, as v21 writes it
        if isinstance(named, (int, float)) and not isinstance(named, bool) and math.isfinite(named) and named > 0:
            return named / 1000 if named >= _EPOCH_MS_FROM else float(named)
    except (ValueError, OverflowError, OSError):
        pass
    raise MalformedEvent("the deadline of a matching.request is neither ISO 8601 nor epoch seconds or milliseconds")
