"""FastStream on a Redis stream, consumer group: up to 500 messages at a time."""

from __future__ import annotations

import os
from typing import Any

from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub
from redis import asyncio as redis

from benchmarks.apps.faststream_single import GROUP, STREAM, enqueue
from benchmarks.work import broker_url, effects_url, fill

__all__ = ["app", "enqueue"]

broker = RedisBroker(broker_url())
app = FastStream(broker)
client = redis.Redis.from_url(effects_url())


@broker.subscriber(stream=StreamSub(STREAM, group=GROUP, consumer=f"c{os.getpid()}", batch=True, max_records=500))
async def on_events(events: list[dict[str, Any]]) -> None:
    """The work for all of them, written in one pipeline; FastStream has decoded the JSON."""
    await fill(client.pipeline(transaction=False), events).execute()
