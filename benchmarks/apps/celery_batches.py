"""celery-batches: a message for each event, collected by 500 in the worker. Needs a Celery before 5.7."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import redis
from celery import Celery
from celery_batches import Batches, SimpleRequest

from benchmarks.work import broker_url, effects_url, fill

CHUNK = 500

app = Celery("batches", broker=broker_url())
# Batches collects only what was prefetched: two batches for each process.
app.conf.update(
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=2 * CHUNK,
)


@cache
def client() -> Any:
    """One connection for each process of the pool."""
    return redis.Redis.from_url(effects_url())


@app.task(name="bench.on_batch", base=Batches, flush_every=CHUNK, flush_interval=1)
def on_batch(requests: Sequence[SimpleRequest]) -> None:
    """The work for all of them, written in one pipeline."""
    fill(client().pipeline(transaction=False), [request.args[0] for request in requests]).execute()


def enqueue(texts: Iterable[str]) -> None:
    """A message for each event."""
    for text in texts:
        on_batch.delay(text)
