"""Publishing one event and many: in order, loudly when there is no room, and on connections that may break."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.errors import BacklogFull, MalformedEvent
from connectbot.events import Event, new_event
from connectbot.publisher import EventPublisher
from connectbot.redis_client import RedisClient
from tests.support import ROOT

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
    publisher = EventPublisher(ours.stream, keys=ours.settings.keys, room=250)
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


def test_a_script_that_redis_has_forgotten_is_sent_again(ours: Clients, client: RedisClient) -> None:
    for _ in range(2):
        assert ours.publisher.publish_global_event("test.event", {"nth": 7})
        assert ours.publisher.publish_many(some(1)) == 1
        client.script_flush()
    assert published(ours) == [7, 0, 7, 0]


def test_a_connection_that_redis_has_closed_is_replaced(ours: Clients, client: RedisClient) -> None:
    for _ in range(3):
        assert ours.publisher.publish_global_event("test.event", {"nth": 7})
        client.client_kill_filter(_type="normal", skipme=True)
    assert published(ours) == [7, 7, 7]


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
    full = EventPublisher(hasty.stream, keys=hasty.settings.keys, room=1)
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


def test_traced_events_are_published_in_parts_too(ours: Clients) -> None:
    traced = Clients.open(replace(ours.settings, trace="1"))
    assert traced.publisher.publish_many(some(MANY)) == MANY
    assert published(ours) == list(range(MANY))
    traced.redis.close()
    traced.java.close()
