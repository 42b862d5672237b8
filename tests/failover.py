"""What happens to an installation while its Redis or its beat is killed: a load, a beat, and what is seen of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType

from connectbot.child_process import dying_with_us
from connectbot.clients import Clients
from connectbot.errors import RedisUnavailable
from connectbot.events import new_event
from connectbot.settings import Settings
from tests.support import ROOT, environment, wait_until

PAUSE_SECONDS = 0.003
END_SECONDS = 20.0


class Publisher:
    """Publishes an event about a new user every few milliseconds, and remembers which of them Redis took."""

    def __init__(self, ours: Clients) -> None:
        self._ours = ours
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.accepted: list[int] = []

    def stop(self) -> None:
        """Publish nothing more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        user = 0
        while not self._stopping.wait(PAUSE_SECONDS):
            user += 1
            event = new_event("user.created", {"user": {"id": user}}, channel=f"connectbot:user:{user}", user_id=user)
            try:
                self._ours.publisher.publish(event)
            except RedisUnavailable:
                continue
            self.accepted.append(user)

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Beat:
    """``celery -A worker beat`` in a process of its own, with its log lines as JSON; a context manager."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.log = log
        command = dying_with_us([sys.executable, "-m", "celery", "-A", "worker", "beat", "--loglevel=INFO"])
        env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT), "CONNECTBOT_LOG_FORMAT": "json"}
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, cwd=log.parent, env=env, stdout=output, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def wait_ready(self, *, deadline_seconds: float = 60) -> None:
        """Wait until it has the lock: from then on it ticks."""
        wait_until(lambda: self.said("beat: Acquired lock"), deadline_seconds=deadline_seconds, what="beat's lock")

    def said(self, words: str) -> bool:
        """Whether its log has them. Fails when it has ended."""
        assert self.is_alive(), self.log.read_text()
        return words in self.log.read_text()

    def ticks(self, entry: str = "temp-data-expire") -> list[float]:
        """When it sent the task of an entry of the schedule, in epoch seconds, the first time first."""
        lines = self.log.read_text().splitlines()
        told = (json.loads(line) for line in lines if f"Sending due task {entry} " in line and line.endswith("}"))
        return [datetime.fromisoformat(line["timestamp"]).timestamp() for line in told]

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        """End it, and wait for that. Answers its exit status."""
        if self.is_alive():
            self._process.send_signal(how)
        return self._process.wait(END_SECONDS)

    def __enter__(self) -> Beat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if error is not None:
            print(f"--- {self.log}\n{self.log.read_text(errors='replace')[-20_000:]}")


@contextmanager
def running_beat(settings: Settings, directory: Path) -> Iterator[Beat]:
    """A beat that ticks, for the time of a block; its log is ``beat.log``."""
    with Beat(settings, directory / "beat.log") as beat:
        beat.wait_ready()
        yield beat


def has_menu(ours: Clients, user: int) -> bool:
    """Whether the event about a user has had its effect; not, while Redis cannot tell."""
    try:
        return ours.menus.get(user, "main") is not None
    except RedisUnavailable:
        return False


def last_tick(ours: Clients) -> float:
    """When the schedule's tick was last worked on, in epoch seconds; 0.0 while Redis cannot tell."""
    try:
        return float(ours.redis.get(ours.settings.keys.last_tick) or 0)
    except Exception:  # in the middle of a failover everything may go wrong
        return 0.0
