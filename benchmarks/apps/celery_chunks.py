"""Celery as one would speed it up by hand: whoever publishes collects 500 events for one task."""

from __future__ import annotations

from collections.abc import Iterable

from celery import Celery

from benchmarks.apps.celery_plain import client
from benchmarks.work import broker_url, chunks, fill

CHUNK = 500

app = Celery("chunks", broker=broker_url())
app.conf.update(task_ignore_result=True, task_serializer="json", accept_content=["json"])


@app.task(name="bench.on_events")
def on_events(texts: list[str]) -> None:
    """The work for all of them, written in one pipeline."""
    fill(client().pipeline(transaction=False), texts).execute()


def enqueue(texts: Iterable[str]) -> None:
    """A message for each 500 events: what is not collected yet is lost with the publisher."""
    for chunk in chunks(texts, CHUNK):
        on_events.delay(chunk)
