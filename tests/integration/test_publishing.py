"""Publishing one event and many: in order, loudly when there is no room, and on connections that may break."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from connectbot.clients import Clients
from connectbot.embedded import HOST, EmbeddedRedis
from connectbot.errors import BacklogFull, MalformedEvent
from connectbot.events import Event, new_event
from connectbot.publisher import EventPublisher
from connectbot.quick_script import QuickScript
from connectbot.redis_client import RedisClient
from tests.support import ROOT
from worker.chaos.proxy import Proxy

MANY = 350  # more than goes in one part

IN_A_CHILD = """
import os, sys
from connectbot.clients import Clients
from connectbot.settings import Settings
clients = Clients.open(Settings(redis_url=sys.argv[1]))
publish = clients.publisher.publish_user_event
assert publish(1, "test.before", {})
child = os.fork()
answers = [publish(nth, "test.after", {"by": "child" if child == 0 else "parent"}) for nth in range(200)]
if child == 0:
    os._exit(0 if all(answers) else 1)
assert os.waitpid(child, 0)[1] == 0 and all(answers)
"""


def some(count: int, *, data: object = None) -> Iterator[Event]:
    return (new_event("test.event", {"nth": nth, "data": data}, channel="connectbot:global") for nth in range(count))


def published(ours: Clients) -> list[int]:
    texts = [fields[b"event"] for _, fields in ours.redis.xrange(ours.settings.keys.events)]
    return [json.loads(text)["data"]["nth"] for text in texts]


def test_many_are_published_in_their_order_and_announced(ours: Clients, client: RedisClient) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("connectbot:global")
        listener.get_message(timeout=5)
        assert ours.publisher.publish_many(some(MANY)) == MANY
        heard = [json.loads(listener.get_message(timeout=5)["data"])["data"]["nth"] for _ in range(MANY)]
    assert published(ours) == heard == list(range(MANY))
    assert ours.publisher.publish_many([]) == 0


def test_what_does_not_fit_is_refused_with_all_that_comes_after(ours: Clients) -> None:
    publisher = EventPublisher(ours.redis, keys=ours.settings.keys, room=250)
    with pytest.raises(BacklogFull):
        publisher.publish_many(some(MANY))
    assert published(ours) == list(range(200)), "two parts fit"
    assert publisher.publish_many(some(50)) == 50


def test_what_cannot_be_written_stops_the_rest_and_leaves_the_connection_in_step(ours: Clients) -> None:
    events = list(some(MANY))
    events[-1] = new_event("test.event", {"nth": object()}, channel="connectbot:global")
    with pytest.raises(MalformedEvent):
        ours.publisher.publish_many(events)
    assert published(ours) == list(range(300))
    assert ours.publisher.publish_user_event(7, "test.event", {"nth": 1})
    assert published(ours)[-1] == 1


def test_what_would_be_a_dead_letter_for_its_length_is_refused(ours: Clients) -> None:
    long = new_event("test.event", {"nth": "x" * ours.settings.max_event_bytes}, channel="connectbot:global")
    with pytest.raises(MalformedEvent, match="more than CONNECTBOT_MAX_EVENT_BYTES"):
        ours.publisher.publish(long)
    with pytest.raises(MalformedEvent, match="more than CONNECTBOT_MAX_EVENT_BYTES"):
        ours.publisher.publish_many([long])
    assert published(ours) == []


def test_a_script_that_redis_has_forgotten_is_sent_again(ours: Clients, client: RedisClient) -> None:
    for _ in range(2):
        assert ours.publisher.publish_global_event("test.event", {"nth": 7})
        assert ours.publisher.publish_many(some(1)) == 1
        client.script_flush()
    assert published(ours) == [7, 0, 7, 0]


def test_a_script_that_is_forgotten_between_two_parts_is_sent_again(ours: Clients, client: RedisClient) -> None:
    def coming() -> Iterator[Event]:
        for event in some(MANY):
            if event.data["nth"] % 100 == 0:
                client.script_flush()
            yield event

    assert ours.publisher.publish_many(coming()) == MANY
    assert published(ours) == list(range(MANY))


def test_a_connection_that_is_not_trusted_any_more_is_not_waited_for(
    ours: Clients, embedded_redis: EmbeddedRedis
) -> None:
    proxy = Proxy(embedded_redis.port)
    proxy.start()
    clients = Clients.open(replace(ours.settings, redis_url=f"redis://{HOST}:{proxy.port}/0"))
    assert clients.publisher.publish_global_event("test.event", {"nth": 1})
    proxy.silence()
    proxy.resume()
    clients.distrust_connections()
    assert clients.publisher.publish_global_event("test.event", {"nth": 2})
    assert published(ours) == [1, 2]
    clients.redis.close()
    clients.java.close()
    proxy.stop()


def test_of_a_pool_that_was_limited_no_connection_is_held_back(ours: Clients) -> None:
    one = Clients.open(replace(ours.settings, redis_url=f"{ours.settings.redis_url}?max_connections=1"))
    for _ in range(2):
        assert one.publisher.publish_global_event("test.event", {"nth": 1})
        assert one.publisher.publish_many(some(1)) == 1
        assert one.redis.ping()
    one.redis.close()
    one.java.close()


def test_a_thread_of_a_child_never_sees_the_connection_of_the_parent(
    ours: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched(QuickScript):
        """Lets a second thread take a connection whenever the first has changed something."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if is_child:
                taken.append(self._connection())

    is_child, taken = False, []
    script = Watched(ours.redis, "publish")
    parents = script._connection()
    script._release(parents)
    monkeypatch.setattr("os.getpid", lambda: -1)
    is_child = True
    taken.append(script._connection())
    assert len(taken) > 1
    assert parents not in taken


