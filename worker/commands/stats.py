"""``connectbot stats``: the figures of the installation, once or live."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.box import SIMPLE, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from connectbot.errors import RedisUnavailable
from connectbot.settings import Settings
from connectbot.watching.figures import Figures, LaneFigures, read_figures
from connectbot.watching.processes import Processes, Seen
from connectbot.watching.queues import tasks_waiting
from connectbot.watching.servers import servers
from worker.commands.common import Number, duration, json_option, output
from worker.routing import LANES

SAMPLE_SECONDS: Final = 1.0
"""The rate is what happened between two readings that far apart."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """Two readings; the processes at the time of the second, and how many tasks wait in each of Celery's queues."""

    before: Figures
    figures: Figures
    processes: Sequence[Seen]
    tasks_waiting: Mapping[str, int]

    def rate(self, lane: LaneFigures) -> float:
        """Effects per second of a lane, between the two readings."""
        before = next(one for one in self.before.lanes if one.lane == lane.lane)
        seconds = self.figures.now - self.before.now
        return max(0, lane.ages.count - before.ages.count) / seconds if seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All of it, for ``--json``."""
        figures = dataclasses.asdict(self.figures)
        for named, lane in zip(figures["lanes"], self.figures.lanes, strict=True):
            del named["ages"]
            named.update(backlog=lane.backlog, effects=lane.ages.count, effects_per_second=round(self.rate(lane), 1))
        figures["tasks_waiting"] = self.tasks_waiting
        figures["processes"] = [
            {**_fields(seen), "silent_seconds": round(seen.silent_seconds, 1)} for seen in self.processes
        ]
        return figures


@click.command()
@click.option("--watch", is_flag=True, help="Show them live, until Ctrl-C; with --json, a line every interval.")
@click.option(
    "--interval",
    default=SAMPLE_SECONDS,
    show_default=True,
    type=Number(0.2, 3600),
    help="Seconds between two readings.",
)
@json_option()
def stats(*, watch: bool, interval: float, as_json: bool) -> None:
    """Show backlog, lag, age, rate and more for each lane, and what else there is to know. Reads REDIS_URL."""
    settings = Settings.load()
    readings = _readings(settings, interval)
    try:
        if not watch:
            _print(next(readings), as_json=as_json)
        elif as_json or not Console().is_terminal:
            for reading in readings:
                _print(reading, as_json=as_json)
        else:
            _watch(settings, interval)
    except KeyboardInterrupt:
        if not watch:
            raise


def _print(reading: Reading, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(reading.as_dict()))
    else:
        output().print(render(reading))


def _watch(settings: Settings, interval: float) -> None:
    """Live; a Redis that is away is said so, and awaited."""
    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        while True:
            try:
                for reading in _readings(settings, interval):
                    live.update(render(reading), refresh=True)
            except RedisUnavailable as reason:
                live.update(Text(f"{reason}\n`connectbot check` says more.", "red"), refresh=True)
                time.sleep(interval)


def _readings(settings: Settings, interval: float) -> Iterator[Reading]:
    clients = [server.client() for server in servers(settings)]
    redis, broker = clients[0], clients[-1]
    try:
        before = read_figures(redis, settings, LANES)
        while True:
            time.sleep(interval)
            figures = read_figures(redis, settings, LANES)
            seen = Processes(redis, settings.keys).seen()
            yield Reading(before, figures, seen, tasks_waiting(broker, LANES))
            before = figures
    finally:
        for client in clients:
            client.close()


# --- as tables ----------------------------------------------------------------------------------------


def render(reading: Reading) -> RenderableType:
    """The figures as a person reads them."""
    return Group(_lanes(reading), _rest(reading), _processes(reading.processes))


def _lanes(reading: Reading) -> Table:
    taken = datetime.fromtimestamp(reading.figures.now, UTC)
    table = Table(
        title=f"lanes, {taken:%Y-%m-%d %H:%M:%S} UTC",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("lane", no_wrap=True)
    for name in ("backlog", "lag", "oldest", "done/s", "in flight", "delayed", "parked", "leases"):
        table.add_column(name, justify="right", no_wrap=True)
    for lane in reading.figures.lanes:
        table.add_row(
            lane.lane,
            f"{lane.backlog:,}",
            f"{'' if lane.lag_is_exact else '≥ '}{lane.lag:,}",
            duration(lane.oldest_age_seconds),
            f"{reading.rate(lane):,.0f}",
            f"{lane.in_flight:,}",
            f"{lane.delayed:,}",
            f"{lane.parked:,}",
            Text(str(len(lane.consumers)), "" if lane.consumers else "bold red"),
        )
    return table


def _rest(reading: Reading) -> Table:
    figures = reading.figures
    tick = "never" if figures.last_tick is None else f"{duration(max(0.0, figures.now - figures.last_tick))} ago"
    table = Table(show_header=False, box=SIMPLE, padding=(0, 1), pad_edge=False)
    table.add_row("dead letters", Text(f"{figures.dead:,}", "bold red" if figures.dead else ""))
    table.add_row("Java breaker", Text(figures.breaker, "" if figures.breaker == "closed" else "bold red"))
    if parked := max(lane.oldest_parked_age_seconds for lane in figures.lanes):
        table.add_row("oldest parked event", duration(parked))
    table.add_row("beat's last tick", tick)
    queues = ", ".join(f"{queue} {waiting:,}" for queue, waiting in reading.tasks_waiting.items())
    table.add_row("tasks in Celery's queues", queues)
    table.add_row("temporary data due", f"{figures.temp_data_due:,} ({figures.temp_data_overdue:,} overdue)")
    table.add_row("users with menus", f"{figures.users_with_menus:,} cached of {figures.users_known:,} known")
    table.add_row("entries in the stream", f"{figures.entries:,}")
    for name, value in sorted(figures.counters.items()):
        table.add_row(name.replace("_", " "), f"{value:,}")
    return table


def _processes(processes: Sequence[Seen]) -> Table:
    table = Table(
        "process",
        "pid",
        "lanes",
        "probes",
        "heard of",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        collapse_padding=True,
    )
    for seen in sorted(processes, key=lambda seen: (seen.process.role, seen.process.name, seen.process.pid)):
        process = seen.process
        heard = Text(f"{duration(seen.silent_seconds)} ago", "bold red" if seen.is_silent else "")
        table.add_row(process.name, str(process.pid), ", ".join(process.lanes), process.probes, heard)
    return table


def _fields(seen: Seen) -> dict[str, Any]:
    process = seen.process
    return {name: getattr(process, name) for name in process.__struct_fields__}
