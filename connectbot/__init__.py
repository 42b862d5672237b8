"""What Django, the bot, the tasks and the worker of ConnectBot share.

Importing it needs neither Celery nor Django.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectbot.enqueueing import enqueue
    from connectbot.matching.caller import request_matching, request_matching_async

__all__ = ["enqueue", "request_matching", "request_matching_async"]

_HOMES = {
    "enqueue": "connectbot.enqueueing",
    "request_matching": "connectbot.matching.caller",
    "request_matching_async": "connectbot.matching.caller",
}


def __getattr__(name: str) -> Any:
    """Names that are imported when they are first used, so that ``import connectbot`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
