"""Temporary data expires: its owners hear of it."""

from __future__ import annotations

from typing import Final

from celery import shared_task

from tasks.process import clients

SLICE: Final = 2000
MOST_SLICES: Final = 10
"""One run publishes at most SLICE × MOST_SLICES events; after a long pause the next runs catch up."""


@shared_task(name="temp_data.expire")
def expire() -> int:
    """Note that the schedule ticks, and publish ``temp.expired`` for what has expired. Answers for how many."""
    ours = clients()
    expired, now = 0, ours.stream.now()
    ours.redis.set(ours.settings.keys.last_tick, repr(now))
    for _ in range(MOST_SLICES):
        due = ours.temp_data.due(now=now, limit=SLICE)
        expired += ours.temp_data.expire(due)
        if len(due) < SLICE:
            break
    return expired
