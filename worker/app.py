"""The Celery app: plain ``celery -A worker worker|beat|flower`` runs it. Its settings are in worker/config.py."""

from __future__ import annotations

from celery import Celery

from worker.bootstep import EventConsumers
from worker.orders import OrderRequest
from worker.routing import event_tasks

TASKS = ("tasks.java", "tasks.matching", "tasks.menus", "tasks.temp_data", "tasks.upkeep")


def make_app() -> Celery:
    """The app, complete; nothing is read from the environment or connected before it is used."""
    app = Celery("connectbot", config_source="worker.config", include=TASKS, set_as_current=True)
    app.steps["consumer"].add(EventConsumers)
    for task in event_tasks():
        task.Request = OrderRequest
    return app


app = make_app()
