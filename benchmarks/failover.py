"""How long an installation stands still when a machine dies: ``python -m benchmarks.failover [--times 10]``.

*sentinel*: a master, a replica and three sentinels; a worker, a beat and a publisher of some 200 events a second. The
master is killed with -9. *beats*: two beats on one schedule; the one that ticks is killed with -9, each time at another
moment between two ticks. Every figure of every trial is printed; exit status 1 when one of them is over the limit, a
tick came twice, or an event that replication has saved had no effect.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.events import decode
from connectbot.settings import Settings
from tests.failover import Beat, Publisher, has_menu, last_tick, running_beat
from tests.redis_servers import ReplicatedRedis
from tests.support import Worker, wait_until
from worker.schedule import SCHEDULE

LIMIT_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 60.0
LOAD_BEFORE: Final = 500
ENTRY: Final = "temp-data-expire"
Trial = dict[str, float]


@click.command()
@click.option("--times", default=10, show_default=True, type=click.IntRange(1), help="How often each is tried.")
@click.option("--only", type=click.Choice(["sentinel", "beats"]), help="Only one of the two.")
@click.option("--down-after", default=2.0, show_default=True, help="Seconds until a sentinel takes a server for dead.")
def main(*, times: int, only: str | None, down_after: float) -> None:
    """Kill the master, and kill the beat that ticks, and measure how long nothing goes on."""
    trials: dict[str, tuple[Callable[[int], Trial], str]] = {
        "sentinel": (lambda _: _sentinel_trial(down_after), "effect"),
        "beats": (lambda nth: _beats_trial(nth / times), "tick"),
    }
    console = Console(width=None if sys.stdout.isatty() else 140)
    holds = True
    for name, (trial, limited) in trials.items():
        if only not in (None, name):
            continue
        rows = [trial(nth) for nth in range(times)]
        console.print(_table(name, rows))
        worst = max(row[limited] for row in rows)
        well = worst < LIMIT_SECONDS and not any(row.get("missing", 0) + row.get("twice", 0) for row in rows)
        console.print(f"{'✔' if well else '✘'} the longest of {times}: {worst:.1f} s, of {LIMIT_SECONDS:g} s allowed")
        holds = holds and well
    sys.exit(0 if holds else 1)


def _table(name: str, rows: list[Trial]) -> Table:
    table = Table("trial", *rows[0], title=f"{name}: seconds since the kill, and numbers")
    for nth, row in enumerate(rows, 1):
        table.add_row(
            str(nth), *(f"{value:.1f}" if isinstance(value, float) else f"{value:,}" for value in row.values())
        )
    return table


# --- the master dies ----------------------------------------------------------------------------------


def _sentinel_trial(down_after_seconds: float) -> Trial:
    """``missing`` are events that the new master has and whose effect never came; ``lost`` those it does not have."""
    with (
        TemporaryDirectory() as directory,
        ReplicatedRedis(Path(directory), down_after_seconds=down_after_seconds) as replicated,
        _opened(Settings(redis_url=replicated.url)) as ours,
        running_beat(ours.settings, Path(directory)),
        Worker(ours.settings, Path(directory), lanes=["default"]) as worker,
        Publisher(ours) as publisher,
    ):
        worker.wait_ready()
        wait_until(lambda: last_tick(ours), deadline_seconds=PATIENCE_SECONDS, what="a first tick")
        wait_until(lambda: len(publisher.accepted) > LOAD_BEFORE, deadline_seconds=PATIENCE_SECONDS, what="load")
        replicated.servers[0].kill()
        killed, before = time.time(), len(publisher.accepted)
        row: Trial = {"elected": _since(killed, lambda: replicated.master() is replicated.servers[1])}
        # One more may have been on its way to us when the master was killed.
        row["publishing"] = _since(killed, lambda: len(publisher.accepted) > before + 1)
        first = publisher.accepted[before + 1]
        row["effect"] = _since(killed, lambda: has_menu(ours, first))
        row["tick"] = _since(killed, lambda: last_tick(ours) > killed + 1)
        publisher.stop()
        entries = ours.redis.xrange(ours.settings.keys.events)
        kept = {int(decode(fields[b"event"]).user_id or 0) for _, fields in entries}
        with contextlib.suppress(AssertionError):
            wait_until(lambda: all(has_menu(ours, user) for user in kept), deadline_seconds=20, what="all the effects")
        row["accepted"] = len(publisher.accepted)
        row["lost"] = len(set(publisher.accepted) - kept)
        row["missing"] = sum(not has_menu(ours, user) for user in kept)
    return row


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[Clients]:
    ours = Clients.open(settings)
    try:
        yield ours
    finally:
        ours.redis.close()
        ours.java.close()


def _since(moment: float, condition: Callable[[], object]) -> float:
    wait_until(condition, deadline_seconds=PATIENCE_SECONDS, what="the next thing to go on")
    return time.time() - moment


# --- a beat dies --------------------------------------------------------------------------------------


def _beats_trial(share: float) -> Trial:
    """``share`` is where between two ticks the kill comes. ``gap`` is the time between the ticks around it."""
    with TemporaryDirectory() as directory, EmbeddedRedis() as server:
        settings, logs = Settings(redis_url=server.url), Path(directory)
        with Beat(settings, logs / "active.log") as active:
            wait_until(lambda: active.ticks(ENTRY), deadline_seconds=PATIENCE_SECONDS, what="a first tick")
            with Beat(settings, logs / "standby.log") as standby:
                wait_until(lambda: standby.said("beat: Starting"), deadline_seconds=PATIENCE_SECONDS, what="a standby")
                seen = len(active.ticks(ENTRY))
                wait_until(lambda: len(active.ticks(ENTRY)) > seen, deadline_seconds=PATIENCE_SECONDS, what="a tick")
                time.sleep(share * SCHEDULE[ENTRY]["schedule"])
                active.end()
                killed = time.time()
                row: Trial = {"after its tick": killed - active.ticks(ENTRY)[-1]}
                wait_until(lambda: len(standby.ticks(ENTRY)) >= 3, deadline_seconds=PATIENCE_SECONDS, what="ticks")
                row["tick"] = standby.ticks(ENTRY)[0] - killed
                row["gap"] = standby.ticks(ENTRY)[0] - active.ticks(ENTRY)[-1]
                row["ticks"] = sum(len(beat.ticks(name)) for beat in (active, standby) for name in SCHEDULE)
                row["twice"] = sum(_twice(name, active, standby) for name in SCHEDULE)
    return row


def _twice(name: str, *beats: Beat) -> int:
    """Ticks of an entry of the schedule that came before they were due: the tick before was the same one."""
    sent = sorted(at for beat in beats for at in beat.ticks(name))
    interval: float = SCHEDULE[name]["schedule"]
    return sum(after - before < interval * 0.9 for before, after in pairwise(sent))


if __name__ == "__main__":
    main()
