"""The worker's own app with a slow task, and with a broker that gives back soon what a dead worker had taken."""

from __future__ import annotations

import gc
import os
import time

from celery import shared_task

from tasks.process import clients
from worker import app

__all__ = ["app"]

VISIBILITY_SECONDS = 3

app.conf.broker_transport_options = {**app.conf.broker_transport_options, "visibility_timeout": VISIBILITY_SECONDS}


def _work(name: str, seconds: float) -> None:
    """Note the beginning and the end of a piece of work that takes so long."""
    client = clients().redis
    client.set("process", os.getpid())
    client.set("frozen", gc.get_freeze_count())
    client.rpush("begun", name)
    time.sleep(seconds)
    client.rpush("done", name)


_work.__module__ = "tasks.slow"  # only tasks of that package may come through the stream
work = shared_task(name="slow.work")(_work)
