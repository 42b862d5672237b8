"""``connectbot bench``: how fast this installation is on this machine, on a Redis of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from connectbot.cache_keys import menu_key
from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.events import ConnectBotEvents
from connectbot.publisher import user_event
from connectbot.redis_client import translated_errors
from connectbot.settings import Settings
from worker.chaos.fleet import Fleet
from worker.commands.common import Failed, interrupt_on_signals, json_option, output
from worker.routing import DEFAULT, LANES

AT_ONCE: Final = 500
ONE_BY_ONE: Final = 2_000
LATENCIES: Final = 200
WARM_UP: Final = 0.1
"""The first tenth of the effects is not measured: it holds the start of the worker."""
PATIENCE_SECONDS: Final = 40.0
PAUSE_SECONDS: Final = 0.002
POLL_SECONDS: Final = 0.0002
PROCESSES: Final = 2


@click.command()
@click.option(
    "--events", default=30_000, show_default=True, type=click.IntRange(1_000, 500_000), help="Events to be handled."
)
@json_option()
def bench(*, events: int, as_json: bool) -> None:
    """Measure this system on this machine in under a minute: publishing, handling and latency.

    An embedded Redis, one worker of two processes, the settings of this installation; its own Redis is not touched.
    The effect of an event is a user's menus in the cache. Nothing is compared: `make bench`, in the repository,
    measures beside other systems, several times each, and shows the spread.
    """
    interrupt_on_signals()
    with tempfile.TemporaryDirectory(prefix="connectbot-bench-") as directory:
        config = {"client-output-buffer-limit": "pubsub 0 0 0"}
        with EmbeddedRedis(Path(directory) / "redis", config=config) as server:
            settings = dataclasses.replace(Settings.load(), redis_url=server.url, celery_broker_url="", probes="off")
            with Console(stderr=True).status("measuring") as status:
                figures = Bench(settings, Path(directory), tell=status.update).run(events)
    if as_json:
        click.echo(json.dumps(figures))
    else:
        _show(figures)


class Bench:
    """The measurement. ``directory`` is for the worker's log; ``tell`` is told what is being measured."""

    def __init__(self, settings: Settings, directory: Path, *, tell: Callable[[str], object]) -> None:
        self._ours = Clients.open(settings)
        self._directory = directory
        self._tell = tell
        self._users = 0

    def run(self, events: int) -> dict[str, Any]:
        """All figures; rates are per second, latencies in milliseconds. Raises `Failed` when the work is not done."""
        self._ours.stream.ensure_lanes(LANES)
        self._tell("publishing, one by one")
        one = self._rate(ONE_BY_ONE, at_once=1)
        self._tell(f"publishing, {AT_ONCE} at once")
        many = self._rate(events, at_once=AT_ONCE)
        with self._worker():
            self._tell("handling")
            handled = self._handling()
            self._tell("latency")
            waits_ms = sorted(self._latency_ms() for _ in range(LATENCIES))
        return {
            "published_one_by_one_per_second": round(one),
            "published_many_per_second": round(many),
            "handled_per_second": round(handled),
            "latency_p50_ms": round(statistics.median(waits_ms), 2),
            "latency_p99_ms": round(waits_ms[int(0.99 * len(waits_ms))], 2),
            "events": self._users,
            "processes": PROCESSES,
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "redis": self._ours.redis.info("server")["redis_version"],
        }

    # --- inside ---------------------------------------------------------------------------------------

    def _rate(self, events: int, *, at_once: int) -> float:
        begun = time.perf_counter()
        for _ in range(0, events, at_once):
            self._publish(at_once)
        return events / (time.perf_counter() - begun)

    def _publish(self, count: int) -> int:
        """Publish the creation of so many users. Answers the last one."""
        first = self._users + 1
        self._users += count
        self._ours.publisher.publish(
            *(
                user_event(self._ours.settings.keys, id_, ConnectBotEvents.USER_CREATED, {"user": {"id": id_}})
                for id_ in range(first, self._users + 1)
            )
        )
        return self._users

    @contextmanager
    def _worker(self) -> Iterator[None]:
        arguments = (f"--queues={DEFAULT}", f"--concurrency={PROCESSES}")
        fleet = Fleet(
            size=1, app="worker", arguments=arguments, settings=self._ours.settings, directory=self._directory
        )
        fleet.start()
        try:
            yield
        finally:
            fleet.end()

    def _handling(self) -> float:
        warm = int(self._users * WARM_UP)
        first, first_at = self._wait_for_effects(warm)
        last, last_at = self._wait_for_effects(self._users)
        return (last - first) / (last_at - first_at)

    def _wait_for_effects(self, count: int) -> tuple[int, float]:
        """How many effects there are, and when, once there are ``count``."""
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while True:
            with translated_errors():
                there, now = self._ours.redis.hlen(self._ours.settings.keys.users), time.perf_counter()
            if there >= count:
                return there, now
            if now > deadline:
                raise Failed(f"only {there} of {count} events were handled in time: {self._last_line()}")
            time.sleep(PAUSE_SECONDS)

    def _latency_ms(self) -> float:
        """From before publishing an event until its effect can be read; nothing else is going on."""
        key = self._ours.settings.cache_keys.physical(menu_key(self._users + 1, self._ours.settings.warm_menus[0]))
        begun = time.perf_counter()
        self._publish(1)
        while True:
            with translated_errors():
                if self._ours.redis.exists(key):
                    return (time.perf_counter() - begun) * 1000
            time.sleep(POLL_SECONDS)
            if time.perf_counter() - begun > PATIENCE_SECONDS:
                raise Failed(f"an event was not handled within {PATIENCE_SECONDS:g} s: {self._last_line()}")

    def _last_line(self) -> str:
        lines = (self._directory / "worker-0.log").read_text(errors="replace").strip().splitlines()
        return f"the worker's last word was {lines[-1]}" if lines else "the worker said nothing"


def _show(figures: dict[str, Any]) -> None:
    table = Table("what", "seen", title="this system, on this machine, once")
    for what, name, unit in (
        ("publishing, one by one", "published_one_by_one_per_second", "events/s"),
        (f"publishing, {AT_ONCE} at once", "published_many_per_second", "events/s"),
        (f"handling, {figures['processes']} processes", "handled_per_second", "events/s"),
        ("from publishing to the effect, p50", "latency_p50_ms", "ms"),
        ("from publishing to the effect, p99", "latency_p99_ms", "ms"),
    ):
        table.add_row(what, f"{figures[name]:,} {unit}")
    output().print(table)
    click.echo(
        f"{figures['events']:,} events, {figures['cpus']} CPUs, Python {figures['python']}, Redis {figures['redis']}. "
        "`make bench`, in the repository, compares with other systems."
    )
