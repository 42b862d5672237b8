"""Two beats on one schedule: one ticks, the other stands by."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from tests.support import ROOT, environment, wait_until
from worker.schedule import SCHEDULE


class Beat:
    """``celery -A worker beat`` in a process of its own."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "celery", "-A", "worker", "beat", "--loglevel=INFO"]
        env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)}
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, cwd=log.parent, env=env, stdout=output, stderr=subprocess.STDOUT)

    def said(self, words: str) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        return words in self.log.read_text()

    def ticks(self) -> int:
        return self.log.read_text().count("Sending due task temp-data-expire")

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait()


@pytest.fixture
def two_beats(settings: Settings, tmp_path: Path) -> Iterator[tuple[Beat, Beat]]:
    """One that ticks, and one that stands by."""
    active = Beat(settings, tmp_path / "active.log")
    beats = [active]
    try:
        wait_until(lambda: active.said("beat: Acquired lock"), deadline_seconds=30, what="the first beat's lock")
        beats.append(Beat(settings, tmp_path / "standby.log"))
        wait_until(lambda: beats[1].said("beat: Starting"), deadline_seconds=30, what="the second beat")
        yield beats[0], beats[1]
    finally:
        for beat in beats:
            beat.end()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_second_beat_goes_on_when_the_first_is_gone(
    how: signal.Signals, two_beats: tuple[Beat, Beat], client: RedisClient
) -> None:
    active, standby = two_beats
    wait_until(lambda: active.ticks() >= 1 and client.llen("default"), deadline_seconds=20, what="a tick")
    assert standby.ticks() == 0
    active.end(how)
    wait_until(lambda: standby.ticks() >= 1, deadline_seconds=30, what="a tick of the second beat")
    wait_until(lambda: client.llen("default") >= 2, deadline_seconds=10, what="what the second beat has sent")


def test_every_scheduled_task_exists() -> None:
    code = "from worker import app; app.loader.import_default_modules(); print(*app.tasks)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    assert {entry["task"] for entry in SCHEDULE.values()} <= set(done.stdout.split())
