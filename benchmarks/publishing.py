"""Publishing: one event and many, durably, beside v21's PUBLISH, which nobody keeps."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import redis
from rich.console import Console

from benchmarks.figures import Figure, Report, at_least, table
from benchmarks.installation import embedded, opened
from benchmarks.work import role_of, user_ids
from connectbot.clients import Clients
from connectbot.integration.events import EventPublisher
from connectbot.integration.site import Site
from connectbot.publisher import user_event
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings

ONE_BY_ONE, QUICK_ONE_BY_ONE = 4_000, 1_000
MANY, QUICK_MANY = 40_000, 10_000
AT_ONCE = 1_000
SHORT_TURNS = 10

OURS_ONE = "publish_user_event"
SPOOLING = "publish_user_event, with a spool"
V21 = "v21's publish"
OURS_MANY = "publish_many"
PIPELINE = f"redis-py pipeline of XADD, {AT_ONCE:,} at once"

Run = Callable[[range], None]


def bench(console: Console, *, quick: bool, repeat: int) -> Report:
    """Measure all of them on one Redis, in many short turns each, so that whatever disturbs one disturbs all."""
    one, many = (QUICK_ONE_BY_ONE, QUICK_MANY) if quick else (ONE_BY_ONE, MANY)
    names = OURS_ONE, SPOOLING, V21, OURS_MANY, PIPELINE
    rates, cpu = ({name: Figure() for name in names} for _ in range(2))
    with embedded() as server, opened(server.url) as clients, _sites(server.url) as (plain, spooling):
        runs: dict[str, tuple[Run, int]] = {
            OURS_ONE: (partial(_ours_one_by_one, plain), one),
            SPOOLING: (partial(_ours_one_by_one, spooling), one),
            V21: (partial(_v21, redis.Redis.from_url(server.url)), one),
            OURS_MANY: (partial(_ours_many, clients), many),
            PIPELINE: (partial(_pipeline, clients), many),
        }
        for turn in range(repeat):
            console.print(f"[dim]publishing, {turn + 1} of {repeat}[/dim]")
            spent = {name: _Spent() for name in runs}
            for _ in range(SHORT_TURNS):
                clients.redis.flushall()  # never anybody else's: this server is ours
                for name, (run, count) in runs.items():
                    run(user_ids(10))
                    with spent[name].measured():
                        run(user_ids(count // SHORT_TURNS))
            for name, (_, count) in runs.items():
                rates[name].add(count / spent[name].seconds)
                cpu[name].add(spent[name].cpu_seconds / count * 1e6)
    return _report(rates, cpu)


@dataclass(slots=True)
class _Spent:
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        began, used = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - began
        self.cpu_seconds += time.process_time() - used


def _data(user_id: int) -> Mapping[str, Any]:
    return {"user": {"id": user_id, "role": role_of(user_id), "username": f"user{user_id}"}}


@contextmanager
def _sites(url: str) -> Iterator[tuple[Site, Site]]:
    """What stands behind the facade in a Django process: without a spool, and with one."""
    with tempfile.TemporaryDirectory() as directory:
        sites = Site(Settings(redis_url=url)), Site(Settings(redis_url=url, spool=f"{directory}/spool"))
        yield sites
        for site in sites:
            site.close()


def _ours_one_by_one(site: Site, users: range) -> None:
    events = EventPublisher.of(lambda: site)
    for user_id in users:
        if not events.publish_user_event(user_id, "user.created", _data(user_id)):
            raise RuntimeError("an event was not published")


def _v21(client: RedisClient, users: range) -> None:
    for user_id in users:
        _v21_publish(client, user_id, _data(user_id))


def _v21_publish(client: RedisClient, user_id: int, data: Mapping[str, Any]) -> None:
    """What v21's publisher does: JSON with the standard library, one PUBLISH."""
    channel = f"connectbot:user:{user_id}"
    event = {
        "id": str(uuid.uuid4()),
        "type": "user.created",
        "data": data,
        "timestamp": datetime.now().isoformat(),  # noqa: DTZ005 - naive, as v21 writes it
        "channel": channel,
        "user_id": user_id,
        "source": "django-connectbot",
    }
    client.publish(channel, json.dumps(event, ensure_ascii=False, default=str))


def _ours_many(clients: Clients, users: range) -> None:
    keys = clients.settings.keys
    events = (user_event(keys, user_id, "user.created", _data(user_id)) for user_id in users)
    if clients.publisher.publish_many(events) != len(users):
        raise RuntimeError("an event was not published")


def _pipeline(clients: Clients, users: range) -> None:
    """The least that can be done: the JSON is ready, nothing is announced, nothing is checked."""
    stream, text = clients.settings.keys.events, json.dumps({"data": _data(users[0])})
    for at in range(0, len(users), AT_ONCE):
        with clients.redis.pipeline(transaction=False) as pipe:
            for _ in users[at : at + AT_ONCE]:
                pipe.xadd(stream, {"type": "user.created", "event": text})
            pipe.execute()


def _report(rates: dict[str, Figure], cpu: dict[str, Figure]) -> Report:
    data = {name: {"rate": rates[name].json(), "cpu_us": cpu[name].json()} for name in rates}
    report = Report("publishing", data=data)
    shown = table("Publishing, one process", "how", "events/s", "beside v21", "CPU µs/event")
    for name, rate in rates.items():
        shown.add_row(name, rate.text(), f"{rate.median / rates[V21].median:,.2f}x", cpu[name].text())
    report.tables.append(shown)
    report.claims = [
        at_least(f"{OURS_ONE} beside {V21}", rates[OURS_ONE].median, rates[V21].median, 1.0),
        at_least(f"{OURS_MANY} beside {V21}", rates[OURS_MANY].median, rates[V21].median, 6.0),
    ]
    return report
