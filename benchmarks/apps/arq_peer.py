"""arq: a job for each event."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import func
from redis import asyncio as redis

from benchmarks.work import be_quiet, broker_url, effects_url, handle_async

be_quiet()
client = redis.Redis.from_url(effects_url())


async def on_event(context: dict[str, Any], text: str) -> None:
    """The work."""
    await handle_async(client, text)


class WorkerSettings:
    """What ``arq`` reads."""

    functions: ClassVar = [func(on_event, keep_result=0)]
    redis_settings = RedisSettings.from_dsn(broker_url())


def enqueue(texts: Iterable[str]) -> None:
    """A job for each event."""
    asyncio.run(_enqueue(texts))


async def _enqueue(texts: Iterable[str]) -> None:
    pool = await create_pool(RedisSettings.from_dsn(broker_url()))
    for text in texts:
        await pool.enqueue_job("on_event", text)
    await pool.aclose()
