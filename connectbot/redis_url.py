"""Addresses of Redis: one form for our own clients, for Celery's broker and for redbeat.

Beside what redis-py reads (``redis://``, ``rediss://``, ``unix://``, options as query parameters) there is

    sentinel://user:password@h1:26379,h2:26379/service/0?sentinel_username=...&sentinel_password=...

with the user and password of Redis in front, and those of the sentinels behind. An ``ssl_...`` parameter there means
TLS, to the sentinels and to Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from redis.connection import parse_url

from connectbot.errors import SettingsError

SCHEMES: Final = ("redis", "rediss", "unix", "sentinel")
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379


@dataclass(frozen=True, kw_only=True, slots=True)
class RedisAddress:
    """One address, taken apart.

    ``hosts`` are the sentinels, or the one server; none where ``socket`` is the path of a Unix socket. ``service``
    is the name by which sentinels know the master. ``tls`` holds redis-py's ``ssl_...`` options, None without TLS;
    ``options`` all other parameters of the query.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()
    socket: str = ""
    service: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Take a URL apart. Raises `SettingsError`, which never shows the URL: it may hold a password."""
        scheme = url.partition("://")[0]
        if scheme not in SCHEMES or scheme == url:
            known = ", ".join(f"{name}://" for name in SCHEMES)
            raise SettingsError(f"the address of Redis must begin with one of {known}")
        try:
            return _sentinels(url) if scheme == "sentinel" else _server(url, scheme)
        except ValueError:
            # Not chained: the error quotes parts of the URL.
            raise SettingsError(f"the address of Redis ({scheme}://...) cannot be read: check its hosts, its ports, "
                                "its database number, its parameters, and that its password has %23 for #, %2F for / "
                                "and the like") from None  # fmt: skip

    def login(self) -> dict[str, str]:
        """User and password for Redis, as keywords; only what is set."""
        return _only_set(username=self.username, password=self.password)

    def sentinel_login(self) -> dict[str, str]:
        """User and password for the sentinels, as keywords; only what is set."""
        return _only_set(username=self.sentinel_username, password=self.sentinel_password)

    def __str__(self) -> str:
        """The address as it may be shown: no user, no password, no parameters."""
        if self.socket:
            return f"unix://{self.socket}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return "/".join(filter(None, (f"{self.scheme}://{hosts}", self.service, str(self.database))))


def _server(url: str, scheme: str) -> RedisAddress:
    told = _parsed(url)
    told.pop("connection_class", None)
    hosts: tuple[tuple[str, int], ...] = ()
    if scheme != "unix":
        hosts = ((_name(told.pop("host", "localhost")), told.pop("port", REDIS_PORT)),)
    tls = _take_tls(told)
    return RedisAddress(
        scheme=scheme,
        hosts=hosts,
        socket=told.pop("path", ""),
        tls=tls if scheme == "rediss" else None,
        **_common(told),
    )


def _sentinels(url: str) -> RedisAddress:
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not hosts or not service:
        raise SettingsError("the address of Redis must be sentinel://host:26379,host:26379/service/0")
    own = dict(parse_qsl(parts.query))
    told = _parsed(urlunsplit(("redis", f"{credentials}{at}service", f"/{int(database or 0)}", parts.query, "")))
    for name in ("host", "sentinel_username", "sentinel_password"):
        told.pop(name, None)
    tls = _take_tls(told)
    return RedisAddress(
        scheme="sentinel",
        hosts=tuple(_host(host) for host in hosts.split(",")),
        service=service,
        tls=tls or None,
        sentinel_username=own.get("sentinel_username"),
        sentinel_password=own.get("sentinel_password"),
        **_common(told),
    )


def _parsed(url: str) -> dict[str, Any]:
    return dict(parse_url(url))  # type: ignore[no-untyped-call]


def _common(told: dict[str, Any]) -> dict[str, Any]:
    """What every kind of address has; the rest of ``told`` becomes its options."""
    common = {name: told.pop(name, None) for name in ("username", "password")}
    return {**common, "database": told.pop("db", 0), "options": told}


def _take_tls(told: dict[str, Any]) -> dict[str, Any]:
    return {name: told.pop(name) for name in list(told) if name.startswith("ssl_")}


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(text)
    return _name(parts.hostname), parts.port or SENTINEL_PORT


def _name(host: str) -> str:
    host.encode("idna")  # as the resolver will: with an empty part, say, it is no name
    return host


def _only_set(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
