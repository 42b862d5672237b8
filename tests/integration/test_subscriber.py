"""Hearing events on v21's channels: each handler its own, no longer than asked, through restarts of Redis."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from connectbot.embedded import EmbeddedRedis
from connectbot.integration import EventSubscriber, RedisIntegration
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from tests.support import wait_until

Heard = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def subscriber(settings: Settings) -> Iterator[EventSubscriber]:
    subscriber = EventSubscriber(settings)
    yield subscriber
    subscriber.close()


@pytest.fixture
def facade(settings: Settings) -> Iterator[RedisIntegration]:
    facade = RedisIntegration(settings)
    yield facade
    facade.close()


def note(heard: Heard, name: str) -> Any:
    return lambda event: heard.append((name, event["data"]))


def test_each_handler_hears_what_it_asked_for(subscriber: EventSubscriber, facade: RedisIntegration) -> None:
    heard: Heard = []
    subscriber.subscribe_to_user_events(7, note(heard, "user"))
    subscriber.subscribe_to_global_events(note(heard, "global"))
    subscriber.subscribe_to_service_events("matching", note(heard, "service"))
    subscriber.register_handler("user.login", note(heard, "login"))
    assert subscriber.listen_for_messages(0) == 0
    facade.events.publish_user_event(7, "user.login", {"n": 1})
    facade.events.publish_user_event(8, "user.login", {"n": 2})
    facade.events.publish_user_event(77, "user.login", {"n": 3})
    facade.events.publish_global_event("system.maintenance", {"n": 4})
    facade.events.publish_microservice_event("matching", "matching.request", {"n": 5})

    def all_heard() -> bool:
        subscriber.listen_for_messages(0.05)
        return len(heard) == 4

    wait_until(all_heard, deadline_seconds=5, what="four calls")
    assert heard == [
        ("user", {"n": 1}),
        ("login", {"n": 1}),
        ("global", {"n": 4}),
        ("service", {"n": 5}),
    ]


def test_a_further_subscription_makes_it_miss_nothing(subscriber: EventSubscriber, facade: RedisIntegration) -> None:
    heard: Heard = []
    subscriber.subscribe_to_user_events(7, note(heard, "first"))
    subscriber.listen_for_messages(0)
    for number in range(10, 15):
        facade.events.publish_user_event(7, "user.login", {"n": number})
        subscriber.subscribe_to_user_events(number, note(heard, "further"))
        subscriber.listen_for_messages(0)
        facade.events.publish_user_event(number, "user.login", {"n": number})

    def all_heard() -> bool:
        subscriber.listen_for_messages(0.05)
        return len(heard) == 10

    wait_until(all_heard, deadline_seconds=5, what="ten calls")
    assert sorted(heard, key=repr) == [(name, {"n": n}) for name in ("first", "further") for n in range(10, 15)]


def test_a_name_is_no_pattern(subscriber: EventSubscriber, facade: RedisIntegration) -> None:
    heard: Heard = []
    subscriber.subscribe_to_service_events("m*", note(heard, "service"))
    subscriber.listen_for_messages(0)
    facade.events.publish_microservice_event("matching", "matching.request", {"n": 1})
    facade.events.publish_microservice_event("m*", "matching.request", {"n": 2})
    wait_until(lambda: subscriber.listen_for_messages(0.05), deadline_seconds=5, what="an event")
    assert heard == [("service", {"n": 2})]


def test_it_listens_for_no_longer_than_asked(subscriber: EventSubscriber) -> None:
    subscriber.subscribe_to_global_events()
    before = time.monotonic()
    assert subscriber.listen_for_messages(0.2) == 0
    assert time.monotonic() - before >= 0.2


def test_a_busy_channel_does_not_keep_it_beyond_its_time(
    subscriber: EventSubscriber, client: RedisClient, settings: Settings
) -> None:
    subscriber.subscribe_to_global_events()
    subscriber.listen_for_messages(0)
    ended = threading.Event()

    def publish() -> None:
        while not ended.is_set():
            client.publish(settings.keys.global_channel, "{}")

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        assert subscriber.listen_for_messages(0.3) > 0
    finally:
        ended.set()
        thread.join()


def test_a_handler_that_fails_does_not_keep_others_from_hearing(
    subscriber: EventSubscriber, client: RedisClient, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    heard: Heard = []
    subscriber.subscribe_to_global_events(lambda event: 1 / 0)
    subscriber.subscribe_to_global_events(note(heard, "second"))
    subscriber.listen_for_messages(0)
    for text in (b"no json", b"[1]", b"\xff", json.dumps({"type": "a", "data": {}}).encode()):
        client.publish(settings.keys.global_channel, text)
    wait_until(lambda: subscriber.listen_for_messages(0.05), deadline_seconds=5, what="an event")
    assert heard == [("second", {})]
    assert caplog.text.count("is no event") == 3
    assert "ZeroDivisionError" in caplog.text


def test_it_hears_what_pythons_json_lets_v21_write(
    subscriber: EventSubscriber, client: RedisClient, settings: Settings
) -> None:
    heard: Heard = []
    subscriber.subscribe_to_global_events(note(heard, "global"))
    subscriber.listen_for_messages(0)
    odd = [{"x": float("inf")}, {"x": "\ud83d"}, {"x": 2**70}]
    for data in odd:
        client.publish(settings.keys.global_channel, json.dumps({"type": "a", "data": data}))

    def all_heard() -> bool:
        subscriber.listen_for_messages(0.05)
        return len(heard) == len(odd)

    wait_until(all_heard, deadline_seconds=5, what="all of them")
    assert heard == [("global", data) for data in odd]


def test_it_hears_again_after_a_restart_of_redis(
    subscriber: EventSubscriber, facade: RedisIntegration, embedded_redis: EmbeddedRedis
) -> None:
    heard: Heard = []
    subscriber.subscribe_to_user_events(7, note(heard, "user"))
    listening = threading.Thread(target=subscriber.listen_for_messages)
    listening.start()
    try:
        numbers = iter(range(10_000))

        def publish_until_heard() -> bool:
            facade.events.publish_user_event(7, "user.login", {"n": next(numbers)})
            return bool(heard)

        wait_until(publish_until_heard, deadline_seconds=10, what="an event")
        embedded_redis.kill()
        embedded_redis.start()
        heard.clear()
        wait_until(publish_until_heard, deadline_seconds=20, what="an event after the restart")
    finally:
        subscriber.stop()
        listening.join()


def test_it_may_be_closed_while_another_thread_listens(
    settings: Settings, client: RedisClient, facade: RedisIntegration
) -> None:
    facade.events.publish_global_event("system.maintenance", {})
    before = len(client.client_list())
    subscriber = EventSubscriber(settings)
    subscriber.subscribe_to_global_events()
    with ThreadPoolExecutor(1) as threads:
        heard = threads.submit(subscriber.listen_for_messages)
        wait_until(lambda: len(client.client_list()) > before, deadline_seconds=5, what="a connection")
        subscriber.close()
        assert heard.result(timeout=5) == 0
    wait_until(lambda: len(client.client_list()) == before, deadline_seconds=5, what="its end")


def test_it_waits_for_a_redis_that_is_not_there_yet_and_honours_its_time(
    subscriber: EventSubscriber, embedded_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    embedded_redis.kill()
    subscriber.subscribe_to_global_events()
    assert subscriber.listen_for_messages(0.3) == 0
    assert len(caplog.records) == 1
    embedded_redis.start()


def test_a_handler_may_end_it_and_a_subscription_may_come_later(
    subscriber: EventSubscriber, facade: RedisIntegration
) -> None:
    subscriber.register_handler("system.maintenance", lambda event: subscriber.stop())
    listening = threading.Thread(target=subscriber.listen_for_messages)
    listening.start()
    subscriber.subscribe_to_global_events()

    def ended() -> bool:
        facade.events.publish_global_event("system.maintenance", {})
        return not listening.is_alive()

    wait_until(ended, deadline_seconds=10, what="the end")
    assert subscriber.listen_for_messages() == 0
