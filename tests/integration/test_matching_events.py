"""A matching request on its way: through the lane java, to a service, and back to everybody whom it concerns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectbot.clients import Clients
from connectbot.settings import Settings
from connectbot.testing.matching_service import MatchingService
from tests.support import Worker, wait_until

USERS = [1, 2, 3, 4, 5]


@pytest.fixture
def service() -> Iterator[MatchingService]:
    with MatchingService() as service:
        yield service


@pytest.fixture
def settings(redis_url: str, service: MatchingService) -> Settings:
    return Settings(redis_url=redis_url, java_service_url=service.url)


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Worker]:
    with Worker(settings, tmp_path, lanes=["java"]) as worker:
        worker.wait_ready()
        yield worker


class Listener:
    """Hears what v21's channels carry."""

    def __init__(self, ours: Clients) -> None:
        self._pubsub = ours.redis.pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe("connectbot:user:*", "connectbot:service:*")
        self.heard: dict[str, list[dict[str, Any]]] = {}
        self.listen()

    def listen(self) -> None:
        while message := self._pubsub.get_message(timeout=0.05):
            self.heard.setdefault(message["channel"].decode(), []).append(json.loads(message["data"]))

    def count(self, channel: str, event_type: str) -> int:
        self.listen()
        return sum(event["type"] == event_type for event in self.heard.get(channel, []))


def ask(ours: Clients, **changes: Any) -> None:
    employees = [{"id": id_, "department": f"d{id_ % 2}", "grade": "MIDDLE"} for id_ in USERS]
    data = {"users": USERS, "type": "coffee", "employees": employees, "request_id": "r1", **changes}
    assert ours.publisher.publish_microservice_event("matching", "matching.request", data)


def dead(ours: Clients) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in ours.redis.xrange(ours.settings.keys.dead)]


def test_a_request_is_answered_kept_and_announced(ours: Clients, worker: Worker) -> None:
    listener = Listener(ours)
    ask(ours)
    wait_until(
        lambda: listener.count("connectbot:service:matching", "matching.completed"),
        deadline_seconds=20,
        what="matching.completed",
    )
    result = ours.temp_data.get("matching_results", "r1")
    assert isinstance(result, dict)
    paired = sorted(id_ for pair in result["pairs"] for id_ in (pair["employee1_id"], pair["employee2_id"]))
    assert sorted(paired + result["unmatched"]) == USERS
    assert len(result["unmatched"]) == 1
    assert result["algorithm"]
    (completed,) = [e for e in listener.heard["connectbot:service:matching"] if e["type"] == "matching.completed"]
    assert completed["data"] == result
    for id_ in paired:
        (told,) = listener.heard[f"connectbot:user:{id_}"]
        assert told["user_id"] == id_
        assert [id_ in pair.values() for pair in told["data"]["pairs"]] == [True]
    assert f"connectbot:user:{result['unmatched'][0]}" not in listener.heard
    assert ours.redis.pttl(":1:temp:matching_results:r1") > 1_700_000


def test_a_request_that_the_service_refuses_is_told_and_buried(
    ours: Clients, worker: Worker, service: MatchingService
) -> None:
    listener = Listener(ours)
    service.switch(status=422)
    ask(ours)
    wait_until(
        lambda: listener.count("connectbot:service:matching", "matching.failed"),
        deadline_seconds=20,
        what="matching.failed",
    )
    (failed,) = [e for e in listener.heard["connectbot:service:matching"] if e["type"] == "matching.failed"]
    assert failed["data"]["request_id"] == "r1"
    assert failed["data"]["reason"]
    (letter,) = dead(ours)
    assert letter[b"lane"] == b"java"
    assert letter[b"reason"].decode() == failed["data"]["reason"]


def test_a_service_that_is_down_delays_a_request_and_loses_none(
    ours: Clients, worker: Worker, service: MatchingService
) -> None:
    listener = Listener(ours)
    service.switch(status=503)
    ask(ours)
    delayed = ours.settings.keys.delayed("java")
    wait_until(lambda: ours.redis.zcard(delayed), deadline_seconds=20, what="the request to be put off")
    service.switch(status=0)
    wait_until(
        lambda: listener.count("connectbot:service:matching", "matching.completed"),
        deadline_seconds=30,
        what="matching.completed",
    )
    assert ours.redis.xlen(ours.settings.keys.dead) == 0
    (seen,) = service.calls.shown()["calls"]
    assert seen["count"] >= 2, "every attempt must bear the same Idempotency-Key"


def test_a_job_is_forwarded_and_its_result_kept(ours: Clients, worker: Worker) -> None:
    payload = {"requestId": "r2", "employees": [{"id": 1, "department": "a"}, {"id": 2, "department": "b"}]}
    data = {"operation": "secret_coffee", "payload": payload, "idempotency_key": "k"}
    ours.publisher.publish_microservice_event("java", "java.forward", data)
    wait_until(lambda: ours.temp_data.get("java_results", "k"), deadline_seconds=20, what="the result")
    ours.publisher.publish_microservice_event("java", "java.forward", {**data, "operation": "http://evil/"})
    wait_until(lambda: dead(ours), deadline_seconds=20, what="the dead letter")
    assert dead(ours)[0][b"reason"] == b"unknown_operation"
