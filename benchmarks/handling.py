"""Events handled per second, CPU for each, and memory: everybody beside everybody, on the same work.

The events lie ready when a worker starts. What counts is the time from the moment when a tenth of the effects is
there to the moment when all are, so that nobody's start is measured.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.check import WorkNotDone, check_menus, count_missing
from benchmarks.figures import Claim, Figure, Report, at_least, at_most, table
from benchmarks.installation import TooSlow, embedded, environment, opened, publish
from benchmarks.peers import NoEnvironment, python
from benchmarks.process import Processes, cpu_seconds
from benchmarks.systems import CELERY, FASTSTREAM_BATCH, LOOP_ONE, OURS, SYSTEMS, System
from benchmarks.work import EFFECTS_DB, user_ids
from connectbot.embedded import EmbeddedRedis
from connectbot.redis_client import RedisClient, connect

WARM_UP = 0.1
POLL_SECONDS = 0.01
QUICK_SHARE = 5
MIN_EVENTS = 1_000
DEADLINE_SECONDS = 120.0


@dataclass(slots=True)
class Measured:
    """All runs of one system; ``problem`` is why there are none, or fewer."""

    system: System
    rate: Figure = field(default_factory=Figure)
    cpu_us: Figure = field(default_factory=Figure)
    redis_us: Figure = field(default_factory=Figure)
    pss_mib: Figure = field(default_factory=Figure)
    rss_mib: Figure = field(default_factory=Figure)
    problem: str = ""

    def json(self) -> dict[str, Any]:
        """For the file."""
        names = ("rate", "cpu_us", "redis_us", "pss_mib", "rss_mib")
        figures = {name: getattr(self, name).json() for name in names}
        return {"remark": self.system.remark, "problem": self.problem, **figures}


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a run is: effects that are there, and what was used until then."""

    at: float
    effects: int
    cpu_seconds: float
    redis_seconds: float


