"""What becomes of a task enqueued by ``.delay()`` when its worker, or its process, dies or is asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from connectbot.clients import Clients
from connectbot.settings import Settings
from tests.support import ROOT, Worker, environment, wait_until
from worker.routing import LANES, TASK_TIME_LIMIT_SECONDS, time_limit_seconds


def send_work(settings: Settings, *names: str, seconds: float) -> None:
    """Enqueue as Django does: from a process of its own, by name."""
    code = f"from worker import app; [app.send_task('slow.work', args=[name, {seconds}]) for name in {names}]"
    env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, check=True, timeout=60)


def noted(ours: Clients, what: str) -> list[bytes]:
    return list(ours.redis.lrange(what, 0, -1))


def slow_worker(settings: Settings, directory: Path) -> Worker:
    return Worker(settings, directory, lanes=["default"], app="tests.delivery_app")


def test_what_a_killed_worker_had_taken_comes_back(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    send_work(settings, "a", seconds=1.0)
    with slow_worker(settings, tmp_path) as worker:
        wait_until(lambda: noted(ours, "begun"), deadline_seconds=30, what="its beginning")
        worker.kill()
        assert noted(ours, "done") == []
        worker.start()
        # 3 s of visibility timeout and 5 s between two looks; with kombu's own values it would be 100 s.
        wait_until(lambda: noted(ours, "done") == [b"a"], deadline_seconds=30, what="its end")
        wait_until(lambda: not ours.redis.hlen("unacked"), deadline_seconds=10, what="its acknowledgement")
    assert noted(ours, "begun") == [b"a", b"a"]


def test_what_a_killed_process_worked_on_comes_back_at_once(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    send_work(settings, "a", seconds=2.0)
    with slow_worker(settings, tmp_path):
        wait_until(lambda: noted(ours, "begun"), deadline_seconds=30, what="its beginning")
        os.kill(int(ours.redis.get("process")), signal.SIGKILL)
        wait_until(lambda: noted(ours, "done"), deadline_seconds=30, what="its end")
    assert noted(ours, "begun")[:2] == [b"a", b"a"]


def test_a_soft_shutdown_finishes_the_short_and_returns_the_long(
    ours: Clients, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMAP_SIGTERM", "SIGQUIT")
    for name, seconds in (("short", 2.0), ("long", 60.0)):
        send_work(settings, name, seconds=seconds)
        with slow_worker(settings, tmp_path) as worker:
            wait_until(lambda name=name: name.encode() in noted(ours, "begun"), deadline_seconds=30, what=name)
            ours.publisher.publish_user_event(7, "user.created", {"user": {"id": 7}})
            worker.terminate(deadline_seconds=30)
        assert not list(ours.redis.scan_iter(settings.keys.lease("*"))), "events would wait for its lease"
    assert noted(ours, "done") == [b"short"]
    assert ours.redis.llen("default") == 1
    assert ours.redis.hlen("unacked") == 0


def test_the_visibility_timeout_is_above_all_that_a_task_may_take(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = "from worker import app; print(app.conf.broker_transport_options['visibility_timeout'])"
    env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)}
    printed = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, check=True, capture_output=True).stdout
    longest_batch = max(time_limit_seconds(lane, settings) for lane in LANES)
    assert float(printed) >= TASK_TIME_LIMIT_SECONDS + 2 * longest_batch


def test_what_the_worker_has_loaded_is_out_of_the_collectors_sight(
    ours: Clients, settings: Settings, tmp_path: Path
) -> None:
    send_work(settings, "a", seconds=0.0)
    with slow_worker(settings, tmp_path):
        wait_until(lambda: noted(ours, "done"), deadline_seconds=30, what="its end")
    assert int(ours.redis.get("frozen")) > 50_000  # objects, in the process that did the work
