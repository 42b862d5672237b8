"""A Redis that answers, but not what a worker needs, or that is not there at all: work goes on as soon as it can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connectbot.clients import Clients
from connectbot.errors import RedisUnavailable
from connectbot.events import new_event
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from tasks import process
from tests.support import Worker, wait_until
from worker.chaos.schedule import WIPES, Attack, Kind
from worker.chaos.target import OwnRedis

EVENTS = 20_000
WORDS = {
    Kind.REDIS_READONLY: "replica",
    Kind.REDIS_OOM: "used memory > 'maxmemory'",
    Kind.REDIS_LOADING: "the broker is away",
    Kind.REDIS_KILL: "the broker is away",
    Kind.REDIS_FLUSH: "begins anew",
}
"""What the log says of each. Who notices a flush first is chance: the reader, or a task whose fence is gone."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Redis for one test, which may be attacked."""
    server = OwnRedis(tmp_path / "redis", proxied=False)
    server.start()
    yield server
    server.stop()


def publish_users(ours: Clients, first: int, last: int) -> None:
    for start in range(first, last, 500):
        ours.publisher.publish(
            *(
                new_event("user.created", {"user": {"id": id_}}, channel="connectbot:global", user_id=id_)
                for id_ in range(start, min(start + 500, last))
            )
        )


def known(ours: Clients) -> int:
    return int(ours.redis.hlen(ours.settings.keys.users))


@pytest.mark.parametrize("kind", WORDS)
def test_work_goes_on_and_nothing_is_lost(kind: Kind, server: OwnRedis, tmp_path: Path) -> None:
    ours = Clients.open(Settings(redis_url=server.url))
    with Worker(ours.settings, tmp_path, lanes=["default"]) as worker:
        worker.wait_ready()
        publish_users(ours, 0, EVENTS)
        server.attack(Attack(kind, pause_seconds=0, lasts_seconds=2.0))
        publish_users(ours, EVENTS, EVENTS + 10)
        owed = 10 if kind in WIPES else EVENTS + 10
        wait_until(lambda: known(ours) >= owed, deadline_seconds=30, what="every effect")
        wait_until(lambda: nothing_pending(ours), deadline_seconds=20, what="nothing pending")
        log = worker.log.read_text()
    assert ours.redis.xlen(ours.settings.keys.dead) == 0
    assert WORDS[kind] in log
    assert "unexpected error" not in log
    assert "Error on" not in log, "Celery's parts have begun anew without one"
    assert log.count("mingle: searching") == 1, "to mingle again would cost a second"
    assert log.count("the broker is away") <= 1, "it is said once"
    assert "Frequent restarts" not in log
    ours.redis.close()


def nothing_pending(ours: Clients) -> bool:
    return int(ours.redis.xpending(ours.settings.keys.events, "default")["pending"]) == 0


def test_an_emptied_redis_is_one_line_in_the_log(server: OwnRedis, tmp_path: Path) -> None:
    ours = Clients.open(Settings(redis_url=server.url))
    with Worker(ours.settings, tmp_path, lanes=["default"]) as worker:
        worker.wait_ready()
        before = len(worker.log.read_text())
        server.attack(Attack(Kind.REDIS_FLUSH, pause_seconds=0))
        publish_users(ours, 0, 10)
        wait_until(lambda: known(ours) == 10, deadline_seconds=20, what="the effects")
        log = worker.log.read_text()[before:]
    warnings = [line for line in log.splitlines() if '"level":"info"' not in line]
    assert len(warnings) == 1, warnings
    assert "came back empty, or was flushed" in warnings[0]
    ours.redis.close()


def test_a_consumer_of_a_new_name_is_served_by_new_connections(ours: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its predecessor ended over an outage: connections of a pool process may be half-open since then."""
    monkeypatch.setattr(process, "clients", lambda: ours)
    pool = ours.redis.connection_pool
    ours.redis.ping()
    process.clients_for("default", "first")
    assert not any(connection.is_connected for connection in pool._get_free_connections())
    ours.redis.ping()
    process.clients_for("default", "first")
    process.clients_for("java", "other")
    ours.redis.ping()
    process.clients_for("default", "first")
    assert any(connection.is_connected for connection in pool._get_free_connections())
    process.clients_for("default", "second")
    assert not any(connection.is_connected for connection in pool._get_free_connections())
    process._consumers.clear()


@pytest.mark.parametrize("published", [0, 1], ids=["nothing published since", "published since"])
def test_a_group_that_is_gone_is_an_outage(ours: Clients, client: RedisClient, published: int) -> None:
    """Reading and working: both begin anew after it, which makes the group again."""
    client.flushall()
    publish_users(ours, 0, published)  # the stream is there again, its groups are not: Redis says so in other words
    with pytest.raises(RedisUnavailable, match="came back empty"):
        ours.stream.read("default", "me", limit=1, wait_seconds=0.01)
    with pytest.raises(RedisUnavailable, match="came back empty"):
        ours.stream.pending("default", "me", limit=1)
    with pytest.raises(RedisUnavailable, match="came back empty"):
        ours.stream.take_over("default", "me", limit=1)
    if published:
        with pytest.raises(RedisUnavailable, match="came back empty"):
            ours.stream.register("default", "me", lease_seconds=1)
