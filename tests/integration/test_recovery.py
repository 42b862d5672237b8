"""Workers die; events do not."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.entries import Batch
from connectbot.errors import RedisUnavailable
from connectbot.events import new_event
from connectbot.settings import Settings
from tests.counting_app import EFFECTS
from tests.support import Worker, wait_until
from worker.appetite import AT_ONCE_BYTES
from worker.consumer import LaneConsumer
from worker.orders import End, open_orders
from worker.routing import ROUTES

EVENTS = 20_000
SLOW_EVENTS = 5_000


@pytest.fixture
def slow(settings: Settings) -> Settings:
    """Settings with which a worker of `tests.counting_app` has something left to do whenever it is stopped."""
    return replace(settings, batch_size=100)


def publish_users(ours: Clients, count: int) -> None:
    for first in range(0, count, 500):
        ours.publisher.publish(
            *(
                new_event("user.created", {"user": {"id": id_}}, channel="connectbot:global", user_id=id_)
                for id_ in range(first, min(first + 500, count))
            )
        )


def known(ours: Clients) -> int:
    return int(ours.redis.hlen(ours.settings.keys.users))


def pending(ours: Clients) -> int:
    return int(ours.redis.xpending(ours.settings.keys.events, "default")["pending"])


def publish_slow_work(ours: Clients) -> None:
    """For workers of `tests.counting_app`, whose task takes its time: all might be done before they are stopped."""
    for first in range(0, SLOW_EVENTS, 500):
        ours.publisher.publish(
            *(
                new_event("user.updated", {"user": {"id": id_, "role": "admin"}}, channel="connectbot:global")
                for id_ in range(first, first + 500)
            )
        )


def slowly_done(ours: Clients) -> int:
    return int(ours.redis.hlen(EFFECTS))


def test_a_worker_killed_in_the_middle_of_its_work_loses_nothing(ours: Clients, slow: Settings, tmp_path: Path) -> None:
    publish_slow_work(ours)
    arguments = ["--concurrency=2"]
    with Worker(slow, tmp_path, lanes=["default"], app="tests.counting_app", arguments=arguments) as worker:
        for share in (0.1, 0.4, 0.7):
            wait_until(
                lambda share=share: slowly_done(ours) > SLOW_EVENTS * share, deadline_seconds=60, what="some effects"
            )
            worker.kill()
            assert slowly_done(ours) < SLOW_EVENTS, "it was killed too late to show anything"
            worker.start()
        wait_until(lambda: slowly_done(ours) == SLOW_EVENTS, deadline_seconds=60, what="every effect")
        wait_until(lambda: pending(ours) == 0, deadline_seconds=30, what="nothing pending")
    assert set(ours.redis.hvals(EFFECTS)) == {b"1"}
    menus = [ours.settings.cache_keys.physical(f"menu:user:{id_}:main") for id_ in range(SLOW_EVENTS)]
    assert ours.redis.exists(*menus) == SLOW_EVENTS
    assert ours.redis.xlen(ours.settings.keys.dead) == 0


def test_a_worker_whose_loop_breaks_ends_at_once_and_others_do_its_work(
    ours: Clients, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery stays, waiting for a pool that nobody listens to, and the consumers would take what they cannot do."""
    fault = tmp_path / "fault"
    monkeypatch.setenv("CONNECTBOT_TEST_FAULT", str(fault))
    publish_users(ours, EVENTS)
    with Worker(settings, tmp_path, lanes=["default"], app="tests.faulty_app", arguments=["--concurrency=2"]) as broken:
        wait_until(lambda: known(ours) > 0, deadline_seconds=30, what="some effects")
        for child in Path(f"/proc/{broken.pid}/task/{broken.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGSTOP)  # in the middle of its work, so that it does not end by itself
        fault.write_text("break")
        wait_until(lambda: not broken.is_alive(), deadline_seconds=20, what="the end of the worker")
        assert known(ours) < EVENTS, "it was broken too late to show anything"
        with Worker(settings, tmp_path, lanes=["default"], name="heir"):
            wait_until(lambda: known(ours) == EVENTS, deadline_seconds=60, what="every effect")
            wait_until(lambda: pending(ours) == 0, deadline_seconds=30, what="nothing pending")


def test_a_worker_asked_to_stop_hands_back_what_it_has_not_begun(ours: Clients, slow: Settings, tmp_path: Path) -> None:
    publish_slow_work(ours)
    with Worker(slow, tmp_path, lanes=["default"], app="tests.counting_app") as worker:
        for _ in range(4):
            done = slowly_done(ours)
            wait_until(lambda done=done: slowly_done(ours) > done, deadline_seconds=60, what="some effects")
            worker.terminate(deadline_seconds=20)
            assert not list(ours.redis.scan_iter(slow.keys.lease("*"))), "others would have to wait for its lease"
            assert slowly_done(ours) < SLOW_EVENTS, "it was asked too late to show anything"
            worker.start()
        wait_until(lambda: slowly_done(ours) == SLOW_EVENTS, deadline_seconds=60, what="every effect")
        wait_until(lambda: pending(ours) == 0, deadline_seconds=30, what="nothing pending")
    assert set(ours.redis.hvals(EFFECTS)) == {b"1"}


def test_what_a_dead_consumer_held_is_done_by_a_living_worker(
    ours: Clients, settings: Settings, tmp_path: Path
) -> None:
    ours.stream.register("default", "ghost", lease_seconds=60)
    publish_users(ours, 5000)
    assert len(ours.stream.read("default", "ghost", limit=10, wait_seconds=0.01)) == 10
    with Worker(settings, tmp_path, lanes=["default"]) as worker:
        worker.wait_ready()
        wait_until(lambda: known(ours) == 4990, deadline_seconds=30, what="every effect but those of the living ghost")
        ours.redis.delete(ours.settings.keys.lease("ghost"))
        wait_until(lambda: known(ours) == 5000, deadline_seconds=15, what="every effect")
        assert ours.redis.hkeys(ours.settings.keys.fences("default")) != []
        assert b"ghost" not in ours.redis.hkeys(ours.settings.keys.fences("default"))


def test_a_worker_that_stops_with_nothing_to_do_leaves_nothing_behind(ours: Clients, worker: Worker) -> None:
    publish_users(ours, 10)
    wait_until(lambda: known(ours) == 10 and pending(ours) == 0, deadline_seconds=20, what="the effects")
    worker.terminate()
    assert ours.redis.hlen(ours.settings.keys.fences("default")) == 0
    assert ours.redis.xinfo_consumers(ours.settings.keys.events, "default") == []
    assert not list(ours.redis.scan_iter("default.*")), "the queue of its orders is left behind"


def test_only_one_lane_reads_what_only_one_needs(ours: Clients, worker: Worker) -> None:
    publish_users(ours, 10)
    wait_until(lambda: known(ours) == 10, deadline_seconds=20, what="the effects")
    assert ours.redis.xpending(ours.settings.keys.events, "java")["pending"] == 0


@pytest.mark.parametrize("how", ["restart", "freeze"])
def test_work_goes_on_after_redis_was_away(
    how: str, ours: Clients, worker: Worker, embedded_redis: EmbeddedRedis
) -> None:
    server = embedded_redis
    publish_users(ours, 100)
    wait_until(lambda: known(ours) == 100, deadline_seconds=20, what="the first effects")
    if how == "restart":
        server.kill()
        server.start()
    else:
        server.freeze()
        server.thaw()
    wait_until(lambda: _published(ours), deadline_seconds=20, what="publishing again")
    wait_until(lambda: known(ours) == 101, deadline_seconds=30, what="an effect after the outage")


def _published(ours: Clients) -> bool:
    event = new_event("user.created", {"user": {"id": 100}}, channel="connectbot:global")
    return ours.publisher.publish_global_event(event.type, event.data)


def test_an_outage_is_told_once_however_long_it_lasts(
    ours: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[str] = []

    def be_away(*lanes: str) -> None:
        attempts.append("one")
        raise RedisUnavailable("nobody takes the connection")

    monkeypatch.setattr(ours.stream, "ensure_lanes", be_away)
    consumer = LaneConsumer(ours, lane="default", routes=ROUTES, pool=LossyPool(), worker="w", most_in_flight=1)
    consumer.run()
    wait_until(lambda: len(attempts) >= 4, deadline_seconds=20, what="some attempts")
    monkeypatch.undo()
    wait_until(lambda: ours.redis.hlen(ours.settings.keys.fences("default")), deadline_seconds=20, what="the end of it")
    consumer.stop()
    assert caplog.text.count("begins anew: nobody takes the connection") == 1


def test_what_no_process_has_begun_with_is_given_to_others_while_the_rest_is_finished(ours: Clients) -> None:
    publish_users(ours, 10)
    pool, heir_pool = LossyPool(), LossyPool()
    leaving = LaneConsumer(ours, lane="default", routes=ROUTES, pool=pool, worker="w", most_in_flight=2)
    leaving.run()
    wait_until(lambda: pool.lost, deadline_seconds=20, what="an order")
    begun = pool.lost[0]
    open_orders.begin(pool.order_ids[0], os.getpid())
    publish_users(ours, 7)
    wait_until(lambda: len(pool.lost) == 2, deadline_seconds=20, what="another order")
    leaving.drain()
    heir = LaneConsumer(ours, lane="default", routes=ROUTES, pool=heir_pool, worker="h", most_in_flight=9)
    heir.run()
    wait_until(lambda: sum(batch.count for batch in heir_pool.lost) == 7, deadline_seconds=20, what="the other order")
    assert len(ours.stream.pending("default", begun.consumer, limit=20)) == 10
    leaving.stop()
    wait_until(lambda: sum(batch.count for batch in heir_pool.lost) == 17, deadline_seconds=20, what="the first order")
    heir.stop()


class FailingPool:
    """Every task fails, as one would whose commit Redis refuses."""

    def send(self, order_id: str, task: Any, batch: Batch, *, time_limit_seconds: float) -> None:
        open_orders.close(order_id, End.FAILED)


def test_who_cannot_get_anything_done_leaves_it_to_others_for_longer_and_longer(
    ours: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = list[float]()
    consumer = LaneConsumer(ours, lane="default", routes=ROUTES, pool=FailingPool(), worker="w", most_in_flight=1)
    monkeypatch.setattr(consumer, "_pause", pauses.append)
    publish_users(ours, 10)
    consumer.run()
    wait_until(lambda: len(pauses) >= 7, deadline_seconds=20, what="some attempts")
    consumer.stop()
    assert pauses[:6] == [0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


class LossyPool:
    """Loses every order, as Celery does with those that are on their way when its connection breaks."""

    def __init__(self) -> None:
        self.lost: list[Batch] = []
        self.order_ids: list[str] = []

    def send(self, order_id: str, task: Any, batch: Batch, *, time_limit_seconds: float) -> None:
        self.lost.append(batch)
        self.order_ids.append(order_id)


def test_large_events_that_follow_on_small_ones_are_worked_on_a_few_at_a_time(ours: Clients) -> None:
    size = ours.settings.max_event_bytes // 2
    publish_users(ours, 16 + 64 + 256)  # as many as are read when nothing is known of them, and then the most more
    with ours.redis.pipeline(transaction=False) as pipe:
        for _ in range(100):
            pipe.xadd(ours.settings.keys.events, {"type": "user.created", "event": b"x" * size})
        pipe.execute()
    pool = LossyPool()
    consumer = LaneConsumer(ours, lane="default", routes=ROUTES, pool=pool, worker="w", most_in_flight=100)
    consumer.run()
    wait_until(lambda: sum(batch.count for batch in pool.lost) == 436, deadline_seconds=30, what="an order for each")
    consumer.stop()
    assert [batch.count for batch in pool.lost[:3]] == [16, 64, 256]
    assert max(batch.count * size for batch in pool.lost[3:]) <= AT_ONCE_BYTES


def test_an_order_that_celery_has_lost_is_not_remembered_for_ever(ours: Clients) -> None:
    publish_users(ours, 10)
    pool = LossyPool()
    consumer = LaneConsumer(ours, lane="default", routes=ROUTES, pool=pool, worker="w", most_in_flight=1)
    consumer.run()
    wait_until(lambda: pool.lost, deadline_seconds=20, what="an order")
    consumer.stop()
    assert not open_orders._listeners
    assert pending(ours) == 10
