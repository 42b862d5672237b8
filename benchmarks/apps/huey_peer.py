"""Huey: a task for each event."""

from __future__ import annotations

from collections.abc import Iterable

import redis
from huey import RedisHuey

from benchmarks.work import be_quiet, broker_url, effects_url, handle

be_quiet()
huey = RedisHuey("bench", url=broker_url(), results=False)
client = redis.Redis.from_url(effects_url())


@huey.task()
def on_event(text: str) -> None:
    """The work."""
    handle(client, text)


def enqueue(texts: Iterable[str]) -> None:
    """A message for each event."""
    for text in texts:
        on_event(text)
