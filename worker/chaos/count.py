"""The event that chaos counts with: its effect is visible when it is done twice, or never."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.events import Event, new_event, read_data
from connectbot.redis_client import translated_errors
from tasks.base import Received, event_task

CHAOS_COUNT: Final = "chaos.count"
WORK_SECONDS: Final = 0.0015
"""What one event takes beside its commands: so that most kills meet a worker at work."""


@dataclass(frozen=True, slots=True)
class ChaosKeys:
    """The keys of chaos itself, beside those of the installation under attack. Removed at the end of a run."""

    namespace: str

    @property
    def effects(self) -> str:
        """Hash: number of an event → how often its effect was applied, as part of a commit."""
        return f"{self.namespace}:chaos:effects"

    @property
    def executions(self) -> str:
        """Hash: number of an event → how often a handler began to work on it, whatever became of that."""
        return f"{self.namespace}:chaos:executions"

    @property
    def holders(self) -> str:
        """Hash: number of an event → name of the worker that began last to work on it (plain Celery only)."""
        return f"{self.namespace}:chaos:holders"


class Numbered(msgspec.Struct):
    """The data of such an event."""

    number: int


def count_event(number: int, *, channel: str) -> Event:
    """The event with this number."""
    return new_event(CHAOS_COUNT, {"number": number}, channel=channel, event_id=f"chaos-{number}")


@event_task("chaos.count")
def count(ours: Clients, received: Sequence[Received]) -> Effects:
    """Count each event once in the commit, and once outside of it."""
    keys = ChaosKeys(ours.settings.namespace)
    numbers = [read_data(one.event, Numbered).number for one in received]
    with translated_errors(), ours.redis.pipeline(transaction=False) as pipe:
        for number in numbers:
            pipe.hincrby(keys.executions, number, 1)
        pipe.execute()
    time.sleep(WORK_SECONDS * len(numbers))
    effects = Effects()
    effects.add(*(("HINCRBY", keys.effects, number, 1) for number in numbers))
    return effects
