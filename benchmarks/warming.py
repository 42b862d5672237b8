"""Warming the menus of all users: `menus.warm` with a real worker, beside what Django code can do.

Ten times the users must take ten times the time, and no more memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.check import check_menus
from benchmarks.figures import Claim, Figure, Report, at_least, table
from benchmarks.handling import keys_that_expire
from benchmarks.installation import embedded, environment, opened, wait_for_worker, wait_until, worker
from benchmarks.work import role_of, user_ids
from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.users import KnownUser

USERS, QUICK_USERS = 100_000, 20_000
LOOP, QUICK_LOOP = 4_000, 1_000
TIMES = 10
AT_ONCE = 1_000
VERSION = "0" * 13 + "1-" + "0" * 20

OURS, OURS_MORE = "menus.warm (all)", f"menus.warm (all), {TIMES} times the users"
LOOPED, MANY = "v21's set_user_menu in a loop", "django-redis set_many, 500 at a time"


def bench(console: Console, *, quick: bool, repeat: int) -> Report:
    """Measure them in turn; the large run, which takes long, at most three times."""
    users = QUICK_USERS if quick else USERS
    rates = {name: Figure() for name in (OURS, OURS_MORE, MANY, LOOPED)}
    memory = {name: Figure() for name in (OURS, OURS_MORE)}
    for turn in range(repeat):
        console.print(f"[dim]warming, {turn + 1} of {repeat}[/dim]")
        _warm(users, rates[OURS], memory[OURS])
        rates[MANY].add(_django("many", users))
        rates[LOOPED].add(_django("loop", QUICK_LOOP if quick else LOOP))
        if turn < 3:
            _warm(users * TIMES, rates[OURS_MORE], memory[OURS_MORE])
    return _report(rates, memory, users)


def _warm(count: int, rate: Figure, memory: Figure) -> None:
    with tempfile.TemporaryDirectory() as directory, embedded() as server, opened(server.url) as clients:
        _seed(clients, count)
        with worker(server, log=Path(directory) / "worker.log") as processes:
            wait_for_worker(clients)
            _warm_once(server, clients, 0)  # a cold worker opens its connections, and finds nobody: see `_seed`
            seconds = _timed(lambda: _warm_once(server, clients, count))
            rate.add(count / seconds)
            memory.add(processes.memory().pss_mib)
        check_menus(clients.redis, user_ids(count))


def _seed(clients: Clients, count: int) -> None:
    """Make users known, as events would have done."""
    clients.stream.ensure_lanes(["default", "java"])
    users = user_ids(count)
    for at in range(0, count, AT_ONCE):
        known = [KnownUser(user_id, VERSION, role_of(user_id)) for user_id in users[at : at + AT_ONCE]]
        column = clients.users.remembering(known)
        clients.redis.execute_command(*column.first, *column.rows)


def _warm_once(server: EmbeddedRedis, clients: Clients, count: int) -> None:
    """Ask for it by the task's name, as Django would."""
    from celery import Celery  # here, so that the benches without it start at once

    with Celery(broker=server.url, set_as_current=False) as app:
        if not count:
            app.send_task("menus.rebuild", kwargs={"user_ids": []}, queue="default")
            return
        app.send_task("menus.warm", kwargs={"scope": "all"}, queue="default")
    wait_until(lambda: keys_that_expire(clients.redis) >= count, what=f"the menus of {count:,} users")


def _django(how: str, count: int) -> float:
    """Menus a second, by django-redis in a process of its own."""
    with embedded() as server:
        command = [sys.executable, "-m", "benchmarks.apps.django_cache", how, str(count)]
        done = subprocess.run(command, env={**environment(server.url)}, capture_output=True, text=True, check=True)
    return count / float(done.stdout)


def _timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _report(rates: dict[str, Figure], memory: dict[str, Figure], users: int) -> Report:
    data = {name: {"rate": rate.json()} for name, rate in rates.items()}
    for name, figure in memory.items():
        data[name]["pss_mib"] = figure.json()
    report = Report("warming", data=data | {"users": users})
    shown = table(f"Warming the menus of {users:,} users", "how", "users/s", "ours is", "PSS MiB")
    for name, rate in rates.items():
        held = memory[name].text() if name in memory else ""
        shown.add_row(name, rate.text(), f"{rates[OURS].median / rate.median:,.1f}x", held)
    report.tables.append(shown)
    slower = rates[OURS].median / rates[OURS_MORE].median
    growth = memory[OURS_MORE].median / memory[OURS].median
    report.claims = [
        at_least(f"users/s beside {LOOPED}", rates[OURS].median, rates[LOOPED].median, 40),
        at_least(f"users/s beside {MANY}", rates[OURS].median, rates[MANY].median, 3.5),
        Claim(f"{TIMES} times the users", f"{TIMES * slower:,.1f} times the time, wanted 8 to 12", 0.8 <= slower <= 1.2),
        Claim("memory with them", f"{growth:,.2f}x, wanted at most 1.1x", growth <= 1.1),
    ]
    return report
