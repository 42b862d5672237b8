"""Dramatiq: an actor for each event."""

from __future__ import annotations

from collections.abc import Iterable

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from benchmarks.work import be_quiet, broker_url, effects_url, handle

be_quiet()
dramatiq.set_broker(RedisBroker(url=broker_url()))
client = redis.Redis.from_url(effects_url())  # connects on first use, after the fork


@dramatiq.actor
def on_event(text: str) -> None:
    """The work."""
    handle(client, text)


def enqueue(texts: Iterable[str]) -> None:
    """A message for each event."""
    for text in texts:
        on_event.send(text)
