"""Opening Redis, and translating its errors into ours: nothing else here knows redis-py's exceptions.

The connections are redis-py's, with two habits more. One whose server turns out to be a replica (``-READONLY``) is
closed at once: a master that was replaced comes back as a replica, and a pool would go on asking it for ever. And
commands are packed by hiredis alone: redis-py looks at each word before, which takes longer than packing it.
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeAlias

import hiredis
import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import (
    BlockingConnectionPool,
    Connection,
    HiredisRespSerializer,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

from connectbot.errors import Fault, RedisUnavailable
from connectbot.redis_url import RedisAddress

RedisClient: TypeAlias = Any
"""A ``redis.Redis`` that answers bytes. redis-py types each reply as a union over protocols and decodings."""
Command: TypeAlias = tuple[Any, ...]
"""One Redis command: its name, then its arguments (bytes, str, int or float)."""

CONNECT_TIMEOUT_SECONDS = 2.0
ANSWER_TIMEOUT_SECONDS = 1.5
"""After so long a Redis that hangs is given up; no command of ours waits for longer. The bridge builds on it
(``worker.bridge.SHORTEST_GAP_SECONDS`` is less)."""
POOL: Final = {"max_connections": 100, "timeout": 1.0}
"""Who finds all connections in use waits for one (seconds): that many threads are no sign of a Redis that is away."""
HEALTH_CHECK_SECONDS: Final = 30
"""A connection unused for so long is asked (PING) before it is trusted."""

_CANNOT_SERVE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.MasterDownError,
)
_REFUSES_WRITES: Final = ("READONLY", "OOM", "MISCONF", "NOREPLICAS")
"""Codes of answers to commands that write; what reads is answered all the same."""
_CANNOT_SERVE_CODES: Final = (*_REFUSES_WRITES, "MASTERDOWN", "LOADING", "BUSY", "UNBLOCKED")
"""Codes of answers that mean "not now" to any command: of the server's state, never of what was asked."""
_PROBE_MS: Final = 1000
_FORM_OF_ANSWERS: Final = {"protocol": 2, "decode_responses": False}
"""What everything here reads; a URL that the site's own cache has, too, may ask for another."""
_NO_STREAM: Final = ("no such key", "the stream key no longer exists")
"""What XINFO says where other commands say NOGROUP, and what Redis 7 says to who waits in XREADGROUP (UNBLOCKED)."""


def connect(url: str, **options: Any) -> RedisClient:
    """A pooled client for ``url``; connections are opened on first use, so that it may be made before a fork.

    ``url`` may be ``redis://``, ``rediss://``, ``unix://`` or ``sentinel://h1:26379,h2:26379/service/0``; its
    parameters win over ``options``, as in redis-py, and those over our own, but for the form of answers. A command is
    never repeated by the client: who sends it decides whether repeating it is safe.

    Raises `SettingsError` when the URL cannot be read.
    """
    address = RedisAddress.parse(url)
    told = {
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "socket_timeout": ANSWER_TIMEOUT_SECONDS,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        **options,
        "db": address.database,
        **address.login(),
        **(address.tls or {}),
        **address.options,
        **_FORM_OF_ANSWERS,
        "command_packer": _Packer(),
    }
    if not address.socket:
        told = {"socket_keepalive": True, "socket_keepalive_options": keepalive_options(), **told}
    if address.service:
        return _connect_to_sentinels(address, told)
    where = {"path": address.socket} if address.socket else dict(zip(("host", "port"), address.hosts[0], strict=True))
    pool = BlockingConnectionPool(  # type: ignore[no-untyped-call]
        connection_class=_connection_class(address), **where, **{**POOL, **told}
    )
    return redis.Redis.from_pool(pool)


def keepalive_options() -> dict[int, int]:
    """Options of TCP by which a connection to a host that is gone breaks within some 20 s, used or not.

    Empty where the system has no such options; then Redis' own timeouts must do.
    """
    if sys.platform != "linux":
        return {}
    return {
        socket.TCP_KEEPIDLE: 5,
        socket.TCP_KEEPINTVL: 5,
        socket.TCP_KEEPCNT: 3,
        socket.TCP_USER_TIMEOUT: 20_000,  # what was sent and never confirmed, in milliseconds
    }


def sentinel_options(address: RedisAddress) -> dict[str, Any]:
    """Keywords (redis-py's) for connections to the sentinels themselves."""
    tls = {} if address.tls is None else {"ssl": True, **address.tls}
    return {
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "socket_timeout": CONNECT_TIMEOUT_SECONDS,  # the next one is asked instead
        "retry": Retry(NoBackoff(), 0),
        **address.sentinel_login(),
        **tls,
    }


class _Translation:
    """A context manager without a state. Made as a generator it would take as long as packing a command."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _CANNOT_SERVE):
            _forget_command(error)
            raise cannot_serve(error) from error
        if not isinstance(error, exceptions.ResponseError):
            return
        _forget_command(error)
        if _says(error, "NOGROUP") or any(words in str(error) for words in _NO_STREAM):
            raise RedisUnavailable(
                "the stream is gone with its groups: Redis came back empty, or was flushed"
            ) from error
        if says_not_now(error):
            raise cannot_serve(error) from error


_TRANSLATION: Final = _Translation()


def translated_errors() -> AbstractContextManager[None]:
    """Raise `RedisUnavailable` in place of redis-py's errors that mean "not now"."""
    return _TRANSLATION


