"""Fixtures for all tests: a Redis that belongs to them, and settings that lead to it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from connectbot.embedded import EmbeddedRedis
from connectbot.errors import EmbeddedRedisError
from connectbot.redis_client import RedisClient, connect
from connectbot.settings import Settings


@pytest.fixture(scope="session")
def embedded_redis() -> Iterator[EmbeddedRedis]:
    """The tests' own server. Without one, tests are skipped on a laptop and fail in CI."""
    server = EmbeddedRedis()
    try:
        server.start()
    except EmbeddedRedisError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
def redis_url(embedded_redis: EmbeddedRedis) -> str:
    """Address of a running, empty Redis; a test may kill or freeze the server behind it."""
    embedded_redis.start()
    embedded_redis.thaw()
    client = connect(embedded_redis.url)
    client.flushall()  # never anybody else's: this server is ours
    client.close()
    return embedded_redis.url


@pytest.fixture
def client(redis_url: str) -> Iterator[RedisClient]:
    """A client of that Redis."""
    client = connect(redis_url)
    yield client
    client.close()


@pytest.fixture
def settings(redis_url: str) -> Settings:
    """Settings of an installation on that Redis; ``dataclasses.replace`` changes one."""
    return Settings(redis_url=redis_url)
