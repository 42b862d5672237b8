"""Whatever comes in, and whatever goes wrong with it: no token and nothing about an employee is in a log, at any level.

These are the hard cases at DEBUG; `conftest.py` looks into the logs of all the other tests.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Producer

from connectbot.clients import Clients
from connectbot.errors import RedisUnavailable
from connectbot.events import ConnectBotEvents
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from connectbot.testing.matching_service import MatchingService
from tests import markers
from tests.markers import person
from tests.support import Worker, wait_until

NOTE = "secret-marker-note"
MALFORMED: tuple[Any, ...] = (
    NOTE,
    f'{{"id": "1", "type": "user.created", "data": "{NOTE}"',
    {"id": "2", "type": "user.created", "data": {"user": NOTE}},
    {"id": "3", "type": "user.created", "data": {"user": person(1, id=NOTE)}},
    {"id": "4", "type": "user.created", "data": {"user": person(1, role=[NOTE])}},
    {"id": "5", "type": "matching.request", "data": {"users": [NOTE]}},
    {"id": "6", "type": "matching.request", "data": {"users": [1, 2], "employees": [NOTE, person(1, id=NOTE)]}},
    {"id": "7", "type": "matching.request", "data": {"users": [1, 2], "deadline": NOTE}},
    {"id": "8", "type": "java.forward", "data": {"operation": "secret_coffee", "payload": NOTE}},
    {"id": "9", "type": "java.forward", "data": {"operation": NOTE, "payload": person(1)}},
    {"id": "10", "type": "task.enqueued", "data": {"task": "menus.rebuild", "args": [[NOTE]]}},
    {"id": "11", "type": "task.enqueued", "data": {"task": "nobody.knows", "args": [NOTE], "kwargs": {NOTE: NOTE}}},
    {"id": "12", "type": "system.cache_cleared", "data": {"cache_type": NOTE, "user_id": NOTE}},
)
# What fails with an exception of Python's own is logged with its text, which may name an argument, but no value.
TASKS: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...] = (
    ("menus.rebuild", ([1, 2],), {}),
    ("menus.rebuild", ([NOTE],), {}),
    ("menus.rebuild", ([1], ["no such menu"]), {}),
    ("menus.rebuild", ([1],), {"no_such_argument": NOTE}),
    ("menus.clear", ([NOTE, person(1)],), {}),
    ("menus.clear", (NOTE,), {}),
    ("matching.request", ([1, 2],), {"employees": [person(1), person(2)]}),
    ("matching.request", (NOTE, person(1)), {"employees": NOTE}),
    ("java.forward", ("secret_coffee", {"employees": [person(1)]}), {}),
    ("java.forward", (NOTE, {NOTE: person(1)}), {}),
    ("menus.rebuilt", (NOTE,), {"employees": [person(1)]}),
)
SWITCHES: tuple[dict[str, Any], ...] = (
    {"token": markers.TOKEN}, {"token": "another"}, {"status": 422}, {"status": 500}, {"status": 503}, {"half": True},
    {"wrong_json": True}, {"hang": True}, {"error": f"{NOTE} is on leave"}, {"error": "data_api_failed"},
)  # fmt: skip


@pytest.fixture
def service() -> Iterator[MatchingService]:
    with MatchingService() as service:
        yield service


@pytest.fixture
def settings(redis_url: str, service: MatchingService) -> Settings:
    patient = {"breaker_sliding_window_size": 10_000, "breaker_minimum_number_of_calls": 10_000}
    return Settings(
        redis_url=redis_url, java_service_url=service.url, java_service_token=markers.TOKEN,
        java_service_timeout_seconds=0.5, max_attempts=2, trace="1", **patient,
    )  # fmt: skip


def test_whatever_comes_in_nothing_private_is_logged_at_any_level(
    ours: Clients, client: RedisClient, settings: Settings, service: MatchingService, tmp_path: Path
) -> None:
    with Worker(settings, tmp_path, arguments=["--concurrency=1", "--loglevel=DEBUG"]) as worker:
        worker.wait_ready()
        publish_good_ones(ours, client)
        publish_malformed_ones(ours, client)
        call_in_every_way(ours, service)
        enqueue_directly(settings)
        wait_until(lambda: "There is no task" in worker.log.read_text(), deadline_seconds=30, what="the last task")
        go_through_bad_times(client, worker)
        wait_until(lambda: is_settled(ours), deadline_seconds=60, what="an end of all events")
    log = worker.log.read_bytes()
    assert b'"level":"debug"' in log
    assert markers.found_in(log) == []
    assert ours.redis.xlen(settings.keys.dead) >= len(MALFORMED)


def publish_good_ones(ours: Clients, client: RedisClient) -> None:
    types = [value for name, value in vars(ConnectBotEvents).items() if name.isupper() and "." in str(value)]
    assert len(types) > 15
    for number, event_type in enumerate(types):
        data = {"user": person(number, role="admin"), "note": NOTE, "users": [1, 2], "employees": [person(1)]}
        ours.publisher.publish_user_event(number, event_type, data)
        theirs = {"id": f"v21-{number}", "type": event_type, "data": data, "timestamp": "2026-01-01T00:00:00",
                  "channel": f"connectbot:user:{number}", "user_id": number, "source": "django-connectbot"}  # fmt: skip
        client.publish(f"connectbot:user:{number}", json.dumps(theirs))


def publish_malformed_ones(ours: Clients, client: RedisClient) -> None:
    for one in MALFORMED:
        text = one if isinstance(one, str) else json.dumps({"timestamp": "2026-01-01T00:00:00Z", "channel": "x", **one})
        client.xadd(ours.settings.keys.events, {"event": text})
        client.publish("connectbot:global", text)


def call_in_every_way(ours: Clients, service: MatchingService) -> None:
    for number, switches in enumerate(SWITCHES):
        service.reset()
        service.switch(**switches)
        employees = [person(number * 10), person(number * 10 + 1)]
        data = {"users": [one["id"] for one in employees], "employees": employees, "type": NOTE}
        ours.publisher.publish_microservice_event("matching", "matching.request", data)
        payload = {"interest": NOTE, "employees": employees}
        job = {"operation": "coffee_interest", "payload": payload, "idempotency_key": f"k{number}"}
        ours.publisher.publish_microservice_event("java", "java.forward", job)
        wait_until(lambda: is_worked_off(ours), deadline_seconds=30, what=f"the calls with {switches}")
    service.reset()


def enqueue_directly(settings: Settings) -> None:
    """As Django would, and as nobody should."""
    with Celery(broker=settings.broker_url, set_as_current=False) as app, app.connection_for_write() as connection:
        producer = Producer(connection)
        producer.publish(NOTE, routing_key="default", content_type="text/plain")
        producer.publish(f'{{"{NOTE}', routing_key="default", content_type="application/json", content_encoding="utf-8")
        producer.publish({"name": NOTE}, routing_key="default", serializer="json")
        for name, args, kwargs in TASKS:
            app.send_task(name, args, kwargs, connection=connection, queue="default")


def go_through_bad_times(client: RedisClient, worker: Worker) -> None:
    """Redis is full until it has refused something, and a process of the pool dies."""
    client.config_set("maxmemory", 1)
    wait_until(lambda: "errorstat_OOM" in client.info("errorstats"), deadline_seconds=20, what="a refusal")
    client.config_set("maxmemory", 0)
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(worker.pid)], capture_output=True, text=True, check=True)
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)


def is_worked_off(ours: Clients) -> bool:
    key = ours.settings.keys.events
    newest = ours.redis.xinfo_stream(key)["last-generated-id"]
    return all(group["last-delivered-id"] == newest and not group["pending"] for group in ours.redis.xinfo_groups(key))


def is_settled(ours: Clients) -> bool:
    keys = ours.settings.keys
    return is_worked_off(ours) and not sum(ours.redis.zcard(keys.delayed(lane)) for lane in ("default", "java"))


def test_an_error_of_redis_does_not_quote_what_was_sent(
    ours: Clients, client: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisUnavailable) as told:
            ours.temp_data.store(NOTE, "form", person(1), now=time.time())
    finally:
        client.config_set("maxmemory", 0)
    said = f"{told.value} {told.value.__cause__!r} {caplog.text}"
    assert "maxmemory" in said
    assert markers.found_in(said.encode()) == []


def test_a_marker_is_found_however_it_is_written(tmp_path: Path) -> None:
    ways = [
        f"name={markers.NAME}",
        json.dumps({"name": "Иванова"}),
        repr("Иванова".encode()),
        json.dumps(json.dumps({"name": "Иванова"})),
        json.dumps(repr("Иванова".encode())),
        *(ascii_of_base64(" " * number + markers.EMAIL) for number in range(3)),
        "Мои активности",
    ]
    log = tmp_path / "planted.txt"
    log.write_text("\n".join(["nothing here", *ways]))
    assert len(list(markers.lines_with_markers([log]))) == len(ways)


def test_a_line_of_this_process_is_heard_at_any_level_whoever_handles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as when a test configures the logging
    of_all_tests = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    try:
        with markers.Listener() as listener:
            logging.getLogger("connectbot").debug("hello %s", markers.NAME)
    finally:
        logging.setLogRecordFactory(of_all_tests)
    (heard,) = listener.heard
    assert heard.startswith(f"{__file__}:")


def ascii_of_base64(text: str) -> str:
    import base64

    return base64.b64encode(f"{text} and more".encode()).decode()
