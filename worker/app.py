"""The Celery app: plain ``celery -A worker worker|beat|flower`` runs it. Its settings are in worker/config.py."""

from __future__ import annotations

from typing import Any

from celery import Celery

import worker.garbage
import worker.logs  # noqa: F401 - they hear when Celery begins to log, and has loaded everything
from worker.bootstep import EventConsumers
from worker.bridge import EventBridge
from worker.broker import Amqp
from worker.java_watch import JavaWatches
from worker.orders import OrderRequest
from worker.probes import LoopPulse, WorkerProbes
from worker.routing import event_tasks
from worker.task_counts import CountedTask
from worker.task_events import PatientEvents

TASKS = ("tasks.enqueued", "tasks.java", "tasks.matching", "tasks.menus", "tasks.temp_data", "tasks.upkeep")


app = Celery(
    "connectbot",
    amqp=Amqp,
    events=PatientEvents,
    task_cls=CountedTask,
    config_source="worker.config",
    include=TASKS,
    set_as_current=True,
)
app.steps["consumer"].add(EventConsumers)
app.steps["worker"].add(EventBridge)
app.steps["worker"].add(JavaWatches)
app.steps["consumer"].add(LoopPulse)
app.steps["worker"].add(WorkerProbes)


@app.on_after_finalize.connect  # not before: until then nothing is read from the environment
def _hear_the_end_of_orders(sender: Celery, **_: Any) -> None:
    for task in event_tasks(EventConsumers.routes):
        task.Request = OrderRequest
