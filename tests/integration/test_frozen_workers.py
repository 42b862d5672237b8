"""Workers that hang for long, and go on as if nothing had been: zombies change nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from connectbot.clients import Clients
from connectbot.events import new_event
from connectbot.settings import Settings
from tests.counting_app import BEGUN, EFFECTS
from tests.support import Worker, wait_until

USERS = 300
EVENTS = 4500
FREEZE_SECONDS = float(os.environ.get("CONNECTBOT_TEST_FREEZE_SECONDS", "0"))
"""They are frozen until all is done without them, and at least so long."""


def test_frozen_workers_that_go_on_change_nothing(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    # Small batches, so that each has some of them; and patience, so that the frozen ones' processes live to try it.
    patient = replace(settings, batch_size=50, batch_time_limit_seconds=90)
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(patient, tmp_path, name)) for name in ("one", "two", "three")]
        for worker in workers:
            worker.wait_ready()
        publish(ours, 0)
        wait_until(lambda: effects(ours), deadline_seconds=20, what="the first effects")
        zombies = workers[:2]
        wait_until(lambda: caught_at_work(ours, zombies), deadline_seconds=20, what="two workers in their work")
        thaw_at = time.monotonic() + FREEZE_SECONDS
        names = consumers(ours, zombies)
        publish(ours, EVENTS)  # newer words about the same users
        wait_until(lambda: len(effects(ours)) == 2 * EVENTS, deadline_seconds=60, what="all effects, by the third")
        wait_until(lambda: time.monotonic() > thaw_at, deadline_seconds=FREEZE_SECONDS + 1, what="the thaw")
        assert not set(names) & fences(ours)
        for zombie in zombies:
            zombie.thaw()
        for zombie in zombies:
            wait_until(lambda zombie=zombie: is_refused(zombie), deadline_seconds=30, what="a refused commit")
        publish(ours, 2 * EVENTS)
        wait_until(lambda: len(effects(ours)) == 3 * EVENTS, deadline_seconds=60, what="the effects after the thaw")
    assert set(effects(ours).values()) == {1}
    assert set(counts(ours, BEGUN).values()) > {1}, "nothing was begun twice: it shows nothing"
    newest = {user: f"role-{3 * EVENTS - USERS + user}" for user in range(USERS)}
    assert roles(ours) == newest
    assert ours.redis.xlen(settings.keys.dead) == 0


def _worker(settings: Settings, directory: Path, name: str) -> Worker:
    arguments = ["--concurrency=2"]
    return Worker(settings, directory, lanes=["default"], arguments=arguments, name=name, app="tests.counting_app")


def publish(ours: Clients, first: int) -> None:
    """As many events again, each with a role that tells its number."""
    for start in range(first, first + EVENTS, 500):
        ours.publisher.publish(
            *(
                new_event(
                    "user.updated",
                    {"user": {"id": number % USERS, "role": f"role-{number}"}},
                    channel="connectbot:global",
                    event_id=str(number),
                )
                for number in range(start, start + 500)
            )
        )


def counts(ours: Clients, key: str) -> dict[int, int]:
    return {int(event): int(count) for event, count in ours.redis.hgetall(key).items()}


def effects(ours: Clients) -> dict[int, int]:
    return counts(ours, EFFECTS)


def roles(ours: Clients) -> dict[int, str]:
    """The roles for which the users' menus were made."""
    found = {user: ours.menus.get(user, "main") for user in range(USERS)}
    return {user: menu["data"]["role"] for user, menu in found.items() if menu}


def consumers(ours: Clients, workers: Sequence[Worker]) -> list[str]:
    """The consumers of the workers: their names tell the process."""
    names = [row["name"].decode() for row in ours.redis.xinfo_consumers(ours.settings.keys.events, "default")]
    return [name for name in names if any(f".{worker.pid}." in name for worker in workers)]


def caught_at_work(ours: Clients, workers: Sequence[Worker]) -> bool:
    """Freeze them, and let them go on again should one not be in the middle of its work just now."""
    for worker in workers:
        worker.freeze()
    names = consumers(ours, workers)
    if len(names) == len(workers) and all(is_at_work(ours, name) for name in names):
        return True
    for worker in workers:
        worker.thaw()
    return False


def is_at_work(ours: Clients, consumer: str) -> bool:
    """Whether it holds events that were begun and not committed."""
    held = ours.stream.pending("default", consumer, limit=EVENTS)
    if not held:
        return False
    entries = ours.redis.xrange(ours.settings.keys.events, held[0], held[-1])
    events = [json.loads(fields[b"event"])["id"] for id_, fields in entries if id_.decode() in held]
    return any(ours.redis.hmget(BEGUN, events))


def fences(ours: Clients) -> set[str]:
    return {name.decode() for name in ours.redis.hkeys(ours.settings.keys.fences("default"))}


def is_refused(worker: Worker) -> bool:
    return "batch given up" in worker.log.read_text(errors="replace")
