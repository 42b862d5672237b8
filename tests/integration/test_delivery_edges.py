"""Entries and moments that nobody plans for: none of them is lost, stays pending, or comes again for ever."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Batch, Entry
from connectbot.errors import Later
from connectbot.events import Event, encode, new_event
from connectbot.matching.claims import Wish
from connectbot.redis_client import RedisClient
from connectbot.users import KnownUser, Users
from connectbot.watching import ages
from tasks import menus
from tasks.batch_run import BatchRun
from tasks.work import Received, Work
from tests.support import wait_until
from worker.consumer import LaneConsumer
from worker.routing import ROUTES

LANE, STREAM, CONSUMER = "default", "connectbot:events", "a"
NANOSECONDS = 1_763_900_000_000_000_000


@pytest.fixture(autouse=True)
def registered(ours: Clients) -> None:
    ours.stream.register(LANE, CONSUMER, lease_seconds=60)


def event(type_: str = "user.created", **user: Any) -> Event:
    return new_event(type_, {"user": {"id": 1, **user}}, channel="connectbot:global")


def put(ours: Clients, what: Event, *, id_: str = "*", **fields: str) -> str:
    text = {"type": what.type, "event": encode(what), **fields}
    return str(ours.redis.xadd(STREAM, text, id=id_).decode())


def read(ours: Clients) -> Batch:
    entries = ours.stream.read(LANE, CONSUMER, limit=20_000, wait_seconds=0.01)
    types = tuple(sorted({entry.type for entry in entries}))
    return Batch(LANE, CONSUMER, types, entries[0].id, entries[-1].id, len(entries))


def pending(ours: Clients, lane: str = LANE) -> int:
    return int(ours.redis.xpending(STREAM, lane)["pending"])


def role(ours: Clients) -> str | None:
    user: KnownUser = ours.users.look_up([1])[1]
    return user.role


def test_an_entry_with_too_many_fields_to_be_put_aside_is_a_dead_letter(ours: Clients) -> None:
    def not_yet(ours: Clients, received: Sequence[Received]) -> Effects:
        raise Later("not_yet", delay_seconds=1)

    put(ours, event(), **{f"f{number}": "x" for number in range(5000)})
    BatchRun(ours, read(ours), Work(not_yet)).run()
    assert pending(ours) == 0
    ((_, letter),) = ours.redis.xrange("connectbot:events:dead")
    assert letter[b"reason"] == b"malformed"


def test_ten_thousand_entries_are_acknowledged_at_once(ours: Clients) -> None:
    for _ in range(100):
        ours.publisher.publish(*(event("activity.created") for _ in range(100)))
    entries = ours.stream.read(LANE, CONSUMER, limit=10_000, wait_seconds=0.01)
    ours.stream.commit(LANE, CONSUMER, [entry.id for entry in entries], Effects())
    assert len(entries) == 10_000
    assert pending(ours) == 0


@pytest.mark.parametrize("named", [False, True])
def test_what_is_deleted_while_a_process_dies_over_it_is_not_pending_for_ever(named: bool, ours: Clients) -> None:
    ids = [put(ours, event()) for _ in range(3)]
    batch = read(ours)
    if named:
        batch = Batch(LANE, CONSUMER, batch.types, ids[0], ids[-1], len(ids), tuple(ids))
    ours.redis.xdel(STREAM, ids[1])
    assert [entry.id for entry in ours.stream.redeliver(batch)] == [ids[0], ids[2]]
    assert ours.stream.pending(LANE, CONSUMER, limit=9) == [ids[0], ids[2]]


def test_what_was_handed_back_unbegun_however_often_is_no_suspect(ours: Clients) -> None:
    ids = [put(ours, event()) for _ in range(3)]
    batch = read(ours)
    for consumer in ("first", "second", "third"):
        ours.stream.hand_back(batch)
        assert ours.stream.pending(LANE, batch.consumer, limit=9) == []
        ours.stream.register(LANE, consumer, lease_seconds=60)
        entries = ours.stream.take_over(LANE, consumer, limit=9).entries
        assert [(entry.id, entry.deliveries, entry.deaths) for entry in entries] == [(id_, 1, 0) for id_ in ids]
        batch = Batch(LANE, consumer, batch.types, ids[0], ids[-1], len(ids), tuple(ids))


def test_what_is_finished_and_trimmed_does_not_keep_the_rest_from_being_handed_out_again(ours: Clients) -> None:
    ids = [put(ours, event()) for _ in range(3)]
    batch = read(ours)
    ours.stream.commit(LANE, CONSUMER, ids[:1], Effects())
    ours.redis.xdel(STREAM, ids[0])
    named = Batch(LANE, CONSUMER, batch.types, ids[0], ids[-1], len(ids), tuple(ids))
    assert [entry.id for entry in ours.stream.redeliver(named)] == ids[1:]


def test_a_handler_that_ends_its_process_from_a_thread_ends_it(ours: Clients) -> None:
    def leave(ours: Clients, received: Sequence[Received]) -> Effects:
        raise SystemExit

    entry = put(ours, event())
    read(ours)
    batch = Batch(LANE, CONSUMER, ("user.created",), entry, entry, 1, (entry,))
    with pytest.raises(SystemExit):  # to be seen by the consumer, which hands the entry out again
        BatchRun(ours, batch, Work(leave, one_by_one=True)).run()


def test_a_process_short_of_memory_does_not_end_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def be_short(run: BatchRun) -> int:
        raise MemoryError  # Celery's Request.on_failure lets it end the main process

    monkeypatch.setattr(BatchRun, "run", be_short)
    order = msgspec.to_builtins(Batch(LANE, CONSUMER, ("user.created",), "1-0", "1-0", 1))
    with pytest.raises(RuntimeError, match="memory"):
        menus.follow_users(**order)


def test_ids_made_of_microseconds_keep_the_role_and_the_order(ours: Clients) -> None:
    put(ours, event(role="admin"), id_=f"{NANOSECONDS // 1000}-0")
    BatchRun(ours, read(ours), menus.follow_users.work).run()
    assert role(ours) == "admin"
    put(ours, event("user.deleted"))
    BatchRun(ours, read(ours), menus.follow_users.work).run()
    assert role(ours) is None
    put(ours, event(role="employee"), origin=f"{NANOSECONDS // 1000}-0")
    BatchRun(ours, read(ours), menus.follow_users.work).run()
    assert role(ours) is None, "what was put aside before is older"


def test_ids_made_of_nanoseconds_are_not_trimmed_before_every_lane_has_read_them(ours: Clients) -> None:
    first = NANOSECONDS // 256 * 256 - 120  # numbers that Lua takes for one and the same
    for number in range(240):
        put(ours, event(), id_=f"{first + number}-{240 - number}")
    everything = ours.stream.read(LANE, CONSUMER, limit=240, wait_seconds=0.01)
    ours.stream.commit(LANE, CONSUMER, [entry.id for entry in everything], Effects())
    ours.stream.register("java", "j", lease_seconds=60)
    some = ours.stream.read("java", "j", limit=70, wait_seconds=0.01)
    ours.stream.commit("java", "j", [entry.id for entry in some], Effects())
    ours.stream.trim(keep=10)
    assert len(ours.stream.read("java", "j", limit=240, wait_seconds=0.01)) == 170


def test_trimming_reads_no_entries(ours: Clients, client: RedisClient) -> None:
    for _ in range(20):
        ours.publisher.publish(*(event() for _ in range(100)))
    entries = ours.stream.read(LANE, CONSUMER, limit=2000, wait_seconds=0.01)
    ours.stream.commit(LANE, CONSUMER, [entry.id for entry in entries], Effects())
    client.xgroup_setid(STREAM, "java", "$")
    client.config_resetstat()
    assert 900 <= ours.stream.trim(keep=1000) <= 1000
    assert "cmdstat_xrange" not in client.info("commandstats")


def test_many_thousand_users_can_be_cleared_at_once(ours: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(menus, "clients", lambda: ours)
    assert menus.clear.run(range(100_000)) == 100_000


@pytest.mark.parametrize(("users", "keys"), [(180, 1000), (1, 180_000)])
def test_users_with_very_much_temporary_data_can_be_deleted(users: int, keys: int, ours: Clients) -> None:
    namespaces = [ours.settings.keys.temp_namespace(f"user_{user_id}") for user_id in range(users)]
    for user_id, namespace in enumerate(namespaces):
        for at in range(0, keys, 10_000):
            ours.redis.sadd(namespace, *range(at, min(keys, at + 10_000)))
        put(ours, new_event("user.deleted", {"user": {"id": user_id}}, channel="connectbot:global"))
    BatchRun(ours, read(ours), menus.follow_users.work).run()
    assert pending(ours) == 0
    assert not ours.redis.exists(*namespaces, "connectbot:events:dead")


def test_what_is_too_much_to_be_written_at_once_is_a_dead_letter(ours: Clients) -> None:
    def write(ours: Clients, received: Sequence[Received]) -> Effects:
        effects = Effects()
        for _ in range(400_000):
            effects.add(("INCR", "test:written"))
        return effects

    put(ours, event())
    BatchRun(ours, read(ours), Work(write)).run()
    assert pending(ours) == 0
    assert not ours.redis.exists("test:written")
    ((_, letter),) = ours.redis.xrange("connectbot:events:dead")
    assert letter[b"reason"] == b"too_much_to_write"


def test_ages_whose_sum_is_too_large_to_be_kept_hold_nothing_up(ours: Clients) -> None:
    ours.redis.hset(ours.settings.keys.ages(LANE), ages.SUM, 2**63 - 1)
    put(ours, event(role="admin"), origin="1-0")
    BatchRun(ours, read(ours), menus.follow_users.work).run()
    assert pending(ours) == 0
    assert role(ours) == "admin"
    assert not ours.redis.exists(ours.settings.keys.delayed(LANE))


class Idle:
    """A pool that never comes to its orders."""

    def __init__(self) -> None:
        self.given: list[Batch] = []

    def send(self, order_id: str, task: Any, batch: Batch, *, time_limit_seconds: float) -> None:
        self.given.append(batch)


@pytest.mark.parametrize("inherited", [False, True])
def test_large_events_are_taken_a_few_at_a_time(inherited: bool, ours: Clients) -> None:
    for _ in range(60):
        put(ours, event(note="x" * 1_000_000))
    if inherited:
        read(ours)
        ours.redis.delete(ours.settings.keys.lease(CONSUMER))
    idle = Idle()
    consumer = LaneConsumer(ours, lane=LANE, routes=ROUTES, pool=idle, worker="w", most_in_flight=100)
    consumer.run()
    wait_until(lambda: sum(batch.count for batch in idle.given) == 60, deadline_seconds=20, what="all of them")
    consumer.stop()
    assert max(batch.count for batch in idle.given) <= 16


def test_a_large_estate_is_taken_over_without_waiting_for_the_next_beat(ours: Clients) -> None:
    for _ in range(40):
        ours.publisher.publish(*(event() for _ in range(100)))
    read(ours)
    ours.redis.delete(ours.settings.keys.lease(CONSUMER))
    idle, patient = Idle(), replace(ours, settings=replace(ours.settings, lease_seconds=600))
    consumer = LaneConsumer(patient, lane=LANE, routes=ROUTES, pool=idle, worker="w", most_in_flight=1000)
    consumer.run()
    wait_until(lambda: sum(batch.count for batch in idle.given) == 4000, deadline_seconds=20, what="all of it")
    consumer.stop()


def test_a_lane_keeps_up_with_a_flood_of_events_for_another(ours: Clients, client: RedisClient) -> None:
    for first in range(0, 20_000, 100):
        ours.publisher.publish(*(event(n=n) for n in range(first, first + 100)))
    ours.publisher.publish(new_event("matching.request", {"users": [1, 2]}, channel="connectbot:global"))
    idle = Idle()
    consumer = LaneConsumer(ours, lane="java", routes=ROUTES, pool=idle, worker="w", most_in_flight=1)
    client.config_resetstat()
    consumer.run()
    wait_until(lambda: idle.given, deadline_seconds=20, what="the matching request behind them")
    consumer.stop()
    assert client.info("commandstats")["cmdstat_xreadgroup"]["calls"] < 40, "batches of 64 would make more than 300"


def test_a_consumer_whose_stream_was_deleted_leaves_no_fence(ours: Clients) -> None:
    ours.redis.delete(STREAM)
    ours.stream.leave(LANE, CONSUMER)
    assert not ours.redis.exists(ours.settings.keys.fences(LANE))


def test_who_comes_back_while_the_deleted_are_forgotten_is_not_forgotten(
    ours: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hear(what: Event) -> int:
        put(ours, what)
        return BatchRun(ours, read(ours), menus.follow_users.work).run()

    came_back = []

    def look_up_and_be_late(users: Users, ids: Iterable[int]) -> dict[int, KnownUser]:
        known = look_up(users, ids)
        monkeypatch.setattr(Users, "look_up", look_up)
        came_back.append(hear(event(role="admin")))
        return known

    look_up = Users.look_up
    hear(event("user.deleted"))
    monkeypatch.setattr(Users, "look_up", look_up_and_be_late)
    assert ours.users.forget_deleted(before=time.time() + 1, limit=9) == 1
    assert not came_back or ours.users.look_up([1]), "there was a moment to come back in, and it was forgotten"


def test_connections_that_are_not_trusted_are_all_closed(ours: Clients, client: RedisClient) -> None:
    """What a consumer does after an outage, and a process whose connections lay idle."""

    def connections() -> set[str]:
        return {one["id"] for one in client.client_list()}

    others = connections()
    ours.redis.connection_pool.disconnect()
    put(ours, event())
    batch = read(ours)
    ours.stream.commit(LANE, CONSUMER, [batch.first], Effects())
    ours.publisher.publish(event())
    ours.claims.claim(Wish("r1", b"question"), Entry(batch.first, {}))
    ours.java_gate.call(lambda: None)
    opened = connections() - others
    assert len(opened) >= 5
    ours.distrust_connections()
    wait_until(lambda: not opened & connections(), deadline_seconds=20, what="an end of each of them")
