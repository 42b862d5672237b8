"""A broker of its own (CELERY_BROKER_URL) that answers, and does not serve: who is told, and what goes on by itself."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.events import new_event
from connectbot.redis_client import RedisClient, connect
from connectbot.settings import Settings
from connectbot.watching.diagnosis import Diagnosis
from connectbot.watching.processes import Process, Processes
from tests.probes import probes_of
from tests.support import LANES, Worker, environment, wait_until
from worker.cli import connectbot
from worker.health import STUCK_SECONDS, Health, RedisWatch
from worker.pulse import Pulses


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "broker") as server:
        yield server


@pytest.fixture
def apart(settings: Settings, broker: EmbeddedRedis) -> Settings:
    return dataclasses.replace(settings, celery_broker_url=broker.url)


@pytest.fixture
def queues(broker: EmbeddedRedis) -> Iterator[RedisClient]:
    client = connect(broker.url)
    yield client
    client.close()


def want_replicas(queues: RedisClient) -> None:
    queues.config_set("min-replicas-to-write", 1)


def become_a_replica(queues: RedisClient) -> None:
    queues.replicaof("127.0.0.1", 1)


def be_full(queues: RedisClient) -> None:
    queues.rpush("default", *[b"." * 1000] * 1000)
    queues.config_set("maxmemory", queues.info("memory")["used_memory"] - 1)


@pytest.mark.parametrize(
    ("spoil", "name", "cause"),
    [
        (want_replicas, "broker_refuses_writes", "The broker's Redis refuses all that is written to it: NOREPLICAS"),
        (become_a_replica, "broker_is_replica", "CELERY_BROKER_URL names a replica, which takes no writes."),
        (be_full, "broker_memory_full", "The broker's Redis uses 10"),
    ],
)
def test_check_names_a_broker_that_takes_no_writes(
    spoil: Callable[[RedisClient], None], name: str, cause: str, apart: Settings, ours: Clients, queues: RedisClient
) -> None:
    ours.redis.xadd(ours.settings.keys.dead, {"type": "user.created", "event": "{}"})
    assert "dead_letters" in {problem.name for problem in Diagnosis(apart, LANES).problems()}
    spoil(queues)
    [told] = [problem for problem in Diagnosis(apart, LANES).problems() if not problem.is_advice]
    assert (told.name, told.stops_all) == (name, True), "what follows from it is left out"
    assert told.cause.startswith(cause)


def test_check_names_a_redis_that_takes_no_writes(settings: Settings, ours: Clients, client: RedisClient) -> None:
    client.config_set("min-replicas-to-write", 1)
    try:
        [told] = [problem for problem in Diagnosis(settings, LANES).problems() if not problem.is_advice]
    finally:
        client.config_set("min-replicas-to-write", 0)
    assert told.name == "refuses_writes"
    assert told.cause.startswith("Redis refuses all that is written to it: NOREPLICAS")


def test_check_names_a_broker_that_may_lose_tasks(tmp_path: Path, settings: Settings, ours: Clients) -> None:
    config = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru", "appendonly": "no"}
    with EmbeddedRedis(tmp_path / "careless", config=config) as server:
        careless = dataclasses.replace(settings, celery_broker_url=server.url)
        done = CliRunner().invoke(connectbot, ["check", "--json"], env=environment(careless))
    told = {problem["name"]: problem["cause"] for problem in json.loads(done.stdout)["problems"]}
    assert done.exit_code == 1
    assert told["broker_may_evict"].startswith("The broker's Redis may drop tasks when its memory is full")
    assert told["broker_keeps_nothing"] == "The broker's Redis loses tasks when it restarts (appendonly no)."


def test_to_wait_for_a_broker_that_refuses_is_no_reason_to_be_restarted(
    apart: Settings, ours: Clients, queues: RedisClient
) -> None:
    pulses = Pulses()
    watch = RedisWatch(apart, Process(role="worker", name="it@here", pid=1))
    health = Health(pulses, watch, lanes=[])
    want_replicas(queues)
    watch.run()
    wait_until(lambda: "NOREPLICAS" in watch.fault, deadline_seconds=10, what="the refusal")
    pulses.of("event loop of Celery").moved_at = time.monotonic() - 2 * STUCK_SECONDS
    assert not health.why_not_alive()
    assert health.why_not_ready()[0].startswith("the broker's Redis cannot serve this now: NOREPLICAS")
    watch.stop()


def test_a_worker_waits_for_its_broker_and_goes_on(
    apart: Settings, ours: Clients, queues: RedisClient, tmp_path: Path
) -> None:
    with Worker(apart, tmp_path, arguments=["--concurrency=1", "--without-mingle"]) as worker:
        worker.wait_ready()
        probed = probes_of(apart, "worker")
        probed.turns_green("readyz")
        want_replicas(queues)
        wait_until(
            lambda: "the broker's Redis cannot serve" in probed.says("readyz"),
            deadline_seconds=20,
            what="/readyz naming the broker",
        )
        ours.publisher.publish(new_event("user.created", {"user": {"id": 7}}, channel="connectbot:global"))
        queues.config_set("min-replicas-to-write", 0)
        probed.turns_green("readyz")
        wait_until(lambda: ours.menus.get(7, "main"), deadline_seconds=30, what="the effect")


def test_check_and_stats_tell_of_a_schedule_that_waits_in_a_long_queue(
    apart: Settings, ours: Clients, queues: RedisClient
) -> None:
    for lane in LANES:
        ours.stream.register(lane, f"{lane}.somebody", lease_seconds=60)
    for process in (
        Process(role="beat", name="it@here", pid=1),
        Process(role="worker", name="it@here", pid=2, lanes=LANES),
    ):
        Processes(ours.redis, apart.keys).note(process)
    ours.redis.set(apart.keys.last_tick, repr(time.time() - 100))
    queues.lpush("default", *["{}"] * 600)
    queues.lpush("default\x06\x163", "{}")
    [told] = [problem for problem in Diagnosis(apart, LANES).problems() if not problem.is_advice]
    assert told.name == "ticks_wait"
    assert told.cause.endswith(" ago: what beat sends waits in Celery's queue default, where tasks wait: 601.")
    shown = CliRunner().invoke(connectbot, ["stats"], env=environment(apart))
    assert "default 601, java 0" in shown.stdout
    done = CliRunner().invoke(connectbot, ["stats", "--json"], env=environment(apart))
    assert json.loads(done.stdout)["tasks_waiting"] == {"default": 601, "java": 0}
