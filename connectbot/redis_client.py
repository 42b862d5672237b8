"""Opening Redis, and translating its errors into ours: nothing else here knows redis-py's exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from connectbot.errors import RedisUnavailable

RedisClient: TypeAlias = Any
"""A ``redis.Redis`` that answers bytes. redis-py types each reply as a union over protocols and decodings."""
Command: TypeAlias = tuple[Any, ...]
"""One Redis command: its name, then its arguments (bytes, str, int or float)."""

CONNECT_TIMEOUT_SECONDS = 2.0
ANSWER_TIMEOUT_SECONDS = 5.0

_CANNOT_SERVE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.MasterDownError,
)


def connect(url: str, **options: Any) -> RedisClient:
    """A pooled client for ``url``; connections are opened on first use, so that it may be made before a fork.

    ``url`` may be ``redis://``, ``rediss://``, ``unix://`` or ``sentinel://h1:26379,h2:26379/service/0``.
    A command is never repeated by the client: who sends it decides whether repeating it is safe.
    """
    options = {
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "socket_timeout": ANSWER_TIMEOUT_SECONDS,
        "health_check_interval": 30,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        **options,
    }
    if url.startswith("sentinel://"):
        return _connect_to_sentinels(url, options)
    return redis.Redis.from_url(url, **options)


def _connect_to_sentinels(url: str, options: dict[str, Any]) -> RedisClient:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    addresses = []
    for host in hosts.split(","):
        name, _, port = host.partition(":")
        addresses.append((name, int(port or 26379)))
    if credentials:
        options["username"], _, options["password"] = credentials.rpartition(":")
    timeouts = {name: options[name] for name in ("socket_connect_timeout", "socket_timeout")}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        addresses, sentinel_kwargs=timeouts, db=int(database or 0), **options
    )
    return sentinel.master_for(service)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise `RedisUnavailable` in place of redis-py's errors that mean "not now"."""
    try:
        yield
    except _CANNOT_SERVE as error:
        raise RedisUnavailable(f"Redis cannot serve this now: {error}") from error
