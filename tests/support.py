"""What several tests need: waiting with a deadline, and a worker in processes of its own."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from celery import Celery

from connectbot.child_process import dying_with_us
from connectbot.redis_client import connect
from connectbot.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
LANES = ("default", "java")
Met = TypeVar("Met")


def wait_until(condition: Callable[[], Met], *, deadline_seconds: float, what: str) -> Met:
    """Ask for ``condition`` again and again until it is true, and answer it; fail, naming ``what``, when time is up."""
    deadline = time.monotonic() + deadline_seconds
    while not (met := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_seconds:g} s: {what}")
        time.sleep(0.02)
    return met


def active_orders(app: Celery) -> list[str]:
    """Ids of the orders that the workers' processes have begun with and not returned (``celery inspect active``).

    A worker that is busy may let a question pass: that no worker answers does not mean that none has an order.
    """
    # Celery would keep the connection for all apps of this process, and some test may have killed the server behind it.
    with app.connection_for_write() as connection:
        ask = app.control.inspect(timeout=1.0, connection=connection).active
        active: dict[str, list[dict[str, Any]]] = wait_until(ask, deadline_seconds=30, what="a worker that answers")
    return [task["id"] for tasks in active.values() for task in tasks]


def joined(text: str) -> str:
    """The text with each pair of surrogates as the character that it stands for: so JSON reads it back, too."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def environment(settings: Settings) -> dict[str, str]:
    """The environment variables from which `Settings.load` makes ``settings`` in another process."""
    values = ((field.metadata["variable"], getattr(settings, field.name)) for field in dataclasses.fields(settings))
    return {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in values}


class Worker:
    """``celery -A worker worker`` in a process group of its own; a context manager that ends it.

    ``app`` is the module of the Celery app. ``arguments`` are further arguments of the command line, such as
    ``"--concurrency=2"``. The log goes to ``directory`` and is printed when the ``with`` block fails.
    """

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        *,
        lanes: Sequence[str] = LANES,
        arguments: Sequence[str] = ("--concurrency=1",),
        name: str = "worker",
        app: str = "worker",
    ) -> None:
        self._settings = settings
        self._lanes = frozenset(lanes)
        self._redis = connect(settings.redis_url)
        self._known_leases: set[bytes] = set()
        self.log = directory / f"{name}.log"
        celery = [sys.executable, "-m", "celery", "-A", app, "worker", "-Q", ",".join(lanes), "-n", f"{name}@%h"]
        self._command = [*celery, "--loglevel=INFO", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the worker's main process, and id of its process group."""
        assert self._process is not None, "the worker was never started"
        return self._process.pid

    def start(self) -> None:
        """Start it, or start another one after `kill` or `terminate`."""
        self._known_leases = set(self._leases())
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                dying_with_us(self._command),
                cwd=ROOT,
                env={**os.environ, **environment(self._settings), "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, *, deadline_seconds: float = 60) -> None:
        """Wait until it holds a lease in each of its lanes: from then on it takes events."""
        wait_until(self._is_ready, deadline_seconds=deadline_seconds, what=f"a worker for {sorted(self._lanes)}")

    def is_alive(self) -> bool:
        """Whether its main process runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it and the processes of its pool at once (SIGKILL)."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def terminate(self, *, deadline_seconds: float = 30) -> None:
        """Ask it to finish what it has begun and to end (SIGTERM), and wait for that."""
        assert self._process is not None, "the worker was never started"
        self._process.terminate()
        wait_until(lambda: not self.is_alive(), deadline_seconds=deadline_seconds, what="the worker's end")

    def freeze(self) -> None:
        """Let it and its pool hang (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
        self._redis.close()
        if error is not None:
            print(f"--- {self.log}\n{self.log.read_text(errors='replace')[-20_000:]}")

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # tried even when it has ended: its children may be alive
            os.killpg(self.pid, number)

    def _leases(self) -> dict[bytes, str]:
        client, pattern = self._redis, self._settings.keys.lease("*")
        leases = {name: client.get(name) for name in client.scan_iter(pattern, count=1000)}
        return {name: lane.decode() for name, lane in leases.items() if lane is not None}

    def _is_ready(self) -> bool:
        assert self.is_alive(), f"the worker ended before it was ready: see {self.log}"
        return {lane for name, lane in self._leases().items() if name not in self._known_leases} >= self._lanes
