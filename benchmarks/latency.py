"""From publishing to the effect, at a hundred events a second: ours beside plain Celery.

Redis itself tells when a menu is written (keyspace notifications), so that nothing has to be looked for.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from celery import Celery
from rich.console import Console

from benchmarks.figures import Figure, Report, at_most, percentile, table
from benchmarks.installation import embedded, environment, opened, publish_text, wait_for_worker, wait_until, worker
from benchmarks.process import Processes
from benchmarks.systems import CELERY, OURS, SYSTEMS
from benchmarks.work import event_texts, menu_key, user_ids
from connectbot.embedded import EmbeddedRedis
from connectbot.redis_client import connect

PER_SECOND = 100
WARM_UP_EVENTS = 50
SECONDS, QUICK_SECONDS = 10, 3

Publish = Callable[[str], object]


class Watch:
    """Notes when each menu is written. A thread of its own, so that reading does not wait for publishing."""

    def __init__(self, redis_url: str) -> None:
        self._client = connect(redis_url, socket_timeout=None)
        self._client.config_set("notify-keyspace-events", "E$")
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe("__keyevent@*__:set")
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self.written: dict[bytes, float] = {}
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(Exception):  # the server ends under it
            for message in self._pubsub.listen():
                self.written.setdefault(message["data"], time.perf_counter())


@contextlib.contextmanager
def _ours(server: EmbeddedRedis, directory: Path) -> Iterator[Publish]:
    with opened(server.url) as clients, worker(server, log=directory / "worker.log"):
        wait_for_worker(clients)
        yield lambda text: publish_text(clients, text)


@contextlib.contextmanager
def _celery(server: EmbeddedRedis, directory: Path) -> Iterator[Publish]:
    command = next(system.worker for system in SYSTEMS if system.name == CELERY)
    log = directory / "worker.log"
    with (
        Processes([sys.executable, *command], copies=1, environment=environment(server.url), log=log),
        Celery(broker=server.url, set_as_current=False) as app,
    ):
        # The task itself is in the worker, and wants its environment when it is imported.
        yield app.task(name="bench.on_event", ignore_result=True)(_not_here).delay


def _not_here(text: str) -> None:
    raise NotImplementedError


def bench(console: Console, *, quick: bool, repeat: int) -> Report:
    """Measure both, in turn."""
    found = {name: {percent: Figure() for percent in (50, 99)} for name in (OURS, CELERY)}
    for turn in range(repeat):
        for name, start in ((OURS, _ours), (CELERY, _celery)):
            console.print(f"[dim]latency, {turn + 1} of {repeat}: {name}[/dim]")
            with tempfile.TemporaryDirectory() as directory, embedded() as server:
                watch = Watch(server.url)
                with start(server, Path(directory)) as publish:
                    waits = _waits(publish, watch, count=(QUICK_SECONDS if quick else SECONDS) * PER_SECOND)
            for percent, figure in found[name].items():
                figure.add(percentile(waits, percent) * 1000)
    return _report(found)


def _waits(publish: Publish, watch: Watch, *, count: int) -> list[float]:
    """How long each of the effects took, in seconds, when events come one by one at a steady pace."""
    texts = list(event_texts(count + WARM_UP_EVENTS))
    keys = [menu_key(user_id).encode() for user_id in user_ids(len(texts))]
    sent: dict[bytes, float] = {}
    began = time.perf_counter()
    for number, (key, text) in enumerate(zip(keys, texts, strict=True)):
        if number == WARM_UP_EVENTS:  # everybody is up, and has every connection open
            wait_until(lambda: len(watch.written) >= WARM_UP_EVENTS, what="the first effects")
            began = time.perf_counter() - WARM_UP_EVENTS / PER_SECOND
        time.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
        sent[key] = time.perf_counter()
        publish(text)
    wait_until(lambda: all(key in watch.written for key in keys), what="the last effects")
    return [watch.written[key] - sent[key] for key in keys[WARM_UP_EVENTS:]]


def _report(found: dict[str, dict[int, Figure]]) -> Report:
    report = Report("latency")
    for name, figures in found.items():
        report.data[name] = {f"p{percent}_ms": figure.json() for percent, figure in figures.items()}
    shown = table(f"From publishing to the effect, {PER_SECOND} events a second", "system", "p50 ms", "p99 ms")
    for name, figures in found.items():
        shown.add_row(name, figures[50].text("{:,.1f}"), figures[99].text("{:,.1f}"))
    report.tables.append(shown)
    report.claims = [
        at_most(f"p{percent} beside {CELERY}", found[OURS][percent].median, found[CELERY][percent].median, 1.0)
        for percent in (50, 99)
    ]
    return report
