"""What is due among much that is not: the cost must follow what is due, not what is stored.

Temporary data and ``temp_data.expire``, beside the sweep that one would write without an index (SCAN and TTL); and
menus that run out soon and ``menus.warm`` (expiring). The tasks are called in this process, without a worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from rich.console import Console

from benchmarks.check import check_menus
from benchmarks.figures import Claim, Figure, Report, at_least, table
from benchmarks.installation import embedded, environment, opened
from benchmarks.warming import VERSION, know
from benchmarks.work import menu_key, user_ids
from connectbot.cache_keys import temp_key
from connectbot.clients import Clients
from connectbot.effects import USERS_IN_A_TABLE
from tasks.menus import warm
from tasks.temp_data import expire

DUE = 1_000
FEW, MUCH, QUICK_MUCH = 10_000, 1_000_000, 100_000
AT_ONCE = 10_000
FAR_SECONDS = 86_400
MOST_SWEEPS = 3
LOOKS_AT_ONCE, LOOKS = 10_000, 300_000
NAMESPACE = "bench"

EXPIRE, SWEEP, WARM = "temp_data.expire", "a sweep with SCAN and TTL", "menus.warm (expiring)"

# A million entries by redis-py would take a minute. KEYS: due, the namespace's keys, users, warm menus.
_FILL = """
for at = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call("SET", ARGV[3] .. at, "stored", "PX", ARGV[4])
  redis.call("ZADD", KEYS[1], ARGV[5], ARGV[6] .. at)
  redis.call("SADD", KEYS[2], at)
  redis.call("HSET", KEYS[3], at, ARGV[7])
  redis.call("ZADD", KEYS[4], ARGV[5], at)
end
"""


# A table that has grown is moved to its new place bit by bit, a bit with each look into it: so many, and it is there.
# How far it is after the filling depends on the server; Valkey's, of a million, were still on their way in every turn.
_LOOK = """
for at = 1, tonumber(ARGV[1]) do
  redis.call("SISMEMBER", KEYS[1], at)
  redis.call("HEXISTS", KEYS[2], at)
end
"""


def bench(console: Console, *, quick: bool, repeat: int) -> Report:
    """Measure with little and with much stored."""
    sizes = (FEW, QUICK_MUCH if quick else MUCH)
    times = {(what, size): Figure() for what in (EXPIRE, WARM, SWEEP) for size in sizes}
    # Filling a million is more than a disk takes at once: Redis may answer late.
    with embedded() as server, opened(f"{server.url}?socket_timeout=60") as clients:
        clients.redis.config_set("auto-aof-rewrite-percentage", 0)  # in the middle of one turn, of whichever it is
        os.environ.update(environment(server.url))  # the tasks open clients of their own
        for size in sizes:
            console.print(f"[dim]expiring: storing {size:,}[/dim]")
            _fill(clients, size)
            _settle(clients)
            clients.redis.swapdb(0, 1)
        for turn in range(repeat + 1):
            console.print(f"[dim]expiring, {turn} of {repeat}[/dim]")
            for size in sizes:  # in turns, so that whatever disturbs one disturbs the other
                runs = {EXPIRE: _expire(clients), WARM: _warm(clients)}
                if turn <= MOST_SWEEPS:
                    runs[SWEEP] = _timed(lambda: _sweep(clients), clients)
                if turn:  # the first one opens connections and loads scripts
                    for what, seconds in runs.items():
                        times[what, size].add(seconds * 1000)
                clients.redis.swapdb(0, 1)
    return _report(times, sizes)


def _fill(clients: Clients, size: int) -> None:
    keys, cache_keys = clients.settings.keys, clients.settings.cache_keys
    fill = clients.redis.register_script(_FILL)
    far, prefix = time.time() + FAR_SECONDS, cache_keys.physical(temp_key(NAMESPACE, ""))
    for at in range(1, size + 1, AT_ONCE):
        fill(
            keys=[keys.temp_due, keys.temp_namespace(NAMESPACE), keys.users, keys.warm_menus],
            args=[
                at, min(size, at + AT_ONCE - 1), prefix, FAR_SECONDS * 1000, far, f"{NAMESPACE}\x1f",
                f"{VERSION} employee",
            ],
        )  # fmt: skip


def _settle(clients: Clients) -> None:
    keys, look = clients.settings.keys, clients.redis.register_script(_LOOK)
    for _ in range(0, LOOKS, LOOKS_AT_ONCE):
        look(keys=[keys.temp_namespace(NAMESPACE), keys.users], args=[LOOKS_AT_ONCE])


def _expire(clients: Clients) -> float:
    """Let some data be due, whose keys Redis has expired already, and take it out."""
    keys, past = clients.settings.keys, time.time() - 1
    members = [f"{NAMESPACE}\x1fdue-{number}" for number in range(DUE)]
    clients.redis.zadd(keys.temp_due, dict.fromkeys(members, past))
    clients.redis.sadd(keys.temp_namespace(NAMESPACE), *(f"due-{number}" for number in range(DUE)))
    clients.redis.delete(keys.events)
    seconds = _timed(expire, clients)
    if clients.redis.xlen(keys.events) != DUE:
        raise RuntimeError(f"{clients.redis.xlen(keys.events)} events of {DUE}")
    return seconds


def _warm(clients: Clients) -> float:
    """Let the menus of some users run out in a minute, and warm them."""
    keys, users = clients.settings.keys, user_ids(DUE)
    know(clients, users)
    with clients.redis.pipeline(transaction=False) as pipe:
        for user_id in users:
            pipe.pexpire(menu_key(user_id), 60_000)
        for at in range(0, DUE, USERS_IN_A_TABLE):  # as a batch of events puts them down
            pipe.zadd(keys.warm_menus, {" ".join(map(str, users[at : at + USERS_IN_A_TABLE])): time.time() + 60})
        pipe.execute()
    seconds = _timed(lambda: warm("expiring"), clients)
    check_menus(clients.redis, users)
    return seconds


def _sweep(clients: Clients) -> int:
    """What there is to do without an index: look at every key."""
    pattern, cursor, due = clients.settings.cache_keys.physical(temp_key("*", "")), 0, 0
    while True:
        cursor, found = clients.redis.scan(cursor, match=f"{pattern}*", count=1000)
        with clients.redis.pipeline(transaction=False) as pipe:
            for key in found:
                pipe.ttl(key)
            due += sum(left < 0 for left in pipe.execute())
        if not cursor:
            return due


def _timed(what: Callable[[], object], clients: Clients) -> float:
    clients.redis.ping()
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _report(times: dict[tuple[str, int], Figure], sizes: tuple[int, int]) -> Report:
    few, much = sizes
    data = {what: {f"{size}": times[what, size].json() for size in sizes} for what in (EXPIRE, SWEEP, WARM)}
    report = Report("expiring", data={**data, "due": DUE})
    shown = table(f"{DUE:,} due among what is stored, in ms", "what", *(f"{size:,} stored" for size in sizes))
    for what in (EXPIRE, WARM, SWEEP):
        shown.add_row(what, *(times[what, size].text("{:,.1f}") for size in sizes))
    report.tables.append(shown)
    for what in (EXPIRE, WARM):
        mine, swept = times[what, much].median, times[SWEEP, much].median
        ratio = mine / times[what, few].median
        measured = f"{ratio:,.2f}x the time, wanted 0.7 to 1.3"
        report.claims += [
            Claim(f"{what}, {much:,} stored beside {few:,}", measured, 0.7 <= ratio <= 1.3),
            at_least(f"{what} beside {SWEEP}, {much:,} stored", swept, mine, 300 * much / MUCH),
        ]
    return report