def test_a_connection_that_redis_has_closed_is_replaced(ours: Clients, client: RedisClient) -> None:
    for _ in range(3):
        assert ours.publisher.publish_global_event("test.event", {"nth": 7})
        client.client_kill_filter(_type="normal", skipme=True)
    assert published(ours) == [7, 7, 7]


def test_the_answer_to_an_event_is_waited_for_awake(ours: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, look = [], type(ours.redis.connection_pool.make_connection()).is_worth_reading
    monkeypatch.setattr("connectbot.redis_client._Polled.is_worth_reading", lambda self: looks.append(1) or look(self))
    monkeypatch.setattr("connectbot.spin_wait.SPIN_SECONDS", 10)
    assert ours.publisher.publish_global_event("test.event", {"nth": 1})
    looks.clear()
    assert ours.publisher.publish_global_event("test.event", {"nth": 2})
    assert len(looks) > 1, "one is whether the connection still lives"


def test_a_redis_that_was_away_is_published_to_when_it_is_back(ours: Clients, embedded_redis: EmbeddedRedis) -> None:
    assert ours.publisher.publish_global_event("test.event", {"nth": 1})
    embedded_redis.kill()
    assert not ours.publisher.publish_global_event("test.event", {"nth": 2})
    embedded_redis.start()
    assert ours.publisher.publish_global_event("test.event", {"nth": 3})
    assert published(ours) == [1, 3]


def test_an_answer_that_comes_too_late_is_nobodys(
    ours: Clients, embedded_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectbot.redis_client.ANSWER_TIMEOUT_SECONDS", 0.2)
    hasty = Clients.open(ours.settings)
    assert hasty.publisher.publish_global_event("test.event", {"nth": 1})
    embedded_redis.freeze()
    assert not hasty.publisher.publish_global_event("test.event", {"nth": 2})
    embedded_redis.thaw()
    full = EventPublisher(hasty.redis, keys=hasty.settings.keys, room=1)
    for _ in range(3):
        with pytest.raises(BacklogFull):
            full.publish(*some(1))
        assert hasty.publisher.publish_global_event("test.event", {"nth": 3})
    hasty.redis.close()
    hasty.java.close()


def test_a_child_never_uses_the_connections_of_its_parent(ours: Clients, redis_url: str) -> None:
    command = [sys.executable, "-c", IN_A_CHILD, redis_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert ours.redis.xlen(ours.settings.keys.events) == 401


def test_a_trace_that_cannot_be_written_is_left_out(ours: Clients) -> None:
    traced = Clients.open(replace(ours.settings, trace="1"))
    event = next(some(1))
    (key,), _ = traced.tracer.scripted([event])
    ours.redis.set(key, "no stream")
    traced.publisher.publish(event)
    assert published(ours) == [0]
    traced.redis.close()
    traced.java.close()


def test_what_is_no_stream_is_answered_false_and_told(ours: Clients, caplog: pytest.LogCaptureFixture) -> None:
    ours.redis.set(ours.settings.keys.events, "no stream")
    assert ours.publisher.publish_user_event(7, "test.event", {"nth": 1}) is False
    assert "(test.event) was not published" in caplog.text
    assert "WRONGTYPE" in caplog.text


def test_no_data_is_published_as_none_and_what_is_no_data_is_answered_false(
    ours: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    no_data: Any = 5
    assert ours.publisher.publish_user_event(7, "test.event", None) is True
    assert ours.publisher.publish_global_event("test.event", None) is True
    assert ours.publisher.publish_microservice_event("matching", "test.event", None) is True
    assert ours.publisher.publish_global_event("test.event", no_data) is False
    assert ours.redis.xlen(ours.settings.keys.events) == 3
    assert "(test.event) was not published: data must be a dict, and is of type" in caplog.text


def test_traced_events_are_published_in_parts_too(ours: Clients) -> None:
    traced = Clients.open(replace(ours.settings, trace="1"))
    assert traced.publisher.publish_many(some(MANY)) == MANY
    assert published(ours) == list(range(MANY))
    traced.redis.close()
    traced.java.close()