class Run:
    """One system, one time, on a Redis of its own."""

    def __init__(self, system: System, server: EmbeddedRedis, directory: Path, *, count: int) -> None:
        self._system = system
        self._server = server
        self._count = count
        self._environment = environment(server.url)
        self._log = directory / "run.log"
        command = [python(system.environment), *system.worker]
        self._processes = Processes(command, copies=system.copies, environment=self._environment, log=self._log)
        self._effects = connect(_effects_url(system, server), socket_timeout=30.0)

    def measure(self, into: Measured) -> None:
        """Do it. Raises `TooSlow`, `WorkNotDone` or `NoEnvironment`."""
        with self._processes if self._system.listens else nullcontext():
            self._enqueue()
            with nullcontext() if self._system.listens else self._processes:
                first = self._wait_for(int(self._count * WARM_UP) + 1)
                last = self._wait_for(self._count)
                memory = self._processes.memory()
        check_menus(self._effects, user_ids(self._count))
        self._effects.close()
        done = last.effects - first.effects
        into.rate.add(done / (last.at - first.at))
        into.cpu_us.add((last.cpu_seconds - first.cpu_seconds) / done * 1e6)
        into.redis_us.add((last.redis_seconds - first.redis_seconds) / done * 1e6)
        into.pss_mib.add(memory.pss_mib)
        into.rss_mib.add(memory.rss_mib)

    def _enqueue(self) -> None:
        if not self._system.module:
            with opened(self._server.url) as clients:
                publish(clients, self._count)
            return
        module = ["-m", "benchmarks.apps.enqueue", self._system.module, str(self._count)]
        done = subprocess.run(
            [python(self._system.environment), *module], env=dict(self._environment), capture_output=True, text=True
        )
        if done.returncode:
            raise WorkNotDone(f"its events could not be enqueued: {done.stderr.strip()[-300:]}")

    def _wait_for(self, count: int) -> Moment:
        """The moment when so many effects are there: all of them are looked at one by one."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            if (effects := keys_that_expire(self._effects)) >= count:
                moment = self._now(min(effects, self._count))
                if count < self._count or not self._missing():
                    return moment
            if time.monotonic() > deadline or not self._processes.are_alive():
                state = "is too slow" if self._processes.are_alive() else "has ended"
                raise TooSlow(f"it {state}: {effects:,} of {self._count:,} effects; {self._last_words()}")
            time.sleep(POLL_SECONDS)

    def _now(self, effects: int) -> Moment:
        """Looking into /proc costs something: it is done at the two moments only."""
        return Moment(time.monotonic(), effects, self._processes.cpu_seconds(), cpu_seconds(self._server.pid))

    def _missing(self) -> int:
        return count_missing(self._effects, user_ids(self._count))

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace").strip()[-400:] if self._log.exists() else ""


def keys_that_expire(client: RedisClient) -> int:
    """How many keys of the database have a time to live: the menus, for nothing else is there (INFO keyspace)."""
    return sum(int(found["expires"]) for name, found in client.info("keyspace").items() if name == _name(client))


def _name(client: RedisClient) -> str:
    return f"db{client.connection_pool.connection_kwargs.get('db', 0)}"


def _effects_url(system: System, server: EmbeddedRedis) -> str:
    return f"{server.url.rpartition('/')[0]}/{EFFECTS_DB if system.module else 0}"


def bench(console: Console, *, quick: bool, repeat: int, only: Sequence[str] = ()) -> Report:
    """Measure all systems, in turn, ``repeat`` times."""
    chosen = [Measured(system) for system in SYSTEMS if not only or system.name in only]
    for turn in range(repeat):
        for measured in chosen:
            if not measured.problem:
                console.print(f"[dim]handling, {turn + 1} of {repeat}: {measured.system.name}[/dim]")
                _measure(measured, quick=quick)
    return _report(chosen)


def _measure(measured: Measured, *, quick: bool) -> None:
    events = measured.system.events
    count = max(MIN_EVENTS, events // QUICK_SHARE) if quick else events
    try:
        python(measured.system.environment)
        with tempfile.TemporaryDirectory() as directory, embedded() as server:
            Run(measured.system, server, Path(directory), count=count).measure(measured)
    except (TooSlow, WorkNotDone, NoEnvironment) as problem:
        measured.problem = f"{type(problem).__name__}: {problem}"


def _report(chosen: Sequence[Measured]) -> Report:
    report = Report("handling", data={measured.system.name: measured.json() for measured in chosen})
    found = {measured.system.name: measured for measured in chosen if measured.rate.values}
    ours = found.get(OURS)
    shown = table(
        "Events handled: one event in, one menu in the cache",
        "system", "events/s", "ours is", "CPU µs/event", "Redis' own", "PSS MiB", "RSS MiB", "how",
    )  # fmt: skip
    for measured in sorted(chosen, key=lambda one: -max(one.rate.values, default=0)):
        if not measured.rate.values:
            shown.add_row(measured.system.name, "–", "", "", "", "", "", f"[red]{measured.problem}[/red]")
            continue
        times = f"{ours.rate.median / measured.rate.median:,.1f}x" if ours else "–"
        shown.add_row(
            measured.system.name, measured.rate.text(), times, measured.cpu_us.text(), measured.redis_us.text(),
            measured.pss_mib.text(), f"{measured.rss_mib.median:,.0f}", measured.problem or measured.system.remark,
        )  # fmt: skip
    report.tables.append(shown)
    report.claims = _claims(found)
    return report


def _claims(found: dict[str, Measured]) -> list[Claim]:
    ours = found.get(OURS)
    if not ours:
        return []
    claims = [
        at_least(f"events/s beside {name}", ours.rate.median, found[name].rate.median, times)
        for name, times in ((CELERY, 60), (FASTSTREAM_BATCH, 2.5), (LOOP_ONE, 1.5))
        if name in found
    ]
    if batches := found.get(FASTSTREAM_BATCH):
        claims.append(at_most(f"CPU per event of {FASTSTREAM_BATCH}", ours.cpu_us.median, batches.cpu_us.median, 0.45))
    if celery := found.get(CELERY):
        claims.append(at_most(f"memory (PSS) of {CELERY}", ours.pss_mib.median, celery.pss_mib.median, 1.25))
        claims.append(at_most(f"memory (RSS) of {CELERY}", ours.rss_mib.median, celery.rss_mib.median, 1.25))
    return claims
