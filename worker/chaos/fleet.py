"""Real workers in processes of their own, which can be killed, stopped and frozen. A dead one is replaced at once."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Final

from connectbot.child_process import dying_with_us
from connectbot.settings import Settings
from worker.chaos.schedule import Attack, Kind

ORPHANS_LIVE_SECONDS: Final = 10.0
"""How long the pool of a killed main process may go on before it is removed."""
STOP_SECONDS: Final = 30.0


def environment(settings: Settings) -> dict[str, str]:
    """The variables from which `Settings.load` makes ``settings`` in another process."""
    values = ((field.metadata["variable"], getattr(settings, field.name)) for field in dataclasses.fields(settings))
    return {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in values}


class Fleet:
    """``size`` workers of one Celery app. ``directory`` is for their logs, a file for each."""

    def __init__(self, *, size: int, app: str, arguments: Sequence[str], settings: Settings, directory: Path) -> None:
        self.size = size
        self._command = [sys.executable, "-m", "celery", "-A", app, "worker", "--loglevel=INFO", *arguments]
        # What processes that are killed do not remove.
        self._scraps = TemporaryDirectory(prefix="connectbot-chaos-", ignore_cleanup_errors=True)
        self._environment: Mapping[str, str] = {**os.environ, **environment(settings), "TMPDIR": self._scraps.name}
        self._directory = directory
        self._workers: list[subprocess.Popen[bytes]] = []
        self._timers: list[Timer] = []

    def start(self) -> None:
        """Start every worker."""
        self._workers = [self._launch(number) for number in range(self.size)]

    def pid(self, number: int) -> int:
        """Process id of a worker's main process."""
        return self._workers[number].pid

    def attack(self, attack: Attack) -> None:
        """Do what the attack says; a worker that ends by it has a successor when this returns."""
        {
            Kind.KILL: self._kill,
            Kind.KILL_MAIN: self._kill_main,
            Kind.KILL_CHILD: self._kill_child,
            Kind.STOP_KILL: self._stop_and_kill,
            Kind.STOP: self._stop,
            Kind.FREEZE: self._freeze,
        }[attack.kind](attack)

    def replace_the_dead(self) -> None:
        """Start a worker in the place of each that has ended by itself, after a SIGTERM for example."""
        for number, worker in enumerate(self._workers):
            if worker.poll() is not None:
                self._workers[number] = self._launch(number)

    def end(self) -> None:
        """Kill whatever still runs."""
        for timer in self._timers:
            timer.cancel()
            timer.function(*timer.args)
        for worker in self._workers:
            _signal_group(worker, signal.SIGKILL)
            worker.wait()
        self._scraps.cleanup()

    # --- the attacks ----------------------------------------------------------------------------------

    def _kill(self, attack: Attack) -> None:
        _signal_group(self._workers[attack.victim], signal.SIGKILL)
        self._workers[attack.victim].wait()

    def _kill_main(self, attack: Attack) -> None:
        worker = self._workers[attack.victim]
        worker.kill()
        worker.wait()
        self._later(ORPHANS_LIVE_SECONDS, worker, signal.SIGKILL)

    def _kill_child(self, attack: Attack) -> None:
        children = _children_of(self.pid(attack.victim))
        if children:
            with suppress(ProcessLookupError):
                os.kill(random.Random(attack.pause_seconds).choice(children), signal.SIGKILL)  # noqa: S311

    def _stop_and_kill(self, attack: Attack) -> None:
        worker = self._workers[attack.victim]
        worker.terminate()
        with suppress(subprocess.TimeoutExpired):
            worker.wait(attack.lasts_seconds)
        self._kill(attack)

    def _stop(self, attack: Attack) -> None:
        worker = self._workers[attack.victim]
        worker.terminate()
        self._later(STOP_SECONDS, worker, signal.SIGKILL)

    def _freeze(self, attack: Attack) -> None:
        worker = self._workers[attack.victim]
        _signal_group(worker, signal.SIGSTOP)
        self._later(attack.lasts_seconds, worker, signal.SIGCONT)

    # --- inside ---------------------------------------------------------------------------------------

    def _launch(self, number: int) -> subprocess.Popen[bytes]:
        with (self._directory / f"worker-{number}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own command
                dying_with_us([*self._command, f"--hostname=chaos{number}@%h"]),
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _later(self, seconds: float, worker: subprocess.Popen[bytes], number: signal.Signals) -> None:
        timer = Timer(seconds, _signal_group, (worker, number))
        timer.daemon = True
        self._timers = [running for running in self._timers if running.is_alive()]
        self._timers.append(timer)
        timer.start()


def _signal_group(worker: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, number)


def _children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)  # noqa: S607
    rows = (line.split() for line in listed.stdout.splitlines())
    return [int(child) for child, parent in rows if int(parent) == pid]
