"""The whole installation as processes of this machine: what ``connectbot up`` and the demo run."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from connectbot.child_process import dying_with_us
from connectbot.embedded import HOST, EmbeddedRedis, free_port
from connectbot.errors import ConnectBotError
from connectbot.redis_client import connect
from connectbot.settings import Settings
from connectbot.watching.figures import read_figures
from worker.routing import LANES

POLL_SECONDS: Final = 0.1
STOP_SECONDS: Final = 10.0


class ProcessEnded(ConnectBotError):
    """A process of the stack ended by itself."""


@dataclass(slots=True)
class ManagedProcess:
    """One process, its log beside it; it leads a group of its own, so that Ctrl-C reaches us alone."""

    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own commands
                dying_with_us(self.command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises `ProcessEnded` when it does not run any more."""
        if self.process is not None and self.process.poll() is not None:
            raise ProcessEnded(f"{self.name} ended with status {self.process.returncode}; its log is {self.log}")

    def ask_to_stop(self) -> None:
        """SIGTERM: finish what is at hand, then end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait_or_kill(self, deadline: float) -> None:
        """Wait until ``deadline`` (monotonic seconds), then end it with all its children."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Stack:
    """Redis, the matching service, a worker for each lane, beat and Flower; a context manager.

    ``settings`` name what exists already: a Redis when ``own_redis`` is false, a matching service when
    ``own_matching_service`` is false. ``directory`` is for logs and for the data of an embedded Redis.
    """

    def __init__(self, settings: Settings, *, directory: Path, own_redis: bool, own_matching_service: bool) -> None:
        self._directory = directory
        self._own_matching_service = own_matching_service
        self._redis = EmbeddedRedis(directory / "redis") if own_redis else None
        self._processes: list[ManagedProcess] = []
        user, _, password = settings.flower_basic_auth.partition(":")
        self.flower_user = user or "connectbot"
        self.flower_password = password or secrets.token_urlsafe(9)
        self.flower_url = ""
        self.settings = settings

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """The environment in which a process joins this stack."""
        return {
            **os.environ,
            "REDIS_URL": self.settings.redis_url,
            "CELERY_BROKER_URL": self.settings.broker_url,
            "JAVA_SERVICE_URL": self.settings.java_service_url,
            "CONNECTBOT_NAMESPACE": self.settings.namespace,
            "CONNECTBOT_PROBES": f"{HOST}:0",  # several processes of one machine cannot share a port
            # Flower takes its password from here: a command line could be read by every user of the machine.
            "FLOWER_BASIC_AUTH": f"{self.flower_user}:{self.flower_password}",
        }

    def check(self) -> None:
        """Raises `ProcessEnded` when a part of the stack has ended by itself."""
        for process in self._processes:
            process.check()

    def wait_for_workers(self) -> None:
        """Wait until every lane has a worker that takes events. Raises `ProcessEnded`."""
        client = connect(self.settings.redis_url)
        try:
            while not all(lane.consumers for lane in read_figures(client, self.settings, LANES).lanes):
                self.check()
                time.sleep(POLL_SECONDS)
        finally:
            client.close()

    def stop(self) -> None:
        """Stop everything, Redis last."""
        for process in reversed(self._processes):
            process.ask_to_stop()
        deadline = time.monotonic() + STOP_SECONDS
        for process in reversed(self._processes):
            process.wait_or_kill(deadline)
        self._processes.clear()
        if self._redis is not None:
            self._redis.stop()

    def _start(self) -> None:
        if self._redis is not None:
            self._redis.start()
            self.settings = replace(self.settings, redis_url=self._redis.url, celery_broker_url="")
        if self._own_matching_service:
            port = free_port()
            self.settings = replace(self.settings, java_service_url=f"http://{HOST}:{port}")
            self._run("matching", "connectbot.testing.matching_service", "--port", str(port))
        self._celery("worker-default", "worker", "--queues=default", "--concurrency=2", "--hostname=default@%h")
        self._celery("worker-java", "worker", "--queues=java", "--concurrency=1", "--hostname=java@%h")
        self._celery("beat", "beat")
        port = free_port()
        self.flower_url = f"http://{HOST}:{port}"
        self._celery("flower", "flower", f"--address={HOST}", f"--port={port}")

    def _celery(self, name: str, *arguments: str) -> None:
        self._run(name, "celery", "-A", "worker", *arguments, *([] if name == "flower" else ["--loglevel=INFO"]))

    def _run(self, name: str, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        process = ManagedProcess(name, command, self._directory / f"{name}.log")
        self._processes.append(process)
        process.start(self.environment())
