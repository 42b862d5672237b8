"""Our connection to the broker, where it differs from kombu's."""

from __future__ import annotations

import time
from queue import Empty

import pytest

from connectbot.embedded import EmbeddedRedis
from connectbot.settings import Settings
from tests.support import wait_until
from worker.broker import LONGEST_PAUSE_SECONDS, Connection, kombu_url, transport_options


def test_an_acknowledgement_on_a_closed_channel_is_a_lost_connection(settings: Settings) -> None:
    """kombu's own answer is an AttributeError, which ends a worker."""
    with Connection(kombu_url(settings.redis_url)) as connection:
        queue = connection.SimpleQueue("java")
        queue.put({"a": 1})
        message = queue.get(timeout=5)
        message.channel.do_restore = False  # as in a worker that has lost its connection
        message.channel.close()
        assert message.channel.connection is None
        with pytest.raises(connection.connection_errors, match="closed when its connection was lost"):
            message.ack()


def test_a_broker_that_is_away_is_asked_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _: None)
    connection = Connection("redis://127.0.0.1:1/0")
    with pytest.raises(connection.connection_errors):
        connection.ensure_connection(
            lambda _, pause: pauses.append(pause), max_retries=5, reraise_as_library_errors=False
        )
    assert set(pauses) == {LONGEST_PAUSE_SECONDS}
    connection.release()


def test_where_one_connection_is_dead_those_that_lie_idle_are_dropped(
    settings: Settings, embedded_redis: EmbeddedRedis
) -> None:
    """Each would cost the worker's main loop the time in which an answer may come."""
    options = transport_options(settings.redis_url, visibility_timeout_seconds=60)
    with Connection(kombu_url(settings.redis_url), transport_options=options) as connection:
        queue = connection.SimpleQueue("java")
        with pytest.raises(Empty):
            queue.get(timeout=0.1)  # it still waits for an answer, on a connection of its own
        idle = queue.channel.pool._available_connections
        queue.channel._create_client().ping()
        assert [one for one in idle if one.is_connected]
        embedded_redis.freeze()
        poller = connection.transport.cycle

        def are_dropped() -> bool:
            poller.maybe_check_brpop_health()
            return not [one for one in idle if one.is_connected]

        wait_until(are_dropped, deadline_seconds=20, what="the end of the connections")
        embedded_redis.thaw()
