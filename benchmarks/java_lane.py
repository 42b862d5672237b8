"""Jobs for the Java service done per second: the lane java beside plain Celery, with a service that takes 20 ms.

Plain Celery: prefork with two processes, one ``requests.post`` a task. Ours: two processes with the calls in flight
that let two cores work, and once more with 8 in flight in all, beside the limit that these and the 20 ms set. What
counts is the service's own book, from the moment when a tenth of the jobs has come to the moment when all have.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks.figures import Claim, Figure, Report, at_least, table
from benchmarks.installation import embedded, environment, wait_until
from benchmarks.java_work import calls, publish, stand_in
from benchmarks.peers import python
from benchmarks.process import Processes
from connectbot.clients import Clients
from connectbot.settings import Settings
from tests.support import environment as variables

LATENCY_MS: Final = 20
JOBS, QUICK_JOBS = 4_000, 1_000
CELERY_JOBS, QUICK_CELERY_JOBS = 750, 250
PROCESSES: Final = 2
LIMIT_IN_FLIGHT: Final = 8
LIMIT_PER_SECOND: Final = LIMIT_IN_FLIGHT * 1000 / LATENCY_MS
WITHIN: Final = 0.75
WARM_UP: Final = 0.1
SECONDS_TO_POLL: Final = 0.5
"""Asking for the book costs the service some milliseconds."""


@dataclass(slots=True)
class Measured:
    """All runs of one row of the table."""

    name: str
    calls_per_process: int = 0
    max_concurrent: int = 0
    rate: Figure = field(default_factory=Figure)
    cpu_us: Figure = field(default_factory=Figure)
    in_flight: Figure = field(default_factory=Figure)

    def add(self, book: dict[str, Any], cpu_seconds: float) -> None:
        """One more run; the CPU time is that of the workers, their start included."""
        came = sorted(call["first_at"] for call in book["calls"])
        first = int(len(came) * WARM_UP)
        self.rate.add((len(came) - 1 - first) / (came[-1] - came[first]))
        self.cpu_us.add(cpu_seconds / len(came) * 1e6)
        self.in_flight.add(book["most_in_flight"])

    def json(self) -> dict[str, Any]:
        """For the file."""
        return {name: getattr(self, name).json() for name in ("rate", "cpu_us", "in_flight")}


def bench(console: Console, *, quick: bool, repeat: int) -> Report:
    """Measure all three, in turn."""
    celery = Measured("plain Celery, requests")
    many = Measured("ours, 48 in flight", calls_per_process=24, max_concurrent=48)
    eight = Measured("ours, 8 in flight", calls_per_process=8, max_concurrent=LIMIT_IN_FLIGHT)
    jobs, celery_jobs = (QUICK_JOBS, QUICK_CELERY_JOBS) if quick else (JOBS, CELERY_JOBS)
    for turn in range(repeat):
        console.print(f"[dim]java, {turn + 1} of {repeat}[/dim]")
        _run_celery(celery, celery_jobs)
        _run_ours(many, jobs)
        _run_ours(eight, jobs)
    return _report(celery, many, eight)


def _run_celery(measured: Measured, jobs: int) -> None:
    program = python("requests")
    with (
        tempfile.TemporaryDirectory() as directory,
        embedded() as server,
        stand_in(Path(directory), "--latency-ms", str(LATENCY_MS)) as url,
    ):
        around = environment(server.url)
        enqueue = [program, "-m", "benchmarks.apps.celery_requests", url, str(jobs)]
        subprocess.run(enqueue, env=dict(around), check=True)
        command = [program, "-m", "celery", "-A", "benchmarks.apps.celery_requests", "worker"]
        command += [f"--concurrency={PROCESSES}", "--loglevel=WARNING"]
        with Processes(command, copies=1, environment=around, log=Path(directory) / "worker.log") as workers:
            _wait_for(jobs, url)
            measured.add(calls(url), workers.cpu_seconds())


def _run_ours(measured: Measured, jobs: int) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        embedded() as server,
        stand_in(Path(directory), "--latency-ms", str(LATENCY_MS)) as url,
    ):
        settings = Settings(
            redis_url=server.url,
            java_service_url=url,
            java_calls_per_process=measured.calls_per_process,
            java_max_concurrent=measured.max_concurrent,
            java_rate=10_000.0,
        )
        _publish(settings, jobs)
        command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-Q", "java"]
        command += [f"--concurrency={PROCESSES}", "--loglevel=WARNING"]
        around = {**environment(server.url), **variables(settings)}
        with Processes(command, copies=1, environment=around, log=Path(directory) / "worker.log") as workers:
            _wait_for(jobs, url)
            measured.add(calls(url), workers.cpu_seconds())


def _publish(settings: Settings, jobs: int) -> None:
    ours = Clients.open(settings)
    ours.stream.ensure_lanes(["default", "java"])
    for number in range(jobs):
        publish(ours, number)
    ours.redis.close()


def _wait_for(jobs: int, url: str) -> None:
    def all_answered() -> bool:
        book = calls(url)
        return bool(book["requests"] - book["in_flight"] >= jobs)

    wait_until(all_answered, what=f"{jobs} answers", poll_seconds=SECONDS_TO_POLL)


def _report(celery: Measured, many: Measured, eight: Measured) -> Report:
    report = Report("java")
    shown = table(
        f"Jobs for a Java service that takes {LATENCY_MS} ms", "system", "jobs/s", "µs of CPU a job", "most in flight"
    )
    for one in (celery, many, eight):
        report.data[one.name] = one.json()
        shown.add_row(one.name, one.rate.text("{:,.1f}"), one.cpu_us.text(), one.in_flight.text())
    report.tables.append(shown)
    share = eight.rate.median / LIMIT_PER_SECOND
    report.claims = [
        at_least("jobs per second beside plain Celery", many.rate.median, celery.rate.median, 8.0),
        Claim(
            f"{LIMIT_IN_FLIGHT} in flight, beside the limit of {LIMIT_PER_SECOND:g}/s",
            f"{share:.0%}, wanted at least {WITHIN:.0%}",
            share >= WITHIN,
        ),
    ]
    return report
