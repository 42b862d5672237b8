"""Calls that take longer than others: they hold nobody back, and none is forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.matching.contract import MatchingResult
from connectbot.settings import Settings
from connectbot.testing.matching_service import MatchingService
from tests import markers
from tests.integration.test_java_lane import InlineLane, ask, completed
from tests.support import Worker, active_orders, wait_until

SLOW = 0
"""Number of the request whose call takes long."""


@pytest.fixture
def service() -> Iterator[MatchingService]:
    with MatchingService() as service:
        yield service


@pytest.fixture
def settings(redis_url: str, service: MatchingService, request: pytest.FixtureRequest) -> Settings:
    made = Settings(redis_url=redis_url, java_service_url=service.url, java_service_token=markers.TOKEN)
    return replace(made, java_calls_per_process=4, **getattr(request, "param", {}))


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Worker]:
    """A worker of the lane, with one process."""
    with Worker(settings, tmp_path, lanes=["java"]) as worker:
        worker.wait_ready()
        yield worker


def begin_slow_call(ours: Clients, service: MatchingService, *, latency_ms: int) -> None:
    service.switch(latency_ms=latency_ms)
    ask(ours, SLOW)
    wait_until(lambda: service.calls.shown()["in_flight"] == 1, deadline_seconds=20, what="the slow call")
    service.switch(latency_ms=0)


def answer_others(ours: Clients, many: int) -> None:
    for number in range(1, many + 1):
        ask(ours, number)
    wait_until(lambda: len(completed(ours)) == many, deadline_seconds=20, what="the answers of the others")
    assert f"r{SLOW}" not in completed(ours)


def pending(ours: Clients, lane: str) -> int:
    return int(ours.redis.xpending(ours.settings.keys.events, lane)["pending"])


def times_called(service: MatchingService) -> dict[str, Any]:
    return {call["request_id"]: call["count"] for call in service.calls.shown()["calls"]}


def test_a_slow_call_holds_no_other_back(ours: Clients, worker: Worker, service: MatchingService) -> None:
    begin_slow_call(ours, service, latency_ms=14_000)
    answer_others(ours, 150)


def test_a_worker_that_ends_waits_for_its_slow_calls(ours: Clients, worker: Worker, service: MatchingService) -> None:
    begin_slow_call(ours, service, latency_ms=4_000)
    answer_others(ours, 1)
    worker.terminate()
    assert f"r{SLOW}" in completed(ours)
    assert times_called(service) == {"r0": 1, "r1": 1}


def test_what_has_not_begun_does_not_wait_for_the_slow_calls_of_a_worker_that_ends(
    ours: Clients, worker: Worker, service: MatchingService, settings: Settings
) -> None:
    calls, lane, heir = settings.java_calls_per_process, "java", InlineLane(ours)
    service.switch(latency_ms=14_000)
    for number in range(calls):
        ask(ours, number)
    wait_until(lambda: service.calls.shown()["in_flight"] == calls, deadline_seconds=20, what="calls in every thread")
    service.switch(latency_ms=0)
    with Celery(broker=settings.broker_url, set_as_current=False) as app:
        wait_until(lambda: not active_orders(app), deadline_seconds=10, what="the return of the tasks")
        ask(ours, calls)  # a process begins with it, and waits for a thread to become free
        wait_until(lambda: active_orders(app), deadline_seconds=10, what="an order that has begun")
    for number in (calls + 1, calls + 2):
        ask(ours, number)
        held = number + 1
        wait_until(lambda held=held: pending(ours, lane) == held, deadline_seconds=10, what=f"{held} in hand")
    os.kill(worker.pid, signal.SIGTERM)

    not_begun = {f"r{calls + 1}", f"r{calls + 2}"}

    def have_not_waited() -> bool:
        heir.inherit()
        return not_begun <= set(completed(ours))

    wait_until(have_not_waited, deadline_seconds=20, what="what had not begun")
    assert set(completed(ours)) == not_begun
    assert worker.is_alive(), "it ended too early to show anything"
    wait_until(lambda: len(completed(ours)) == calls + 3, deadline_seconds=30, what="all the others")
    assert set(times_called(service).values()) == {1}


def test_an_answer_that_comes_while_redis_hangs_is_neither_lost_nor_asked_for_again(
    ours: Clients, service: MatchingService, embedded_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane, match, thaw = InlineLane(ours), ours.java.match, threading.Timer(2, embedded_redis.thaw)
    ask(ours, 1)
    lane.run()  # Redis knows the scripts by then

    def match_and_freeze(*args: Any, **kwargs: Any) -> MatchingResult:
        result = match(*args, **kwargs)
        embedded_redis.freeze()
        thaw.start()
        return result

    monkeypatch.setattr(ours.java, "match", match_and_freeze)
    ask(ours, 2)
    try:
        lane.run()
    finally:
        thaw.join()
    assert completed(ours) == ["r1", "r2"]
    assert times_called(service) == {"r1": 1, "r2": 1}
    status = ours.java_gate.breaker.status()
    assert (status.calls, status.in_flight) == (2, 0), "Redis has heard twice of the second, and counted it once"


def test_a_slow_call_whose_process_dies_is_made_again(ours: Clients, worker: Worker, service: MatchingService) -> None:
    begin_slow_call(ours, service, latency_ms=14_000)
    answer_others(ours, 1)
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(worker.pid)], capture_output=True, text=True, check=True)
    for pid in found.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: f"r{SLOW}" in completed(ours), deadline_seconds=12, what="the slow request's answer")
    assert times_called(service) == {"r0": 2, "r1": 1}
    assert ours.redis.xlen(ours.settings.keys.dead) == 0
