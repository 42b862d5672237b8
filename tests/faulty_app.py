"""The worker's own app with consumers that die or hang, and a loop of Celery's that is blocked or breaks, on demand.

A file that is named by CONNECTBOT_TEST_FAULT asks for it; it holds some of ``die LANE``, ``hang LANE``, ``block`` and
``break``, a line each.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from pickle import UnpicklingError
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


def _break() -> None:
    """What Celery meets when it reads half of what a process had to say that was killed."""
    if _asked("break"):
        raise UnpicklingError("invalid load key")


class Blocker(bootsteps.StartStopStep):
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        parent.timer.call_repeatedly(0.2, _block)
        parent.timer.call_repeatedly(0.2, parent.call_soon, (_break,))


health.STUCK_SECONDS = 5.0  # type: ignore[misc]  # the tests would wait for nothing else
LaneConsumer._has_room = _faulty  # type: ignore[method-assign]
app.steps["consumer"].add(Blocker)
