"""Redis behind sentinels: the master is killed under load, and the work goes on with the replica."""

from __future__ import annotations

import socketserver
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from connectbot.clients import Clients
from connectbot.embedded import HOST, EmbeddedRedis
from connectbot.errors import RedisUnavailable
from connectbot.events import decode, new_event
from connectbot.redis_client import RedisClient, connect
from connectbot.settings import Settings
from tests.failover import Publisher, has_menu, last_tick, running_beat
from tests.redis_servers import PASSWORD, SENTINEL_PASSWORD, ReplicatedRedis
from tests.support import Worker, wait_until


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[ReplicatedRedis]:
    with ReplicatedRedis(tmp_path) as redis:
        yield redis


def in_stream(ours: Clients) -> set[int]:
    rows = ours.redis.xrange(ours.settings.keys.events)
    return {int(decode(fields[b"event"]).user_id or 0) for _, fields in rows}


def test_the_master_dies_under_load(replicated: ReplicatedRedis, tmp_path: Path) -> None:
    settings = Settings(redis_url=replicated.url)
    ours = Clients.open(settings)
    first, second = replicated.servers
    with (
        running_beat(settings, tmp_path) as beat,
        Worker(settings, tmp_path, lanes=["default"]) as worker,
        Publisher(ours) as publisher,
    ):
        worker.wait_ready()
        wait_until(lambda: last_tick(ours), deadline_seconds=20, what="a first tick")
        wait_until(lambda: len(publisher.accepted) > 300, deadline_seconds=20, what="some load")
        first.kill()
        killed_at, accepted_before = time.time(), len(publisher.accepted)
        wait_until(lambda: len(publisher.accepted) > accepted_before + 1, deadline_seconds=15, what="a new master")
        later = publisher.accepted[-1]
        wait_until(lambda: has_menu(ours, later), deadline_seconds=15, what="an effect after the failover")
        wait_until(lambda: last_tick(ours) > killed_at + 1, deadline_seconds=20, what="a tick after the failover")

        replicated.start(first)
        wait_until(lambda: replicated.is_replica(first), deadline_seconds=40, what="the old master as a replica")
        accepted_before = len(publisher.accepted)
        wait_until(lambda: len(publisher.accepted) > accepted_before + 100, deadline_seconds=20, what="more load")
        assert beat.is_alive(), "beat outlives a failover"
        assert worker.is_alive()
        publisher.stop()

        kept = in_stream(ours)
        wait_until(lambda: all(has_menu(ours, user) for user in kept), deadline_seconds=20, what="all the effects")
        lost = [user for user in publisher.accepted if not has_menu(ours, user)]
        assert not kept.intersection(lost), "what replication has saved has its effect"
        assert len(lost) < 50, "only the last moment before the death may be missing"
        assert ours.redis.xlen(settings.keys.dead) == 0
    assert replicated.master() is second
    ours.redis.close()


def test_the_address_needs_the_passwords_of_both(replicated: ReplicatedRedis) -> None:
    for password in (f":{PASSWORD}@", f"?sentinel_password={SENTINEL_PASSWORD}"):
        client = connect(replicated.url.replace(password, ""))
        with pytest.raises(RedisUnavailable):
            Clients.open(Settings(redis_url=replicated.url), client=client).stream.ensure_lanes(["default"])
        client.close()


def test_sentinels_that_are_away_are_asked_once_each() -> None:
    """redis-py's own three tries each, with pauses between them, would hold up everybody for seconds."""
    asked: list[int] = []
    with closing_at_once(asked) as first, closing_at_once(asked) as second:
        ours = Clients.open(Settings(redis_url=f"sentinel://{HOST}:{first},{HOST}:{second}/service/0"))
        with pytest.raises(RedisUnavailable):
            ours.stream.now()
    assert sorted(asked) == sorted([first, second])


@contextmanager
def closing_at_once(asked: list[int]) -> Iterator[int]:
    """A server that ends each connection; it notes its own port for each."""

    class Closes(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(int(self.request.getsockname()[1]))

    with socketserver.TCPServer((HOST, 0), Closes) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def demoted(client: RedisClient, embedded_redis: EmbeddedRedis) -> Iterator[EmbeddedRedis]:
    """The tests' server, for the time of a test a replica of nobody."""
    yield embedded_redis
    client.replicaof("NO", "ONE")


def test_a_server_that_became_a_replica_is_left_at_once(
    demoted: EmbeddedRedis, client: RedisClient, ours: Clients
) -> None:
    ours.stream.ensure_lanes(["default"])
    pool = ours.redis.connection_pool
    client.replicaof(HOST, 1)
    event = new_event("user.login", {}, channel="connectbot:global")
    ours.redis.ping()  # on a connection of its own: the server has closed those it had
    for refused in (
        lambda: ours.publisher.publish(event),  # a script: Redis 6.2 wraps the reason in words of its own
        lambda: ours.cache.set("menu:user:7:main", "b", None),
        lambda: ours.stream.register("default", "me", lease_seconds=1),
    ):
        with pytest.raises(RedisUnavailable):
            refused()
        assert not any(connection.is_connected for connection in pool._get_free_connections())
    client.replicaof("NO", "ONE")
    ours.publisher.publish(event)


@pytest.mark.parametrize(("name", "value", "restored"), [("min-replicas-to-write", "1", "0"), ("maxmemory", "1", "0")])
def test_a_server_that_may_not_write_now_is_unavailable(
    name: str, value: str, restored: str, client: RedisClient, ours: Clients
) -> None:
    client.config_set(name, value)
    event = new_event("user.login", {}, channel="connectbot:global")
    try:
        with pytest.raises(RedisUnavailable):
            ours.publisher.publish(event)
        with pytest.raises(RedisUnavailable):
            ours.cache.set("menu:user:7:main", "b", None)
    finally:
        client.config_set(name, restored)
