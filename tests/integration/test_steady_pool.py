"""A process of the pool tells much, and before all is read, the broker is lost; or it ends by itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from celery import Celery

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.settings import Settings
from tests.integration.test_recovery import known, publish_users
from tests.support import Worker, wait_until


def faulty_worker(settings: Settings, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setenv("CONNECTBOT_TEST_FAULT", str(directory / "fault"))
    return Worker(settings, directory, lanes=["default"], app="tests.faulty_app")


def lose_the_broker_half_read(fault: str, settings: Settings, directory: Path) -> None:
    faults = directory / "fault"
    faults.write_text(fault)
    with Celery(broker=settings.broker_url) as django:
        django.send_task("faulty.tell_much", queue="default")
    wait_until(lambda: not faults.exists(), deadline_seconds=20, what="the loss of the broker in between")


@pytest.mark.parametrize("fault", ["lose", "kill"])
def test_a_result_half_read_when_the_broker_is_lost_ends_well(
    fault: str, ours: Clients, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_worker(settings, tmp_path, monkeypatch) as worker:
        worker.wait_ready()
        lose_the_broker_half_read(fault, settings, tmp_path)
        publish_users(ours, 100)
        wait_until(lambda: known(ours) == 100, deadline_seconds=20, what="the work of the only process of the pool")
        assert worker.is_alive()
        assert "its loop has broken" not in worker.log.read_text()


def test_a_worker_asked_to_stop_ends_though_a_result_was_half_read_and_the_broker_stays_away(
    settings: Settings, embedded_redis: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_worker(settings, tmp_path, monkeypatch) as worker:
        worker.wait_ready()
        lose_the_broker_half_read("outage", settings, tmp_path)
        embedded_redis.kill()
        try:
            log = worker.log
            wait_until(lambda: "the broker is away" in log.read_text(), deadline_seconds=20, what="the loss of it")
            worker.terminate(deadline_seconds=20)
        finally:
            embedded_redis.start()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_process_that_has_ended_by_itself_is_replaced_at_once(
    processes: int, ours: Clients, settings: Settings, tmp_path: Path
) -> None:
    """Celery often sees it 5 s later: then this would take several times as long."""
    arguments = [f"--concurrency={processes}", "--max-tasks-per-child=1"]
    with Worker(settings, tmp_path, lanes=["default"], arguments=arguments) as worker:
        worker.wait_ready()
        deadline = time.monotonic() + 30
        for number in range(1, 41):
            publish_users(ours, number)
            wait_until(
                lambda number=number: known(ours) == number,
                deadline_seconds=deadline - time.monotonic(),
                what=f"the work of process {number}",
            )
