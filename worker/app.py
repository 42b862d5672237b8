"""The Celery app: plain ``celery -A worker worker|beat|flower`` runs it. Its settings are in worker/config.py."""

from __future__ import annotations

from typing import Any

from celery import Celery

from worker.bootstep import EventConsumers
from worker.bridge import EventBridge
from worker.orders import OrderRequest
from worker.routing import event_tasks

TASKS = ("tasks.java", "tasks.matching", "tasks.menus", "tasks.temp_data", "tasks.upkeep")


app = Celery("connectbot", config_source="worker.config", include=TASKS, set_as_current=True)
app.steps["consumer"].add(EventConsumers)
app.steps["worker"].add(EventBridge)


@app.on_after_finalize.connect  # not before: until then nothing is read from the environment
def _hear_the_end_of_orders(sender: Celery, **_: Any) -> None:
    for task in event_tasks(EventConsumers.routes):
        task.Request = OrderRequest
