"""Celery: a task for each event, ``delay()`` for each, prefork."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import redis
from celery import Celery

from benchmarks.work import broker_url, effects_url, handle

app = Celery("plain", broker=broker_url())
app.conf.update(task_ignore_result=True, task_serializer="json", accept_content=["json"])


@cache
def client() -> Any:
    """One connection for each process of the pool: it is first asked for after the fork."""
    return redis.Redis.from_url(effects_url())


@app.task(name="bench.on_event")
def on_event(text: str) -> None:
    """The work."""
    handle(client(), text)


def enqueue(texts: Iterable[str]) -> None:
    """A message for each event."""
    for text in texts:
        on_event.delay(text)
