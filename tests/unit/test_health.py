"""When a process is alive, and when it is ready: the rule, without processes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from worker.health import STUCK_SECONDS, UNHEARD_SECONDS, Health
from worker.pulse import Pulses


@dataclass
class Watch:
    """In place of the thread that asks Redis."""

    answered_at: float
    failed_at: float = 0.0
    fault: str = ""


@dataclass
class Process:
    health: Health
    pulses: Pulses
    watch: Watch


@pytest.fixture
def process() -> Process:
    """A process with one lane: it has just moved, and holds its lease."""
    pulses, watch = Pulses(), Watch(time.monotonic())
    pulses.of_lane("java").hold_lease(seconds=60)
    return Process(Health(pulses, watch, lanes=["java"]), pulses, watch)  # type: ignore[arg-type]


def long_ago(seconds: float) -> float:
    return time.monotonic() - seconds - 1


def test_a_process_that_moves_and_holds_its_lease_is_well(process: Process) -> None:
    assert process.health.why_not_alive() == process.health.why_not_ready() == []


def test_what_stands_still_is_named(process: Process) -> None:
    process.pulses.of_lane("java").moved_at = long_ago(STUCK_SECONDS)
    [reason] = process.health.why_not_alive()
    assert reason.startswith("the lane java has stood still for")
    process.pulses.of_lane("java").move()
    assert process.health.why_not_alive() == []


def test_what_stands_still_while_redis_is_away_has_time_from_its_return_on(process: Process) -> None:
    process.pulses.of_lane("java").moved_at = long_ago(10 * STUCK_SECONDS)
    process.watch.failed_at, process.watch.fault = time.monotonic(), "Redis cannot serve this now"
    assert process.health.why_not_alive() == []
    assert process.health.why_not_ready() == ["Redis cannot serve this now"]
    process.watch.failed_at, process.watch.fault = long_ago(STUCK_SECONDS), ""
    assert process.health.why_not_alive() != []


def test_without_its_lease_a_process_is_not_ready(process: Process) -> None:
    process.pulses.of_lane("java").hold_lease(seconds=0)
    assert process.health.why_not_ready() == ["no lease in lane java"]
    assert process.health.why_not_alive() == []


def test_a_watch_that_is_stuck_itself_is_not_believed(process: Process) -> None:
    process.watch.answered_at = long_ago(UNHEARD_SECONDS)
    assert process.health.why_not_ready() == [f"Redis has not answered for {UNHEARD_SECONDS:g} s"]


def test_who_shuts_down_takes_no_work_and_is_not_to_be_killed(process: Process) -> None:
    process.health.draining = True
    process.pulses.of_lane("java").moved_at = long_ago(STUCK_SECONDS)
    assert process.health.why_not_alive() == []
    assert process.health.why_not_ready() == ["the process is shutting down"]
