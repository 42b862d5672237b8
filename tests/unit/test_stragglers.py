"""Whose calls are looked after once their task has returned, and when they are given up."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from connectbot.entries import Batch
from connectbot.settings import Settings
from tests.support import wait_until
from worker.planning import Order
from worker.routing import ROUTES
from worker.stragglers import Stragglers

PATIENT = Settings()
IMPATIENT = Settings(java_service_timeout_seconds=0.001, batch_time_limit_seconds=1)


def order(lane: str = "java", ids: tuple[str, ...] = ()) -> Order:
    task: Any = next(route.task for route in ROUTES if route.lane == lane)
    return Order(task, Batch(lane, "a", ("any",), "1-0", "2-0", 2, ids))


@pytest.fixture(scope="module")
def gone() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def overdue(noted: Order, pid: int | None, settings: Settings = PATIENT) -> list[Order]:
    stragglers = Stragglers(settings)
    stragglers.note(noted, pid)
    found = list(stragglers.overdue())
    assert not found or not list(stragglers.overdue()), "each is told once"
    return found


def test_the_calls_of_a_process_that_is_gone_are_given_up_at_once(gone: int) -> None:
    assert len(overdue(order(), gone)) == 1


@pytest.mark.parametrize("pid", [os.getpid(), None], ids=["living", "unknown"])
def test_the_calls_of_others_have_their_time(pid: int | None) -> None:
    assert overdue(order(), pid) == []


def test_nobody_has_more_time_than_a_call_takes() -> None:
    stragglers = Stragglers(IMPATIENT)
    stragglers.note(order(), os.getpid())
    wait_until(lambda: list(stragglers.overdue()), deadline_seconds=5, what="the end of its time")


@pytest.mark.parametrize("left", [order("default"), order(ids=("1-0", "2-0"))])
def test_a_task_that_has_waited_for_all_it_did_is_not_looked_after(left: Order, gone: int) -> None:
    assert overdue(left, gone) == []


def test_what_is_asked_for_leaves_the_others_in_their_place(gone: int) -> None:
    stragglers = Stragglers(PATIENT)
    for pid in (os.getpid(), gone, os.getpid(), gone):
        stragglers.note(order(), pid)
    assert len(list(stragglers.overdue())) == 2
    assert list(stragglers.overdue()) == []
