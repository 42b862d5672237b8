"""The address of Redis in the forms that Celery's parts want: kombu (the broker) and redbeat (the schedule).

No form carries a password where Celery shows it: ``celery inspect conf`` masks the broker's URL and what is called
a password, and nothing else.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import kombu
import redis
from celery.app.amqp import AMQP
from kombu.transport import redis as transport

from connectbot.redis_client import (
    ANSWER_TIMEOUT_SECONDS,
    CONNECT_TIMEOUT_SECONDS,
    keepalive_options,
    sentinel_options,
)
from connectbot.redis_url import RedisAddress

BROKEN_AFTER_SECONDS: Final = 1
"""kombu asks its connections this often whether they live. One that is half-open costs it twice that, and a second."""


LONGEST_PAUSE_SECONDS: Final = 0.5
"""Between two tries to reach a broker that is away. kombu's own pauses grow to 30 s, which would follow an outage."""


class _KnowsItsEnd:
    """Part of a channel: when it is closed, it says so as a lost connection does.

    A task taken before a break of the connection may be done after it, and be acknowledged on the old channel.
    Celery is ready for a lost connection there, and the task comes back after the visibility timeout; kombu's own
    answer is an AttributeError, which ends the worker.
    """

    def _connparams(self, *arguments: Any, **options: Any) -> Any:
        if self.connection is None:  # type: ignore[attr-defined]
            raise redis.ConnectionError("this channel was closed when its connection was lost")
        return super()._connparams(*arguments, **options)  # type: ignore[misc]


class _Channel(_KnowsItsEnd, transport.Channel):
    pass


class _SentinelChannel(_KnowsItsEnd, transport.SentinelChannel):
    pass


class _Poller(transport.MultiChannelPoller):
    """Where one connection is found dead, it does not wait for each of the others in turn: they went the same way."""

    def maybe_check_brpop_health(self) -> None:
        """Drop the connection by which tasks come, when its answer is overdue; then those that lie idle, too."""
        channels: Any = self._channels  # type: ignore[attr-defined]
        waiting = [channel for channel in channels if channel._in_poll]  # noqa: SLF001 - nothing else tells
        super().maybe_check_brpop_health()  # type: ignore[misc]
        for channel in waiting:
            if not channel._in_poll:  # noqa: SLF001
                channel.pool.disconnect(inuse_connections=False)

    def maybe_restore_messages(self) -> None:
        """Look for what was not acknowledged in time, by a connection that lives."""
        self.maybe_check_brpop_health()
        super().maybe_restore_messages()


class _Transport(transport.Transport):
    Channel = _Channel

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cycle = _Poller()


class _SentinelTransport(transport.SentinelTransport):
    Channel = _SentinelChannel

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cycle = _Poller()


_OURS: Final = {transport.Transport: _Transport, transport.SentinelTransport: _SentinelTransport}


class Connection(kombu.Connection):
    """A connection that comes back soon after its broker does."""

    def get_transport_cls(self) -> Any:
        """The class of the transport: ours in place of kombu's."""
        theirs: Any = super().get_transport_cls()
        return _OURS.get(theirs, theirs)

    def _ensure_connection(
        self,
        errback: Any = None,
        max_retries: int | None = None,
        interval_start: float = LONGEST_PAUSE_SECONDS,
        interval_step: float = 0,
        interval_max: float = LONGEST_PAUSE_SECONDS,
        *arguments: Any,
        **options: Any,
    ) -> Any:
        pauses: Any = (min(interval_start, LONGEST_PAUSE_SECONDS), interval_step, LONGEST_PAUSE_SECONDS)
        return super()._ensure_connection(errback, max_retries, *pauses, *arguments, **options)


class Amqp(AMQP):
    """What Celery takes its connections from (``Celery(amqp=...)``)."""

    Connection = Connection


def kombu_url(url: str) -> str:
    """``broker_url``: kombu wants every sentinel as a URL of its own, and a scheme of its own for a socket."""
    address = RedisAddress.parse(url)
    login = _login(address)
    if address.socket:
        return f"redis+socket://{login}{address.socket}?virtual_host={address.database}"
    return ";".join(f"{address.scheme}://{login}{_host(*host)}/{address.database}" for host in address.hosts)


def transport_options(url: str, *, visibility_timeout_seconds: float) -> dict[str, Any]:
    """``broker_transport_options``: how kombu notices that a connection is dead, and how it finds a master."""
    address = RedisAddress.parse(url)
    options: dict[str, Any] = {
        # A message that a worker took comes back this long after the worker has died.
        "visibility_timeout": visibility_timeout_seconds,
        **_timeouts(address),
    }
    if address.service:
        options["master_name"] = address.service
        options["sentinel_kwargs"] = sentinel_options(address)
    return options


def use_ssl(url: str) -> dict[str, Any] | None:
    """``broker_use_ssl`` and ``redbeat_redis_use_ssl``: certificates are verified unless the URL says otherwise.

    Without it kombu verifies none, even for ``rediss://``.
    """
    tls = RedisAddress.parse(url).tls
    return None if tls is None else {"ssl_cert_reqs": "required", **tls}


def redbeat_url(url: str) -> str:
    """``redbeat_redis_url``, without user and password: see `redbeat_options`."""
    address = RedisAddress.parse(url)
    if address.service:
        return "redis-sentinel://"
    if address.socket:
        return f"unix://{address.socket}?db={address.database}"
    return f"{address.scheme}://{_host(*address.hosts[0])}/{address.database}"


def redbeat_options(url: str) -> dict[str, Any]:
    """``redbeat_redis_options``: what redbeat hands on to redis-py."""
    address = RedisAddress.parse(url)
    if not address.service:
        return {**address.login(), **_timeouts(address)}
    return {
        **address.login(),
        "sentinels": address.hosts,
        "service_name": address.service,
        "db": address.database,
        "sentinel_kwargs": sentinel_options(address),
        "socket_timeout": ANSWER_TIMEOUT_SECONDS,
    }


def _timeouts(address: RedisAddress) -> dict[str, Any]:
    """How long to wait for Redis, and when to take a connection for dead; the URL's own parameters win."""
    ours: dict[str, Any] = {"socket_timeout": ANSWER_TIMEOUT_SECONDS, "health_check_interval": BROKEN_AFTER_SECONDS}
    if not address.socket:
        ours["socket_connect_timeout"] = CONNECT_TIMEOUT_SECONDS
        ours["socket_keepalive"] = True
        ours["socket_keepalive_options"] = keepalive_options()
    return {name: address.options.get(name, value) for name, value in ours.items()}


def _login(address: RedisAddress) -> str:
    if not address.username and not address.password:
        return ""
    return f"{quote(address.username or '', safe='')}:{quote(address.password or '', safe='')}@"


def _host(name: str, port: int) -> str:
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
