"""Events that their handler cannot stand: they die with their reason, and take none of their neighbours along."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import msgspec

from connectbot.clients import Clients
from connectbot.entries import Batch
from connectbot.events import new_event
from connectbot.settings import Settings
from tasks import matching
from tests.support import Worker, wait_until
from worker.burial import burial
from worker.planning import Order

NEIGHBOURS = 1000
REASONS = {
    "raise": "attempts_exhausted",
    "recurse": "attempts_exhausted",
    "allocate": "attempts_exhausted",
    "later": "attempts_exhausted",
    "never": "not_ever",
    "exit": "killed_its_process",
    "oom": "killed_its_process",
    "loop": "killed_its_process",
}


def user(id_: int, **more: str) -> dict[str, object]:
    return {"user": {"id": id_}, **more}


def test_poison_dies_alone(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, batch_time_limit_seconds=5, max_attempts=2)
    poisons = dict(enumerate(REASONS, start=NEIGHBOURS))
    for id_ in range(NEIGHBOURS):
        ours.publisher.publish_global_event("user.created", user(id_))
        if id_ % 120 == 100:
            ours.publisher.publish_global_event("user.created", user(10_000, poison=poisons.popitem()[1]))
    assert not poisons
    keys = settings.keys
    with Worker(
        settings, tmp_path, lanes=["default"], arguments=["--concurrency=2"], app="tests.poisoned_app"
    ) as worker:
        worker.wait_ready()
        wait_until(
            lambda: ours.redis.hlen(keys.users) == NEIGHBOURS, deadline_seconds=60, what="the neighbours' effects"
        )
        wait_until(lambda: ours.redis.xlen(keys.dead) == len(REASONS), deadline_seconds=60, what="every dead letter")
        wait_until(
            lambda: ours.redis.xpending(keys.events, "default")["pending"] == 0,
            deadline_seconds=20,
            what="nothing pending",
        )
        assert worker.is_alive()
        assert "secret-marker" not in worker.log.read_text()
    assert ours.redis.hlen(keys.users) == NEIGHBOURS
    dead = [fields for _, fields in ours.redis.xrange(keys.dead)]
    assert {_poison_of(fields[b"event"]): fields[b"reason"].decode() for fields in dead} == REASONS
    errors = {_poison_of(fields[b"event"]): fields[b"error"] for fields in dead}
    assert re.fullmatch(rb"MemoryError at tests/poisoned_app\.py:\d+ in _allocate", errors["allocate"])
    assert re.fullmatch(rb"RecursionError at tests/poisoned_app\.py:\d+ in _recurse", errors["recurse"])
    assert {fields[b"attempts"] for fields in dead if fields[b"reason"] == b"attempts_exhausted"} == {b"2"}


def _poison_of(event: bytes) -> str:
    return next(name for name in REASONS if f'"poison":"{name}"'.encode() in event)


def test_an_event_is_not_blamed_for_workers_that_were_killed(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, lease_seconds=1, batch_time_limit_seconds=60)
    ours.publisher.publish_global_event("user.created", user(7, poison="hold"))
    with Worker(settings, tmp_path, lanes=["default"], app="tests.poisoned_app") as worker:
        for delivery in range(1, 6):
            _wait_until_held(ours, times=delivery)
            worker.kill()
            worker.start()
        for process in (6, 7):  # two that die by chance are not enough either
            os.kill(_wait_until_held(ours, times=process), signal.SIGKILL)
        _wait_until_held(ours, times=8)
        ours.redis.set("test:released", 1)
        wait_until(lambda: ours.redis.hlen(settings.keys.users) == 1, deadline_seconds=20, what="the effect")
    assert ours.redis.xlen(settings.keys.dead) == 0


def _wait_until_held(ours: Clients, *, times: int) -> int:
    """The pid of the process that the event has got hold of, when that has happened so often."""
    wait_until(lambda: ours.redis.llen("test:held") == times, deadline_seconds=30, what=f"delivery {times}")
    return int(ours.redis.lindex("test:held", -1))


def test_what_is_put_off_is_tried_again_in_its_own_lane_only(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    event = new_event("user.created", user(7, poison="later"), channel="connectbot:global")
    ours.publisher.publish(event)
    with Worker(settings, tmp_path, lanes=["default"], app="tests.poisoned_app") as worker:
        worker.wait_ready()
        wait_until(lambda: ours.redis.xlen(settings.keys.events) >= 3, deadline_seconds=30, what="two more tries")
    tries = [fields for _, fields in ours.redis.xrange(settings.keys.events)]
    assert [fields.get(b"attempts") for fields in tries[:3]] == [None, b"1", b"2"]
    assert {fields[b"lane"] for fields in tries[1:]} == {b"default"}
    assert len({fields[b"event"] for fields in tries}) == 1


def test_what_another_process_has_finished_does_not_keep_the_others_waiting(
    ours: Clients, settings: Settings, tmp_path: Path
) -> None:
    """A process that is killed for taking too long may still commit something while the next one is at it."""
    for id_ in range(3):
        ours.publisher.publish_global_event("user.created", user(id_, **({"poison": "finished"} if id_ == 0 else {})))
    with Worker(settings, tmp_path, lanes=["default"], app="tests.poisoned_app") as worker:
        worker.wait_ready()
        wait_until(
            lambda: set(ours.redis.hkeys(settings.keys.users)) == {b"1", b"2"}, deadline_seconds=20, what="the others"
        )
        wait_until(
            lambda: ours.redis.xpending(settings.keys.events, "default")["pending"] == 0,
            deadline_seconds=20,
            what="nothing pending",
        )
    assert ours.redis.xlen(settings.keys.dead) == 0


def test_a_matching_request_that_kills_is_told_to_have_failed(ours: Clients) -> None:
    ours.publisher.publish_microservice_event("matching", "matching.request", {"users": [1, 2], "request_id": "r"})
    ours.stream.register("java", "a", lease_seconds=60)
    (entry,) = ours.stream.read("java", "a", limit=9, wait_seconds=0.01)
    order = Order(matching.answer, Batch("java", "a", (entry.type,), entry.id, entry.id, 1, (entry.id,)))
    ours.stream.commit("java", "a", [entry.id], burial(ours, msgspec.structs.replace(entry, deaths=3), order))
    assert ours.redis.xlen(ours.settings.keys.dead) == 1
    _, told = [json.loads(fields[b"event"]) for _, fields in ours.redis.xrange(ours.settings.keys.events)]
    assert (told["type"], told["data"]) == ("matching.failed", {"request_id": "r", "reason": "killed_its_process"})
