"""Fixtures for all tests: a Redis that belongs to them, and settings that lead to it.

With ``CONNECTBOT_TESTS_ACL=worker`` in the environment everything under test has that role of deploy/redis-acl only;
the tests' own ``client`` stays an administrator.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from connectbot.embedded import EmbeddedRedis
from connectbot.errors import EmbeddedRedisError
from connectbot.redis_client import RedisClient, connect
from connectbot.settings import Settings
from tests.redis_acl import refusals, with_role, write_users

ROLE = os.environ.get("CONNECTBOT_TESTS_ACL", "")


@pytest.fixture(scope="session")
def embedded_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """The tests' own server. Without one, tests are skipped on a laptop and fail in CI."""
    users = write_users(tmp_path_factory.mktemp("redis-acl") / "users.acl")
    server = EmbeddedRedis(config={"aclfile": str(users)})
    try:
        server.start()
    except EmbeddedRedisError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield server
    refused = _refused(server) if ROLE else []
    server.stop()
    assert not refused, f"the suite needs rights that the role {ROLE} does not have: {refused}"


def _refused(server: EmbeddedRedis) -> list[str]:
    server.start()
    client = connect(server.url)
    try:
        return refusals(client)
    finally:
        client.close()


@pytest.fixture
def redis_url(embedded_redis: EmbeddedRedis) -> str:
    """Address of a running, empty Redis; a test may kill or freeze the server behind it."""
    embedded_redis.start()
    embedded_redis.thaw()
    client = connect(embedded_redis.url)
    client.flushall()  # never anybody else's: this server is ours
    client.close()
    return with_role(embedded_redis.url, ROLE) if ROLE else embedded_redis.url


@pytest.fixture
def client(redis_url: str, embedded_redis: EmbeddedRedis) -> Iterator[RedisClient]:
    """A client of that Redis which may do everything."""
    client = connect(embedded_redis.url)
    yield client
    client.close()


@pytest.fixture
def settings(redis_url: str) -> Settings:
    """Settings of an installation on that Redis; ``dataclasses.replace`` changes one."""
    return Settings(redis_url=redis_url)
