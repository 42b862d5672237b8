"""Events that their handler cannot stand: they die with their reason, and take none of their neighbours along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from connectbot.clients import Clients
from connectbot.events import new_event
from connectbot.settings import Settings
from tests.support import Worker, wait_until

NEIGHBOURS = 1000
REASONS = {
    "raise": "attempts_exhausted",
    "recurse": "attempts_exhausted",
    "allocate": "attempts_exhausted",
    "later": "attempts_exhausted",
    "never": "not_ever",
    "exit": "killed_its_process",
    "loop": "killed_its_process",
}


def user(id_: int, **more: str) -> dict[str, object]:
    return {"user": {"id": id_}, **more}


def test_poison_dies_alone(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, batch_time_limit_seconds=2, max_attempts=2)
    poisons = dict(enumerate(REASONS, start=NEIGHBOURS))
    for id_ in range(NEIGHBOURS):
        ours.publisher.publish_global_event("user.created", user(id_))
        if id_ % 140 == 100:
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
    assert {fields[b"attempts"] for fields in dead if fields[b"reason"] == b"attempts_exhausted"} == {b"2"}


def _poison_of(event: bytes) -> str:
    return next(name for name in REASONS if f'"poison":"{name}"'.encode() in event)


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
