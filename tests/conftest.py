"""Fixtures for all tests: a Redis that belongs to them, and settings that lead to it.

With ``CONNECTBOT_TESTS_ACL=on`` in the environment what is under test has a role of deploy/redis-acl only: tests of
the site's part (`SITE_TESTS`) that of the publisher, all others that of the worker. The tests' own ``client`` stays
an administrator.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator

import pytest

from connectbot.embedded import EmbeddedRedis
from connectbot.errors import EmbeddedRedisError
from connectbot.redis_client import RedisClient, connect
from connectbot.settings import Settings
from tests import markers
from tests.redis_acl import refusals, with_role, write_users

WITH_ROLES = os.environ.get("CONNECTBOT_TESTS_ACL", "") == "on"
SITE_TESTS = ("django", "v21", "compat", "outage", "spool", "subscriber")
"""Parts of the names of files that test what runs inside the Django site and the bot."""
MORE_RULES = {
    "publisher": "~a[*]:1:* ~ab:1:* ~[[]a]:1:*",  # caches whose CACHE_KEY_PREFIX is odd
    "worker": "~test:* ~begun ~frozen ~done ~process",  # handlers that write keys of their own
}
"""What only tests need of the roles, as deploy/redis-acl/README.md tells operators to add theirs."""


@pytest.fixture(scope="session", autouse=True)
def started_processes_take_ctrl_c() -> None:
    """A shell that puts tests into the background has them ignore SIGINT, and so would all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def nothing_private_is_logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Looks, when all tests have run, for what they have planted, in every log that they leave and their own lines."""
    with markers.Listener() as listener:
        yield
    found = [*listener.heard, *markers.lines_with_markers(tmp_path_factory.getbasetemp().rglob("*.log"))]
    assert not found, "private data is in the log, at:\n" + "\n".join(found[:50])


@pytest.fixture(autouse=True)
def caplog_is_as_usual(caplog: pytest.LogCaptureFixture) -> None:
    """The search above has every line made; ``caplog`` holds warnings and worse, unless a test sets another level."""
    caplog.handler.setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def embedded_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """The tests' own server. Without one, tests are skipped on a laptop and fail in CI."""
    users = write_users(tmp_path_factory.mktemp("redis-acl") / "users.acl", more=MORE_RULES)
    # Redis has written what it answers, though nobody waits for the disk: that a test kills the server takes nothing of
    # it. With "everysec" it holds writes back while the disk is busy.
    server = EmbeddedRedis(config={"aclfile": str(users), "appendfsync": "no"})
    try:
        server.start()
    except EmbeddedRedisError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield server
    refused = _refused(server) if WITH_ROLES else []
    server.stop()
    assert not refused, f"the suite needs rights that its roles do not have: {refused}"


def _refused(server: EmbeddedRedis) -> list[str]:
    server.start()
    client = connect(server.url)
    try:
        # cache.clear() is FLUSHDB, which takes the stream along: that it is refused to the site is on purpose.
        return [refusal for refusal in refusals(client) if refusal != "publisher command flushdb"]
    finally:
        client.close()


@pytest.fixture
def redis_url(embedded_redis: EmbeddedRedis, request: pytest.FixtureRequest) -> str:
    """Address of a running, empty Redis; a test may kill or freeze the server behind it."""
    embedded_redis.start()
    embedded_redis.thaw()
    client = connect(embedded_redis.url)
    client.flushall()  # never anybody else's: this server is ours
    client.close()
    if not WITH_ROLES:
        return embedded_redis.url
    is_of_site = any(part in request.path.stem for part in SITE_TESTS)
    return with_role(embedded_redis.url, "publisher" if is_of_site else "worker")


@pytest.fixture
def client(redis_url: str, embedded_redis: EmbeddedRedis) -> Iterator[RedisClient]:
    """A client of that Redis which may do everything."""
    client = connect(embedded_redis.url)
    yield client
    client.close()


@pytest.fixture
def settings(redis_url: str) -> Settings:
    """Settings of an installation on that Redis; ``dataclasses.replace`` changes one."""
    return Settings(redis_url=redis_url, java_service_token=markers.TOKEN)
