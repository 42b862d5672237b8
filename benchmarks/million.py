"""One million events through one worker: it must be as fast and as small at the end as at the beginning.

    .venv/bin/python -m benchmarks.million [--events 1000000] [--repeat 1]

The events are all there when the worker starts. Of each tenth of them it is told how fast it went and how much memory
the worker held (RSS) at its end; then whether the stream is trimmed to CONNECTBOT_STREAM_KEEP. A second worker serves
the lane `java`, without which nothing could be trimmed; it has passed over all events before the measurement begins.
A tenth takes two or three seconds, in which a machine may be disturbed: of several runs (``--repeat``), each on a Redis
of its own, all are told and the median is judged.
Redis is the one that `connectbot up` would take, as shipped: what it needs to write its append-only file anew is part
of what is measured, and is much with Redis 6.2, less from 7 on.
Exit 1 when a bound is broken.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import click
from rich.console import Console

from benchmarks.figures import Claim, Figure, Report, table
from benchmarks.installation import embedded, environment, opened, wait_for_worker, wait_until, worker
from benchmarks.process import Processes
from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.events import Event, new_event
from connectbot.watching.ages import Ages

USERS = 20_000
"""They are known early in the first tenth: from then on all events mean the same work."""
AT_ONCE = 500
WARM_UP = 0.01
TENTHS = 10
MOST_GROWTH, LEAST_RATE, MOST_KEPT = 1.2, 0.9, 1.15
"""Redis removes whole nodes of the stream only."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How far the worker is, when, and what it holds then."""

    at: float
    done: int
    rss_mib: float


@dataclass(slots=True)
class Measured:
    """All runs: of each tenth how fast it was and what the worker held, and what came out of each run."""

    rates: list[Figure] = field(default_factory=lambda: [Figure() for _ in range(TENTHS)])
    rss_mib: list[Figure] = field(default_factory=lambda: [Figure() for _ in range(TENTHS)])
    growth: Figure = field(default_factory=Figure)
    last_beside_first: Figure = field(default_factory=Figure)
    kept: Figure = field(default_factory=Figure)

    def add(self, moments: list[Moment], *, kept: int, keep: int) -> None:
        """One more run."""
        rates = [(now.done - before.done) / (now.at - before.at) for before, now in pairwise(moments)]
        for tenth, (rate, now) in enumerate(zip(rates, moments[1:], strict=True)):
            self.rates[tenth].add(rate)
            self.rss_mib[tenth].add(now.rss_mib)
        self.growth.add(moments[-1].rss_mib / moments[1].rss_mib)
        self.last_beside_first.add(rates[-1] / rates[0])
        self.kept.add(kept / keep)


@click.command(help=__doc__)
@click.option("--events", type=click.IntRange(10_000, 1_000_000), default=1_000_000, show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True)
def main(*, events: int, repeat: int) -> None:
    """Measure, show, and judge."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    measured = Measured()
    for _ in range(repeat):
        _run(console, events, measured)
    report = _report(measured, events=events)
    report.show(console)
    sys.exit(not all(claim.holds for claim in report.claims))


def _run(console: Console, events: int, into: Measured) -> None:
    with tempfile.TemporaryDirectory() as directory, embedded({}) as server, opened(server.url) as clients:
        _publish(clients, events)
        version = clients.redis.info("server")["redis_version"]
        console.print(f"[dim]{events:,} events are published; Redis {version}[/dim]")
        with _java_worker(server, log=Path(directory) / "java.log"):
            _until(lambda: _is_passed_over(clients), what="the lane java to have passed over all events")
            with worker(server, log=Path(directory) / "worker.log") as measured:
                wait_for_worker(clients)
                moments = _watch(clients, measured, events)
                into.add(moments, kept=_kept(clients), keep=clients.settings.stream_keep)


def _publish(clients: Clients, count: int) -> None:
    clients.stream.ensure_lanes(["default", "java"])
    for first in range(0, count, AT_ONCE):
        clients.publisher.publish(*map(_event, range(first, min(first + AT_ONCE, count))))


def _event(number: int) -> Event:
    user_id = number % USERS + 1
    user = {"id": user_id, "role": "employee", "username": f"user{user_id}"}
    return new_event("user.updated", {"user": user}, channel="connectbot:global", user_id=user_id)


def _java_worker(server: EmbeddedRedis, *, log: Path) -> Processes:
    command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-Q", "java", "-c", "1", "-n", "java@%h"]
    return Processes([*command, "--loglevel=WARNING"], copies=1, environment=environment(server.url), log=log)


def _is_passed_over(clients: Clients) -> bool:
    keys = clients.settings.keys
    ((newest, _),) = clients.redis.xrevrange(keys.events, count=1)
    groups = {group["name"]: group for group in clients.redis.xinfo_groups(keys.events)}
    return bool(groups[b"java"]["last-delivered-id"] == newest and groups[b"java"]["pending"] == 0)


def _watch(clients: Clients, measured: Processes, events: int) -> list[Moment]:
    """The moments when so much is done: a little, then a tenth, two tenths …"""
    moments = []
    for share in (WARM_UP, *(tenth / TENTHS for tenth in range(1, TENTHS + 1))):
        _until(lambda share=share: _done(clients) >= events * share, what=f"{share:.0%} of the events")  # type: ignore[misc]
        moments.append(Moment(time.monotonic(), _done(clients), measured.memory().rss_mib))
    return moments


def _done(clients: Clients) -> int:
    return Ages.read(clients.redis.hgetall(clients.settings.keys.ages("default"))).count


def _kept(clients: Clients) -> int:
    """The length of the stream when it does not become shorter any more, or is short enough."""
    enough = clients.settings.stream_keep * MOST_KEPT
    _until(lambda: clients.redis.xlen(clients.settings.keys.events) <= enough, what="the stream to be trimmed")
    return int(clients.redis.xlen(clients.settings.keys.events))


def _until(condition: Callable[[], object], *, what: str) -> None:
    wait_until(condition, what=what, poll_seconds=0.02)


def _report(measured: Measured, *, events: int) -> Report:
    shown = table(f"{events:,} events", "tenth", "events/s", "RSS MiB")
    for number, (rate, rss_mib) in enumerate(zip(measured.rates, measured.rss_mib, strict=True), start=1):
        shown.add_row(str(number), rate.text(), rss_mib.text())
    claims = [
        _claim("RSS after the last tenth beside the first", measured.growth, "at most", MOST_GROWTH),
        _claim("events/s of the last tenth beside the first", measured.last_beside_first, "at least", LEAST_RATE),
        _claim("entries left in the stream beside CONNECTBOT_STREAM_KEEP", measured.kept, "at most", MOST_KEPT),
    ]
    return Report("million", tables=[shown], claims=claims)


def _claim(what: str, ratio: Figure, bound: Literal["at most", "at least"], times: float) -> Claim:
    holds = ratio.median <= times if bound == "at most" else ratio.median >= times
    runs = ", ".join(f"{value:.2f}" for value in ratio.values)
    return Claim(what, f"{ratio.median:,.2f}x ({runs}), wanted {bound} {times:g}x", holds)


if __name__ == "__main__":
    main()
