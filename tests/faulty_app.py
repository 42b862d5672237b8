"""The worker's own app with consumers that die, hang or block Celery's loop while a file asks for it.

The file is named by CONNECTBOT_TEST_FAULT; it holds some of ``die LANE``, ``hang LANE`` and ``block``, a line each.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import bootsteps

from worker import app, health
from worker.consumer import LaneConsumer

__all__ = ["app"]

_fault = Path(os.environ["CONNECTBOT_TEST_FAULT"])
_has_room = LaneConsumer._has_room


def _asked(fault: str) -> bool:
    return _fault.exists() and fault in _fault.read_text().splitlines()


def _faulty(consumer: LaneConsumer) -> bool:
    if _asked(f"die {consumer._lane}"):
        raise SystemExit
    while _asked(f"hang {consumer._lane}"):
        time.sleep(0.05)
    return _has_room(consumer)


def _block() -> None:
    while _asked("block"):
        time.sleep(0.05)


class Blocker(bootsteps.StartStopStep):
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        parent.timer.call_repeatedly(0.2, _block)


health.STUCK_SECONDS = 5.0  # type: ignore[misc]  # the tests would wait for nothing else
LaneConsumer._has_room = _faulty  # type: ignore[method-assign]
app.steps["consumer"].add(Blocker)
