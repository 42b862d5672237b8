"""Warming the menus of all users: `menus.warm` with a real worker, beside what Django code can do.

Ten times the users must take ten times the time, and no more memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.check import check_menus
from benchmarks.figures import Claim, Figure, Report, at_least, table
from benchmarks.handling import keys_that_expire
from benchmarks.installation import embedded, environment, opened, wait_for_worker, wait_until, worker
from benchmarks.work import menu_key, role_of, user_ids
from connectbot.cache import BLANK
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.embedded import EmbeddedRedis
from connectbot.menu_warmer import menu_start
from connectbot.users import KnownUser

USERS, QUICK_USERS = 100_000, 20_000
LOOP, QUICK_LOOP = 4_000, 1_000
TIMES = 10
MOST_LARGE_RUNS = 3
AT_ONCE = 1_000
VERSION = "0" * 13 + "1-" + "0" * 20

OURS, OURS_MORE = "menus.warm (all)", f"menus.warm (all), {TIMES} times the users"
LIMIT = "Redis' limit: the same SETs, ready-made, pipelined"
LOOPED, MANY = "v21's set_user_menu in a loop", "django-redis set_many, 500 at a time"


@dataclass(slots=True)
class Measured:
    """All runs of one way; memory is that of a worker with all its processes, where there is one."""

    rate: Figure = field(default_factory=Figure)
    cpu_us: Figure = field(default_factory=Figure)
    pss_mib: Figure = field(default_factory=Figure)

    def json(self) -> dict[str, Any]:
        """For the file."""
        return {"rate": self.rate.json(), "cpu_us": self.cpu_us.json(), "pss_mib": self.pss_mib.json()}


def bench(console: Console, *, quick: bool, repeat: int) -> Report:
    """Measure them in turn; the large run, which takes long, at most three times."""
    users = QUICK_USERS if quick else USERS
    found = {name: Measured() for name in (OURS, OURS_MORE, MANY, LOOPED, LIMIT)}
    for turn in range(repeat):
        console.print(f"[dim]warming, {turn + 1} of {repeat}[/dim]")
        _warm(users, found[OURS])
        _django("many", users, found[MANY])
        _django("loop", QUICK_LOOP if quick else LOOP, found[LOOPED])
        _limit(users, found[LIMIT])
        if turn < MOST_LARGE_RUNS:
            _warm(users * TIMES, found[OURS_MORE])
    return _report(found, users)


def _warm(count: int, into: Measured) -> None:
    with tempfile.TemporaryDirectory() as directory, _steady() as server, opened(server.url) as clients:
        _seed(clients, count)
        with worker(server, log=Path(directory) / "worker.log") as processes:
            wait_for_worker(clients)
            _warm_once(server, clients, 0)  # a cold worker opens its connections, and finds nobody: see `_seed`
            used = processes.cpu_seconds()
            seconds = _timed(lambda: _warm_once(server, clients, count))
            into.rate.add(count / seconds)
            into.cpu_us.add((processes.cpu_seconds() - used) / count * 1e6)
            into.pss_mib.add(processes.memory().pss_mib)
        check_menus(clients.redis, user_ids(count))


@contextmanager
def _steady() -> Iterator[EmbeddedRedis]:
    """A Redis that never rewrites its append-only file: it would do so in long runs, and not in short ones."""
    with embedded() as server, opened(server.url) as clients:
        clients.redis.config_set("auto-aof-rewrite-percentage", 0)
        yield server


def _seed(clients: Clients, count: int) -> None:
    """Make users known, as events would have done."""
    clients.stream.ensure_lanes(["default", "java"])
    know(clients, user_ids(count))


def know(clients: Clients, users: range) -> None:
    """Let users be known, without menus."""
    for at in range(0, len(users), AT_ONCE):
        known = [KnownUser(user_id, VERSION, role_of(user_id)) for user_id in users[at : at + AT_ONCE]]
        effects = Effects()
        effects.add_for_users(known, [clients.users.remembering()])
        clients.stream.apply(effects)


def _warm_once(server: EmbeddedRedis, clients: Clients, count: int) -> None:
    """Ask for it by the task's name, as Django would."""
    from celery import Celery  # here, so that the benches without it start at once

    with Celery(broker=server.url, set_as_current=False) as app:
        if not count:
            app.send_task("menus.rebuild", kwargs={"user_ids": []}, queue="default")
            return
        app.send_task("menus.warm", kwargs={"scope": "all"}, queue="default")
    wait_until(lambda: keys_that_expire(clients.redis) >= count, what=f"the menus of {count:,} users")


def _django(how: str, count: int, into: Measured) -> None:
    """By django-redis, in a process of its own."""
    with _steady() as server:
        command = [sys.executable, "-m", "benchmarks.apps.django_cache", how, str(count)]
        done = subprocess.run(command, env=dict(environment(server.url)), capture_output=True, text=True, check=True)
    seconds, cpu_seconds = map(float, done.stdout.split())
    into.rate.add(count / seconds)
    into.cpu_us.add(cpu_seconds / count * 1e6)


def _limit(count: int, into: Measured) -> None:
    """As fast as Redis stores the same values with the same lifetime, when nobody has to find users or make menus."""
    with _steady() as server, opened(server.url) as clients:
        connection, parts = clients.redis.connection_pool.get_connection(), []
        start, lifetime_ms = menu_start(time.time()), clients.settings.menu_ttl_seconds * 1000
        for at in range(0, count, AT_ONCE):
            commands = []
            for user_id in user_ids(count)[at : at + AT_ONCE]:
                value = clients.menus.ending("main", role_of(user_id)).after(start.replace(BLANK, str(user_id)))
                commands.append(("SET", menu_key(user_id), value, "PX", lifetime_ms))
            parts.append(connection.pack_commands(commands))
        into.rate.add(count / _timed(lambda: _send(connection, parts)))
        clients.redis.connection_pool.release(connection)
        check_menus(clients.redis, user_ids(count))


def _send(connection: Any, parts: Iterable[Any]) -> None:
    for part in parts:
        connection.send_packed_command(part)
        for _ in range(AT_ONCE):
            connection.read_response()


def _timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _report(found: dict[str, Measured], users: int) -> Report:
    report = Report("warming", data={name: one.json() for name, one in found.items()} | {"users": users})
    shown = table(f"Warming the menus of {users:,} users", "how", "users/s", "ours is", "CPU µs/user", "PSS MiB")
    ours, more, many, looped = (found[name].rate.median for name in (OURS, OURS_MORE, MANY, LOOPED))
    for name, one in found.items():
        times = f"{ours / one.rate.median:,.1f}x"
        shown.add_row(name, one.rate.text(), times, one.cpu_us.text("{:,.1f}"), one.pss_mib.text())
    report.tables.append(shown)
    slower, growth = ours / more, found[OURS_MORE].pss_mib.median / found[OURS].pss_mib.median
    took = f"{TIMES * slower:,.1f} times the time, wanted 8 to 12"
    report.claims = [
        at_least(f"users/s beside {LOOPED}", ours, looped, 40),
        at_least(f"users/s beside {MANY}", ours, many, 3.5),
        Claim(f"{TIMES} times the users", took, 0.8 <= slower <= 1.2),
        Claim("memory with them", f"{growth:,.2f}x, wanted at most 1.1x", growth <= 1.1),
    ]
    return report
