"""The thread that publishes Celery's task events."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from celery import Celery

from tests.support import wait_until
from worker import task_events
from worker.task_events import PatientDispatcher


def is_running() -> bool:
    return any(thread.name == "task-events" for thread in threading.enumerate())


def test_it_ends_with_its_dispatcher_whatever_it_is_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with Celery(broker="memory://", set_as_current=False) as app, app.connection_for_write() as connection:
        dispatcher = PatientDispatcher(connection, app=app, buffer_group=["task"], on_send_buffered=lambda: None)
        monkeypatch.setattr(task_events, "time", SimpleNamespace(sleep=lambda _seconds: dispatcher.close()))
        dispatcher.send("task-succeeded")
        wait_until(lambda: not is_running(), deadline_seconds=5, what="the end of the thread")
