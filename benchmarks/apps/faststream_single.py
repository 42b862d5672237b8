"""FastStream on a Redis stream, consumer group: a message at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub
from redis import asyncio as redis

from benchmarks.work import be_quiet, broker_url, chunks, effects_url, handle_async

STREAM, GROUP = "bench", "bench"

be_quiet()
broker = RedisBroker(broker_url())
app = FastStream(broker)
client = redis.Redis.from_url(effects_url())


@broker.subscriber(stream=StreamSub(STREAM, group=GROUP, consumer=f"c{os.getpid()}"))
async def on_event(event: dict[str, Any]) -> None:
    """The work; FastStream has decoded the JSON."""
    await handle_async(client, event)


def enqueue(texts: Iterable[str]) -> None:
    """An entry for each event; the group is made first, so that it hears them all."""
    asyncio.run(_enqueue(texts))


async def _enqueue(texts: Iterable[str]) -> None:
    server = redis.Redis.from_url(broker_url())
    await server.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    publisher = RedisBroker(broker_url())
    async with publisher:
        for chunk in chunks(texts, 500):
            async with server.pipeline(transaction=False) as pipe:
                for text in chunk:
                    headers = {"content-type": "application/json"}
                    await publisher.publish(text.encode(), stream=STREAM, headers=headers, pipeline=pipe)
                await pipe.execute()
    await server.aclose()
