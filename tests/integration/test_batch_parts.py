"""A large batch is committed in parts, each while the next is worked out: each event counts once, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Batch
from connectbot.errors import FenceLost, Later
from connectbot.events import new_event
from connectbot.redis_client import RedisClient
from tasks.batch_run import PART, BatchRun
from tasks.work import Received, Work

LANE, CONSUMER = "default", "a"
EVENTS = 2 * PART + 200
DONE, OTHER = "connectbot:test:done", "connectbot:test:other"

Seen = Callable[[Clients, Sequence[Received]], None]


@pytest.fixture
def batch(ours: Clients) -> Batch:
    ours.stream.register(LANE, CONSUMER, lease_seconds=60)
    for first in range(0, EVENTS, 100):
        numbers = range(first, first + 100)
        ours.publisher.publish(*(new_event("user.updated", {"n": n}, channel="connectbot:global") for n in numbers))
    entries = ours.stream.read(LANE, CONSUMER, limit=EVENTS, wait_seconds=0.01)
    assert len(entries) == EVENTS
    return Batch(LANE, CONSUMER, ("user.updated",), entries[0].id, entries[-1].id, EVENTS)


def counting(seen: Seen = lambda ours, received: None) -> Work:
    """Counts each event under its number, after ``seen`` has looked at what the handler is given."""

    def count(ours: Clients, received: Sequence[Received]) -> Effects:
        seen(ours, received)
        effects = Effects()
        effects.add(*(("HINCRBY", DONE, str(one.event.data["n"]), 1) for one in received))
        return effects

    return Work(count)


def once_each(ours: Clients, *, but: int | None = None) -> bool:
    done = {int(number): int(times) for number, times in ours.redis.hgetall(DONE).items()}
    return done == {number: 1 for number in range(EVENTS) if number != but}


def pending(ours: Clients) -> int:
    return int(ours.redis.xpending("connectbot:events", LANE)["pending"])


def test_the_next_part_is_worked_out_while_redis_commits(ours: Clients, batch: Batch, client: RedisClient) -> None:
    committed_by_then = []

    def look(ours: Clients, received: Sequence[Received]) -> None:
        if received[0].event.data["n"] == 0:
            client.client_pause(5_000, all=False)  # what writes has to wait
        else:
            committed_by_then.append(ours.redis.hlen(DONE))
            client.client_unpause()

    try:
        BatchRun(ours, batch, counting(look)).run()
    finally:
        client.client_unpause()
    assert committed_by_then[0] == 0
    assert once_each(ours)
    assert pending(ours) == 0


@pytest.mark.parametrize("culprit", [0, PART - 1, PART, PART + 7, EVENTS - 1])
def test_an_event_that_fails_in_any_part_is_put_off_alone(culprit: int, ours: Clients, batch: Batch) -> None:
    def fail(ours: Clients, received: Sequence[Received]) -> None:
        if any(one.event.data["n"] == culprit for one in received):
            raise Later("not_yet", delay_seconds=60)

    BatchRun(ours, batch, counting(fail)).run()
    assert once_each(ours, but=culprit)
    assert pending(ours) == 0
    assert ours.redis.zcard(ours.settings.keys.delayed(LANE)) == 1


def test_what_redis_refuses_in_one_part_keeps_no_other_back(ours: Clients, batch: Batch) -> None:
    ours.redis.set(OTHER, "no hash")

    def count(ours: Clients, received: Sequence[Received]) -> Effects:
        effects = Effects()
        if any(one.event.data["n"] == PART + 7 for one in received):
            effects.add(("HINCRBY", OTHER, "1", 1))
        effects.extend(counting().handle(ours, received))
        return effects

    BatchRun(ours, batch, Work(count)).run()
    assert once_each(ours, but=PART + 7)
    assert pending(ours) == 0


def test_what_an_heir_takes_between_two_parts_is_left_to_it(ours: Clients, batch: Batch) -> None:
    def die(ours: Clients, received: Sequence[Received]) -> None:
        if received[0].event.data["n"] == 2 * PART:
            ours.redis.delete(ours.settings.keys.lease(CONSUMER))
            ours.stream.register(LANE, "heir", lease_seconds=60)
            ours.stream.take_over(LANE, "heir", limit=EVENTS)

    with pytest.raises(FenceLost):
        BatchRun(ours, batch, counting(die)).run()
    inherited = len(ours.stream.pending(LANE, "heir", limit=EVENTS))
    assert inherited in (EVENTS - PART, EVENTS - 2 * PART)
    done = {int(number): int(times) for number, times in ours.redis.hgetall(DONE).items()}
    assert done == dict.fromkeys(range(EVENTS - inherited), 1)
