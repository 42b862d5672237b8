"""Listening to pub/sub: what is ours is passed over, and a connection that died silently is noticed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectbot import listener as listening
from connectbot.embedded import EmbeddedRedis
from connectbot.errors import RedisUnavailable
from connectbot.listener import MOST_AT_ONCE, Listener, Message
from connectbot.redis_client import RedisClient
from tests.support import wait_until


@pytest.fixture
def listener(client: RedisClient) -> Iterator[Listener]:
    """One that listens to ``news:*`` and passes over what ends with an exclamation mark."""
    with Listener(client, patterns=["news:*", "more"], ignoring=b"!") as listener:
        yield listener


def test_what_is_published_is_heard_but_for_what_is_ours(client: RedisClient, listener: Listener) -> None:
    for channel, text in (("news:1", "a"), ("news:2", "b!"), ("more", "c"), ("other", "d")):
        client.publish(channel, text)
    messages: list[Message] = []
    ignored = 0
    while len(messages) + ignored < 3:
        heard = listener.hear(wait_seconds=5)
        messages += heard.messages
        ignored += heard.ignored
    assert messages == [Message(b"news:1", b"a"), Message(b"more", b"c")]
    assert ignored == 1


def test_a_flood_is_heard_in_portions(client: RedisClient, listener: Listener) -> None:
    with client.pipeline(transaction=False) as pipe:
        for number in range(2 * MOST_AT_ONCE + 1):
            pipe.publish("news:1", f"{number}")
        pipe.execute()
    heard: list[bytes] = []
    while len(heard) < 2 * MOST_AT_ONCE + 1:
        messages = listener.hear(wait_seconds=5).messages
        assert len(messages) <= MOST_AT_ONCE
        heard += [message.text for message in messages]
    assert heard == [b"%d" % number for number in range(2 * MOST_AT_ONCE + 1)]


def test_silence_where_nothing_is_said_is_no_fault(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PING_SECONDS", 0.01)
    monkeypatch.setattr(listening, "SILENCE_SECONDS", 0.5)
    for _ in range(100):
        assert not listener.hear(wait_seconds=0.02).messages


def listen_for_ever(listener: Listener) -> None:
    while True:
        listener.hear(wait_seconds=0.1)


def test_a_redis_that_does_not_answer_is_noticed(
    listener: Listener, embedded_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "SILENCE_SECONDS", 0.3)
    embedded_redis.freeze()
    try:
        with pytest.raises(RedisUnavailable, match="silent"):
            listen_for_ever(listener)
    finally:
        embedded_redis.thaw()


def test_a_redis_that_is_gone_is_noticed(
    client: RedisClient, listener: Listener, embedded_redis: EmbeddedRedis
) -> None:
    embedded_redis.kill()
    with pytest.raises(RedisUnavailable):
        listen_for_ever(listener)
    with pytest.raises(RedisUnavailable), Listener(client, patterns=["news:*"], ignoring=b"!"):
        pass


def test_its_connection_is_of_no_use_to_others(client: RedisClient) -> None:
    with Listener(client, patterns=["news:*"], ignoring=b"!"):
        assert client.pubsub_numpat() == 1
    wait_until(lambda: client.pubsub_numpat() == 0, deadline_seconds=5, what="the subscription to end")
    assert client.ping()


def test_what_came_before_its_connection_ended_is_heard(
    client: RedisClient, listener: Listener, embedded_redis: EmbeddedRedis
) -> None:
    client.publish("news:1", "a")
    client.publish("news:1", "b")
    assert client.ping(), "by now both are on their way"
    embedded_redis.kill()
    assert [message.text for message in listener.hear(wait_seconds=5).messages] == [b"a", b"b"]
    with pytest.raises(RedisUnavailable):
        listener.hear(wait_seconds=5)
