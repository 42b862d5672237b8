"""A large batch is committed in parts, each while the next is worked out: each event counts once, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import redis

from connectbot.batch_reader import BatchReader
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Batch
from connectbot.errors import FenceLost, Later, RedisUnavailable
from connectbot.events import encode, new_event
from connectbot.redis_client import RedisClient
from tasks.batch_run import PART, BatchRun
from tasks.work import Received, Work
from tests.support import wait_until

LANE, CONSUMER = "default", "a"
EVENTS = 2 * PART + 200
DONE, OTHER = "connectbot:test:done", "connectbot:test:other"

Seen = Callable[[Clients, Sequence[Received]], None]


def received(ours: Clients, *, malformed: Collection[int] = ()) -> Batch:
    """The order for as many events; those of the given numbers hold no JSON."""
    ours.stream.register(LANE, CONSUMER, lease_seconds=60)
    with ours.redis.pipeline(transaction=False) as pipe:
        for n in range(EVENTS):
            event = encode(new_event("user.updated", {"n": n}, channel="connectbot:global"))
            pipe.xadd("connectbot:events", {"type": "user.updated", "event": "{" if n in malformed else event})
        pipe.execute()
    entries = ours.stream.read(LANE, CONSUMER, limit=EVENTS, wait_seconds=0.01)
    assert len(entries) == EVENTS
    return Batch(LANE, CONSUMER, ("user.updated",), entries[0].id, entries[-1].id, EVENTS)


@pytest.fixture
def batch(ours: Clients) -> Batch:
    return received(ours)


def counting(seen: Seen = lambda ours, received: None) -> Work:
    """Counts each event under its number, after ``seen`` has looked at what the handler is given."""

    def count(ours: Clients, received: Sequence[Received]) -> Effects:
        seen(ours, received)
        effects = Effects()
        effects.add(*(("HINCRBY", DONE, str(one.event.data["n"]), 1) for one in received))
        return effects

    return Work(count)


def done(ours: Clients) -> dict[int, int]:
    return {int(number): int(times) for number, times in ours.redis.hgetall(DONE).items()}


def once_each(ours: Clients, *, but: Collection[int] = ()) -> bool:
    return done(ours) == {number: 1 for number in range(EVENTS) if number not in but}


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


def failing(culprit: int) -> Work:
    """Counts each event but this one."""

    def fail(ours: Clients, received: Sequence[Received]) -> None:
        if any(one.event.data["n"] == culprit for one in received):
            raise Later("not_yet", delay_seconds=60)

    return counting(fail)


@pytest.mark.parametrize("culprit", [0, PART - 1, PART, PART + 7, EVENTS - 1])
def test_an_event_that_fails_in_any_part_is_put_off_alone(culprit: int, ours: Clients, batch: Batch) -> None:
    BatchRun(ours, batch, failing(culprit)).run()
    assert once_each(ours, but=[culprit])
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
    assert once_each(ours, but=[PART + 7])
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
    assert done(ours) == dict.fromkeys(range(EVENTS - inherited), 1)


def test_the_next_part_is_asked_for_before_this_one_is_given(ours: Clients, batch: Batch, client: RedisClient) -> None:
    def asked() -> int:
        return int(client.info("commandstats").get("cmdstat_xrange", {"calls": 0})["calls"])

    before, parts = asked(), ours.stream.fetch_each(batch, limit=PART)
    assert len(next(parts)) == PART
    wait_until(lambda: asked() == before + 2, deadline_seconds=10, what="the second question")
    assert [len(part) for part in parts] == [PART, EVENTS - 2 * PART]


def test_who_reads_no_further_leaves_no_answer_behind(ours: Clients, batch: Batch) -> None:
    for part in ours.stream.fetch_each(batch, limit=PART):
        assert len(part) == PART
        break
    assert len(ours.stream.fetch(batch)) == EVENTS


def test_what_was_deleted_from_any_part_is_acknowledged(ours: Clients, batch: Batch) -> None:
    ids, gone = [entry.id for entry in ours.stream.fetch(batch)], [0, PART, PART + 1, EVENTS - 1]
    ours.redis.xdel("connectbot:events", *(ids[number] for number in gone))
    BatchRun(ours, batch, counting()).run()
    assert pending(ours) == 0
    assert ours.redis.hget(ours.settings.keys.counters, "deleted_entries") == b"4"
    assert once_each(ours, but=gone)


@pytest.mark.parametrize("numbers", [range(1), range(PART, PART + 1), range(PART, 2 * PART), range(EVENTS)], ids=str)
def test_what_cannot_be_read_is_buried_and_the_rest_is_done(numbers: range, ours: Clients) -> None:
    BatchRun(ours, received(ours, malformed=numbers), counting()).run()
    assert pending(ours) == 0
    assert ours.redis.xlen(ours.settings.keys.dead) == len(numbers)
    assert once_each(ours, but=numbers)


def test_an_event_may_fail_after_a_part_that_cannot_be_read(ours: Clients) -> None:
    unreadable, culprit = range(PART), EVENTS - 1
    BatchRun(ours, received(ours, malformed=unreadable), failing(culprit)).run()
    assert once_each(ours, but=[*unreadable, culprit])
    assert pending(ours) == 0


def test_nothing_is_left_out_when_a_burial_fails(ours: Clients) -> None:
    batch = received(ours, malformed=[PART])
    ours.redis.set(ours.settings.keys.dead, "no stream")
    with pytest.raises(redis.ResponseError):
        BatchRun(ours, batch, counting()).run()
    assert pending(ours) == EVENTS - len(done(ours))


def test_nothing_is_left_out_when_a_part_cannot_be_read(
    ours: Clients, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, asked = BatchReader._answer, count()

    def fail(reader: BatchReader, *args: Any) -> list[Any]:
        if next(asked) == 1:
            raise MemoryError
        return answer(reader, *args)

    monkeypatch.setattr(BatchReader, "_answer", fail)
    with pytest.raises(MemoryError):
        BatchRun(ours, batch, counting()).run()
    assert pending(ours) == EVENTS - len(done(ours)) > 0


def test_after_a_failure_every_connection_is_back(ours: Clients, batch: Batch) -> None:
    def fail(ours: Clients, received: Sequence[Received]) -> None:
        if received[0].event.data["n"] == PART:
            raise RedisUnavailable("by now")

    with pytest.raises(RedisUnavailable) as kept:  # and with it the frames that it went through
        BatchRun(ours, batch, counting(fail)).run()
    pool = ours.redis.connection_pool
    assert kept.value
    assert len(pool._connections) - len(pool._get_free_connections()) == 1, "that of commits, which stays at hand"


@pytest.mark.parametrize("most", [1, 2])
def test_a_pool_of_few_connections_is_enough(most: int, ours: Clients, batch: Batch) -> None:
    few = Clients.open(replace(ours.settings, redis_url=f"{ours.settings.redis_url}?max_connections={most}"))
    BatchRun(few, batch, counting()).run()
    assert once_each(ours)
    few.redis.close()
    few.java.close()


def test_a_batch_can_not_be_read_while_redis_is_away(ours: Clients, batch: Batch) -> None:
    away = Clients.open(replace(ours.settings, redis_url="redis://127.0.0.1:1/0"))
    for unread in (batch, replace(batch, ids=(batch.first,))):
        with pytest.raises(RedisUnavailable):
            away.stream.fetch(unread)


def test_few_events_among_many_others_are_one_part(ours: Clients) -> None:
    ours.stream.register(LANE, CONSUMER, lease_seconds=60)
    for n in range(EVENTS):
        type_ = "user.updated" if n % 100 == 0 else "matching.request"
        ours.publisher.publish(new_event(type_, {"n": n}, channel="connectbot:global"))
    entries = ours.stream.read(LANE, CONSUMER, limit=EVENTS, wait_seconds=0.01)
    sizes: list[int] = []
    work = counting(lambda ours, received: sizes.append(len(received)))
    few = EVENTS // 100
    BatchRun(ours, Batch(LANE, CONSUMER, ("user.updated",), entries[0].id, entries[-1].id, few), work).run()
    assert sizes == [few]
