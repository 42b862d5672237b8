"""An operator revokes, in Flower or by ``celery control``, the task that works on a batch of events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from connectbot.clients import Clients
from connectbot.settings import Settings
from connectbot.testing.matching_service import MatchingService
from tests.support import Worker, wait_until

USERS = [1, 2, 3, 4]


@pytest.fixture
def service() -> Iterator[MatchingService]:
    with MatchingService() as service:
        yield service


@pytest.fixture
def settings(redis_url: str, service: MatchingService) -> Settings:
    return Settings(redis_url=redis_url, java_service_url=service.url)


def orders(app: Celery) -> list[str]:
    """Ids of the tasks that the workers are at."""
    active: dict[str, list[dict[str, Any]]] = app.control.inspect(timeout=3.0).active() or {}
    return [task["id"] for tasks in active.values() for task in tasks]


def completed(ours: Clients) -> list[dict[bytes, bytes]]:
    rows = ours.redis.xrange(ours.settings.keys.events)
    return [fields for _, fields in rows if fields.get(b"type") == b"matching.completed"]


def test_its_events_are_handed_out_again(
    ours: Clients, settings: Settings, service: MatchingService, tmp_path: Path
) -> None:
    service.switch(latency_ms=60_000)
    with Worker(settings, tmp_path, lanes=["java"]), Celery(broker=settings.broker_url, set_as_current=False) as app:
        data = {"users": USERS, "employees": [{"id": id_} for id_ in USERS], "request_id": "r"}
        assert ours.publisher.publish_microservice_event("matching", "matching.request", data)
        wait_until(lambda: orders(app), deadline_seconds=60, what="the order")
        service.switch(latency_ms=0)
        app.control.revoke(orders(app), terminate=True, signal="SIGKILL")
        wait_until(lambda: completed(ours), deadline_seconds=60, what="the answer")
    assert len(completed(ours)) == 1
    assert not ours.redis.xpending(settings.keys.events, "java")["pending"]
