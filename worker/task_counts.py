"""Counts what becomes of Celery's tasks in a worker's main process, under the names of celery-exporter.

celery-exporter hears of them by Celery's events; here they are counted where those events are made.
"""

from __future__ import annotations

import re
from typing import Any, Final

from celery import Task
from celery.signals import task_received
from celery.worker.request import Request
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

LABELS: Final = ("name", "hostname", "queue_name")
_CLASS: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,80}")

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nobody asks for
registry: Final = CollectorRegistry()
_WHAT: Final = {
    "task-received": "The worker has received a task.",
    "task-started": "A process of the pool has begun a task.",
    "task-succeeded": "A task has returned.",
    "task-retried": "A task has failed and asked to be tried again.",
    "task-rejected": "A task was rejected by the worker.",
    "task-revoked": "A task was revoked, or had expired.",
}
_counters: Final = {
    event: Counter(f"celery_{event.replace('-', '_')}", what, LABELS, registry=registry)
    for event, what in _WHAT.items()
}
_failed: Final = Counter("celery_task_failed", "A task has raised.", (*LABELS, "exception"), registry=registry)
_runtime: Final = Histogram(
    "celery_task_runtime", "Seconds that tasks took which have returned.", LABELS, registry=registry
)


class CountedRequest(Request):
    """What stands for a task in the worker's main process (Celery: ``Task.Request``)."""

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - as Celery names it
        """Celery tells what has become of the task."""
        labels = _labels(self)
        if type in _counters:
            _counters[type].labels(*labels).inc()
        elif type == "task-failed":
            _failed.labels(*labels, _class_of(fields.get("exception"))).inc()
        if type == "task-succeeded" and fields.get("runtime") is not None:
            _runtime.labels(*labels).observe(fields["runtime"])
        super().send_event(type, **fields)


class CountedTask(Task):  # type: ignore[type-arg]  # generic for type checkers only
    """The base class of every task of the app (Celery: ``task_cls``)."""

    abstract = True
    Request = "worker.brief_request:BriefRequest"


@task_received.connect
def _received(request: Any, **_: Any) -> None:
    _counters["task-received"].labels(*_labels(request)).inc()


def _labels(request: Any) -> tuple[str, str, str]:
    return request.name, request.hostname or "", (request.delivery_info or {}).get("routing_key") or ""


def _class_of(described: object) -> str:
    """The class of an error, of which Celery tells the ``repr``; never its text."""
    found = _CLASS.match(str(described or ""))
    return found[0] if found else "unknown"
