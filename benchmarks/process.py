"""Processes that are measured: started in a session of their own, so that /proc tells which belong together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MIB: Final = 1024.0
STOP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Memory:
    """What some processes hold, in MiB. PSS counts what they share once, RSS in each of them."""

    pss_mib: float
    rss_mib: float


class Processes:
    """Some copies of a command; a context manager that ends them, and all that they have started.

    The output goes to ``log``.
    """

    def __init__(self, command: Sequence[str], *, copies: int, environment: Mapping[str, str], log: Path) -> None:
        self._command = command
        self._copies = copies
        self._environment = environment
        self.log = log
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start them."""
        with self.log.open("ab") as log:
            for _ in range(self._copies):
                self._started.append(
                    subprocess.Popen(
                        self._command,
                        env={**os.environ, **self._environment},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )

    def are_alive(self) -> bool:
        """Whether none of them has ended by itself."""
        return all(process.poll() is None for process in self._started)

    def pids(self) -> list[int]:
        """All of them, with their children: those of their sessions."""
        sessions = {process.pid for process in self._started}
        return [pid for pid in _all_pids() if _session(pid) in sessions]

    def cpu_seconds(self) -> float:
        """The CPU time that they have used since they began, children that have ended included."""
        return sum(cpu_seconds(pid) for pid in self.pids())

    def memory(self) -> Memory:
        """What they hold now."""
        sums = [_memory(pid) for pid in self.pids()]
        return Memory(sum(pss for pss, _ in sums), sum(rss for _, rss in sums))

    def end(self) -> None:
        """Ask them to end, and after a while make them."""
        for process in self._started:
            process.terminate()
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            process.wait()
        self._started = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended; 0 when it is gone."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def _all_pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _session(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[3]) if fields else 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _memory(pid: int) -> tuple[float, float]:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0, 0.0
    found = dict(re.findall(r"^(Pss|Rss):\s+(\d+) kB", text, re.MULTILINE))
    return int(found.get("Pss", 0)) / _MIB, int(found.get("Rss", 0)) / _MIB
