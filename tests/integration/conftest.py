"""Fixtures for tests with a real Redis and real workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connectbot.clients import Clients
from connectbot.settings import Settings
from tests.support import Worker


@pytest.fixture
def ours(settings: Settings) -> Iterator[Clients]:
    """The clients of the installation under test."""
    clients = Clients.open(settings)
    clients.stream.ensure_lanes(["default", "java"])
    yield clients
    clients.redis.close()
    clients.java.close()


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Worker]:
    """A worker that serves the lane ``default``, ready to take events."""
    with Worker(settings, tmp_path, lanes=["default"]) as worker:
        worker.wait_ready()
        yield worker