def time_of(client: RedisClient) -> float:
    """Epoch seconds by Redis' own clock (TIME). Raises `RedisUnavailable`."""
    with translated_errors():
        seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6)


def try_to_write(client: RedisClient, key: str) -> None:
    """Write what nobody needs: a Redis that answers may still refuse every write. Raises `RedisUnavailable`."""
    with translated_errors():
        client.set(key, 1, px=_PROBE_MS)


@contextmanager
def one_connection(client: RedisClient) -> Iterator[Any]:
    """A connection for answers as they come, without what redis-py makes of them for the callers of a client.

    After an error, or when the caller has had enough, it is closed: an answer may be on its way.
    """
    connection = client.connection_pool.get_connection()
    try:
        yield connection
    except BaseException:
        connection.disconnect()
        raise
    finally:
        client.connection_pool.release(connection)


def cannot_serve(error: exceptions.RedisError) -> RedisUnavailable:
    """Our error for one of redis-py's, or for an answer as it has them, that means "not now"."""
    refuses_writes = isinstance(error, exceptions.ResponseError) and _says(error, *_REFUSES_WRITES)
    return RedisUnavailable(f"Redis cannot serve this now: {error}", refuses_writes=refuses_writes)


def says_not_now(error: exceptions.ResponseError) -> bool:
    """Whether an answer says that Redis cannot serve now, whatever it was asked."""
    return _says(error, *_CANNOT_SERVE_CODES)


def told_of(error: Exception) -> str:
    """What may be logged of an error: others than ours and Redis' may quote the data."""
    return str(error) if isinstance(error, (Fault, exceptions.RedisError)) else type(error).__qualname__


# --- inside -------------------------------------------------------------------------------------------


class _Packer(HiredisRespSerializer):
    """Packs a command, of which redis-py writes some names as one word: ``"CONFIG GET"``."""

    def pack(self, *words: Any) -> list[bytes]:
        try:
            if " " not in words[0]:
                return [hiredis.pack_command(words)]
        except TypeError:  # a name in bytes, or a word of a kind that hiredis does not know
            pass
        return super().pack(*words)  # type: ignore[no-any-return]


class _LeavesReplicas:
    """Part of a connection: it does not stay with a server that has become a replica."""

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except exceptions.ResponseError as error:
            if _says(error, "READONLY"):
                self.disconnect()  # type: ignore[attr-defined]
            raise

    def has_news(self) -> bool:
        """Whether something has come that nobody waits for, be it the connection's end (then this may raise)."""
        return bool(self.can_read())  # type: ignore[attr-defined]

    def is_worth_reading(self) -> bool:
        """Whether something can be read now, as far as that can be told without reading."""
        return True


class _Polled(_LeavesReplicas):
    """Part of a connection without TLS: it keeps what the system is asked with, which redis-py makes each time anew."""

    def _connect(self) -> Any:
        connected = super()._connect()  # type: ignore[misc]
        self._poller: Any = None
        if hasattr(select, "poll"):  # not on Windows
            self._poller = select.poll()
            self._poller.register(connected, select.POLLIN)
        return connected

    def has_news(self) -> bool:
        return self.is_worth_reading() and super().has_news()

    def is_worth_reading(self) -> bool:
        return not self._poller or bool(self._poller.poll(0))


class _Tcp(_Polled, Connection):
    pass


class _Tls(_LeavesReplicas, SSLConnection):
    pass


class _Unix(_Polled, UnixDomainSocketConnection):
    pass


class _SentinelTcp(_Polled, SentinelManagedConnection):
    pass


class _SentinelTls(_LeavesReplicas, SentinelManagedSSLConnection):
    pass


def _connection_class(address: RedisAddress) -> type[Any]:
    if address.service:
        return _SentinelTcp if address.tls is None else _SentinelTls
    if address.socket:
        return _Unix
    return _Tcp if address.tls is None else _Tls


def _connect_to_sentinels(address: RedisAddress, told: dict[str, Any]) -> RedisClient:
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        address.hosts, sentinel_kwargs=sentinel_options(address), **told
    )
    return sentinel.master_for(address.service, connection_class=_connection_class(address))


def _forget_command(error: exceptions.RedisError) -> None:
    """In a pipeline, redis-py puts the beginning of the command into the error: that may be anybody's data.

    Of sentinels that name no master it lists all options of each connection.
    """
    error.args = (str(error).rpartition(" of pipeline caused error: ")[2].partition(" : <")[0], *error.args[1:])


def _says(error: exceptions.ResponseError, *codes: str) -> bool:
    """Whether an answer has one of the codes, by itself or inside what went wrong in a script.

    A script of Redis 6.2 that meets ``-READONLY`` answers ``Error running script (...): ... -READONLY ...``, one that
    meets ``-NOGROUP`` leaves the dash out: ``Error running script (...): @user_script:28: NOGROUP ...``.
    """
    text = str(error)
    status = getattr(error, "status_code", None)
    inside = (f"-{code} " in text or f": {code} " in text for code in codes)
    return status in codes or text.startswith(tuple(f"{code} " for code in codes)) or any(inside)
