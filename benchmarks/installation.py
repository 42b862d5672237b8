"""Our own side of a measurement: an embedded Redis, the settings that lead to it, and a worker."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.peers import ROOT
from benchmarks.process import Processes
from benchmarks.systems import OURS, SYSTEMS, ours_environment
from benchmarks.work import chunks, event_texts
from connectbot import events
from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.settings import Settings

PATIENCE_SECONDS: Final = 90.0
REDIS_CONFIG: Final = {"client-output-buffer-limit": "pubsub 0 0 0", "auto-aof-rewrite-min-size": "4gb"}
"""A listener of v21 must not be thrown out for being slow: that would be another measurement. And whoever's turn it is
when Redis writes its append-only file anew (from 64 MB on: every two seconds at these rates) would have one core less.
"""


class TooSlow(Exception):
    """What was waited for did not happen."""


def wait_until(condition: Callable[[], object], *, what: str, poll_seconds: float = 0.01) -> None:
    """Ask again and again. Raises `TooSlow`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TooSlow(f"not within {PATIENCE_SECONDS:g} s: {what}")
        time.sleep(poll_seconds)


def environment(redis_url: str) -> Mapping[str, str]:
    """What every measured process finds in its environment."""
    return {
        **ours_environment(redis_url),
        "CELERY_BROKER_URL": "",
        "BENCH_REDIS_URL": redis_url,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def embedded(config: Mapping[str, str] = REDIS_CONFIG) -> Iterator[EmbeddedRedis]:
    """A Redis for one measurement: append-only file, synchronized every second. An empty ``config`` is as shipped."""
    with EmbeddedRedis(config=config) as server:
        yield server


@contextmanager
def opened(redis_url: str) -> Iterator[Clients]:
    """Our clients, with the menus that the worker keeps warm."""
    clients = Clients.open(Settings(redis_url=redis_url, warm_menus=("main",)))
    try:
        yield clients
    finally:
        clients.redis.close()
        clients.java.close()


def worker(server: EmbeddedRedis, *, log: Path) -> Processes:
    """The real worker: ``celery -A worker worker -Q default -c 2``."""
    command = next(system.worker for system in SYSTEMS if system.name == OURS)
    # Not from the project's own folder: its .env must not count.
    return Processes([sys.executable, *command], copies=1, environment=environment(server.url), log=log)


def wait_for_worker(clients: Clients) -> None:
    """Until it holds its lease: from then on it takes events."""
    pattern = clients.settings.keys.lease("*")
    wait_until(lambda: next(clients.redis.scan_iter(pattern, count=1000), None), what="a worker's lease")


def publish(clients: Clients, count: int, *, at_once: int = 500) -> None:
    """The events of a run, through our publisher."""
    clients.stream.ensure_lanes(["default", "java"])
    for chunk in chunks(event_texts(count), at_once):
        clients.publisher.publish(*(_event(text) for text in chunk))


def publish_text(clients: Clients, text: str) -> None:
    """One event, as a site publishes it."""
    clients.publisher.publish(_event(text))


def _event(text: str) -> events.Event:
    found = json.loads(text)
    return events.new_event(
        found["type"], found["data"], channel=found["channel"], user_id=found["user_id"], event_id=found["id"]
    )
