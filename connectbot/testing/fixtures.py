"""Fixtures (pytest) for tests of your own handlers and tasks, on a real Redis and without a Celery worker.

Say ``pytest_plugins = ["connectbot.testing.fixtures"]`` in conftest.py. docs/testing.md shows them at work.

- ``connectbot_redis``: an embedded Redis of the tests' own, empty at the beginning of each test;
- ``connectbot_matching_service``: the stand-in for the Java service, so that no test calls a real one;
- ``connectbot_clients``: clients of both, which tasks and ``connectbot.enqueue`` use, too;
- ``connectbot_inline``: hands events to a task as a worker does, in this process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import msgspec
import pytest

from connectbot.clients import Clients
from connectbot.dead_letters import DeadLetter, DeadLetters, Selection
from connectbot.embedded import EmbeddedRedis
from connectbot.entries import Batch
from connectbot.errors import EmbeddedRedisError
from connectbot.events import Event, decode, new_event
from connectbot.integration.site import default_settings, default_site
from connectbot.redis_server import find_server
from connectbot.settings import Settings
from connectbot.testing.matching_service import MatchingService

CONSUMER: Final = "inline"
LEASE_SECONDS: Final = 3600.0
MOST_ENTRIES: Final = 10_000


class EventTask(Protocol):
    """A task that `tasks.base.event_task` has made of a handler."""

    def __call__(self, **order: Any) -> int:
        """Work on the batch that the order names."""


@dataclass(frozen=True, slots=True)
class Inline:
    """Plays the consumer of a lane: what it hands out is fetched, decoded, handled and committed as in a worker."""

    clients: Clients
    lane: str = "default"

    def publish(self, event_type: str, data: dict[str, Any], *, user_id: int | None = None) -> str:
        """Publish an event, and answer its id."""
        keys = self.clients.settings.keys
        channel = keys.global_channel if user_id is None else keys.user_channel(user_id)
        event = new_event(event_type, data, channel=channel, user_id=user_id)
        self.clients.publisher.publish(event)
        return event.id

    def run(self, task: EventTask) -> int:
        """Hand all that waits to ``task``, in one batch. Answers with how many entries it has finished.

        Raises `RedisUnavailable` when Redis goes away under it; the next call hands out what was not finished.
        """
        stream = self.clients.stream
        stream.ensure_lanes([self.lane])
        stream.register(self.lane, CONSUMER, lease_seconds=LEASE_SECONDS)
        stream.release_delayed(self.lane, limit=MOST_ENTRIES, ahead_seconds=math.inf)
        stream.read(self.lane, CONSUMER, limit=MOST_ENTRIES, wait_seconds=0.001)
        ids = stream.pending(self.lane, CONSUMER, limit=MOST_ENTRIES)
        if not ids:
            return 0
        batch = Batch(
            lane=self.lane, consumer=CONSUMER, types=(), first=ids[0], last=ids[-1], count=len(ids), ids=tuple(ids)
        )
        return task(**msgspec.to_builtins(batch))

    def newest(self) -> Event:
        """The event that was published last. Raises `ValueError` when there is none."""
        ((_, fields),) = self.clients.redis.xrevrange(self.clients.settings.keys.events, count=1)
        return decode(fields[b"event"])

    def delayed(self) -> int:
        """How many events wait for their next try; `run` does not let them wait."""
        return int(self.clients.redis.zcard(self.clients.settings.keys.delayed(self.lane)))

    def dead_letters(self) -> list[DeadLetter]:
        """The events that were given up, oldest first."""
        settings = self.clients.settings
        return list(DeadLetters(self.clients.redis, settings.keys, room=settings.room).find(Selection()))


@contextmanager
def asleep(server: EmbeddedRedis) -> Iterator[None]:
    """Put a Redis to sleep: its connections stay open, and nothing is answered (SIGSTOP), until the block ends."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@pytest.fixture(scope="session")
def _connectbot_server() -> Iterator[EmbeddedRedis]:
    try:
        find_server()
    except EmbeddedRedisError as error:
        pytest.fail(str(error), pytrace=False)
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def connectbot_redis(_connectbot_server: EmbeddedRedis) -> EmbeddedRedis:
    """A running, empty Redis of the tests' own. A test may `kill`, `start`, `freeze` and `thaw` it, or see `asleep`."""
    _connectbot_server.start()
    _connectbot_server.thaw()
    clients = Clients.open(Settings(redis_url=_connectbot_server.url))
    clients.redis.flushall()  # never anybody else's: this server is ours
    clients.redis.close()
    return _connectbot_server


@pytest.fixture
def connectbot_matching_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[MatchingService]:
    """The stand-in for the Java service; a test may `switch` it into trouble."""
    with MatchingService() as service:
        monkeypatch.setenv("JAVA_SERVICE_URL", service.url)
        yield service


@pytest.fixture
def connectbot_clients(
    connectbot_redis: EmbeddedRedis, connectbot_matching_service: MatchingService, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clients]:
    """Clients of that Redis and that service, with your settings otherwise: what this process opens uses them, too."""
    monkeypatch.setenv("REDIS_URL", connectbot_redis.url)
    monkeypatch.setenv("CELERY_BROKER_URL", "")
    settings = replace(
        default_settings(),
        redis_url=connectbot_redis.url,
        celery_broker_url="",
        java_service_url=connectbot_matching_service.url,
        spool="",
    )
    clients = Clients.open(settings)
    # A process opens these once, and keeps them.
    monkeypatch.setattr("tasks.process._open", lambda _pid: clients)
    monkeypatch.setattr(default_site, "_load", lambda: settings)
    default_site.close()
    yield clients
    default_site.close()
    clients.redis.close()
    clients.java.close()


@pytest.fixture
def connectbot_inline(connectbot_clients: Clients) -> Inline:
    """Hands events to a task in this process; for the other lane: ``replace(connectbot_inline, lane="java")``."""
    return Inline(connectbot_clients)
