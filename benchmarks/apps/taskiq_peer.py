"""Taskiq on a Redis stream: a task for each event."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from redis import asyncio as redis
from taskiq_redis import RedisStreamBroker

from benchmarks.work import be_quiet, broker_url, effects_url, handle_async

be_quiet()
broker = RedisStreamBroker(url=broker_url())
client = redis.Redis.from_url(effects_url())


@broker.task
async def on_event(text: str) -> None:
    """The work."""
    await handle_async(client, text)


def enqueue(texts: Iterable[str]) -> None:
    """A message for each event; starting the broker makes its group first."""
    asyncio.run(_enqueue(texts))


async def _enqueue(texts: Iterable[str]) -> None:
    await broker.startup()
    for text in texts:
        await on_event.kiq(text)
    await broker.shutdown()
