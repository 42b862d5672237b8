"""A process of the pool tells much; before all is read, the broker is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery

from connectbot.clients import Clients
from connectbot.settings import Settings
from tests.integration.test_recovery import known, publish_users
from tests.support import Worker, wait_until


@pytest.mark.parametrize("fault", ["lose", "kill"])
def test_a_result_half_read_when_the_broker_is_lost_ends_well(
    fault: str, ours: Clients, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = tmp_path / "fault"
    monkeypatch.setenv("CONNECTBOT_TEST_FAULT", str(faults))
    with Worker(settings, tmp_path, lanes=["default"], app="tests.faulty_app") as worker:
        faults.write_text(fault)
        with Celery(broker=settings.broker_url) as django:
            django.send_task("faulty.tell_much", queue="default")
        wait_until(lambda: not faults.exists(), deadline_seconds=20, what="the loss of the broker in between")
        publish_users(ours, 100)
        wait_until(lambda: known(ours) == 100, deadline_seconds=20, what="the work of the only process of the pool")
        assert worker.is_alive()
        assert "its loop has broken" not in worker.log.read_text()
