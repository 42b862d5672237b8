"""Plain Celery before the Java service: a task a job, and one ``requests.post`` a task. What anybody would write first.

``python -m benchmarks.apps.celery_requests ADDRESS COUNT`` enqueues the jobs.
"""

from __future__ import annotations

import sys
from typing import Any

import requests
from celery import Celery

from benchmarks.java_work import PATH, body
from benchmarks.work import broker_url

app = Celery("plain", broker=broker_url())
app.conf.update(task_ignore_result=True, task_serializer="json", accept_content=["json"])


@app.task(name="bench.match")
def match(url: str, key: str, asked: dict[str, Any]) -> None:
    """Make the call."""
    requests.post(url + PATH, json=asked, headers={"Idempotency-Key": key}, timeout=15).raise_for_status()


if __name__ == "__main__":
    address, count = sys.argv[1:]
    for number in range(int(count)):
        match.delay(address, f"k{number}", body(number))
