"""The site's settings, made from ours; and ours, made from what a site has set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from connectbot.redis_client import ANSWER_TIMEOUT_SECONDS, CONNECT_TIMEOUT_SECONDS
from connectbot.settings import Settings

BACKEND: Final = "django_redis.cache.RedisCache"
PICKLE_SERIALIZER: Final = "django_redis.serializers.pickle.PickleSerializer"
JSON_SERIALIZER: Final = "django_redis.serializers.json.JSONSerializer"
COMPRESSOR: Final = "django_redis.compressors.zlib.ZlibCompressor"
MAX_CONNECTIONS: Final = 20
POOL_WAIT_SECONDS: Final = 2.0
SENTINEL_PORT: Final = 26379


def redis_settings(
    settings: Settings | None = None,
    *,
    serializer: str | None = None,
    timeout_seconds: int | None = 300,
    max_connections: int = MAX_CONNECTIONS,
    **changes: Any,
) -> dict[str, Any]:
    """REDIS_URL, JAVA_SERVICE_URL, CACHES, SESSION_ENGINE and SESSION_CACHE_ALIAS, as in v21's settings.py.

    ``settings`` are read by `Settings.load` unless given; ``changes`` are fields of `Settings` that the site knows
    better, such as ``redis_url=REDIS_URL``. ``serializer`` is ``"json"``, which never runs what it reads, or
    ``"pickle"``, which reads what v21 has stored; unset: CACHE_SERIALIZER. ``timeout_seconds`` is Django's TIMEOUT
    (None: for ever), ``max_connections`` the size of the pool.

    Raises `SettingsError` when a value cannot be used.
    """
    if serializer is not None:
        changes["cache_serializer"] = serializer
    settings = dataclasses.replace(settings or Settings.load(), **changes)
    cache = {
        "BACKEND": BACKEND,
        "KEY_PREFIX": settings.cache_key_prefix,
        "VERSION": settings.cache_version,
        "TIMEOUT": timeout_seconds,
        **_server(settings.redis_url, max_connections),
    }
    if settings.cache_serializer == "json":
        cache["OPTIONS"]["SERIALIZER"] = JSON_SERIALIZER
    return {
        "REDIS_URL": settings.redis_url,
        "JAVA_SERVICE_URL": settings.java_service_url,
        "CACHES": {"default": cache},
        "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
        "SESSION_CACHE_ALIAS": "default",
    }


def site_settings() -> Settings:
    """Our settings as the site's own say: where REDIS_URL, JAVA_SERVICE_URL or CACHES is set, it wins.

    A site that keeps v21's settings.py, with a KEY_PREFIX written there, needs no environment variable for it.
    """
    from django.conf import settings as site

    changes = site_cache(site.CACHES.get("default", {}))
    for name in ("REDIS_URL", "JAVA_SERVICE_URL"):
        value = getattr(site, name, None)
        if value:
            changes[name.lower()] = str(value)
    return dataclasses.replace(Settings.load(), **changes)


def site_cache(cache: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Settings` that one of CACHES tells; none when its BACKEND is not django-redis."""
    if cache.get("BACKEND") != BACKEND:
        return {}
    options = cache.get("OPTIONS", {})
    told: dict[str, Any] = {
        "cache_key_prefix": cache.get("KEY_PREFIX", ""),
        "cache_version": cache.get("VERSION", 1),
        "cache_serializer": "json" if options.get("SERIALIZER") == JSON_SERIALIZER else "pickle",
    }
    if "SENTINELS" not in options:
        told["redis_url"] = _first(cache["LOCATION"])
    return told


def _server(url: str, max_connections: int) -> dict[str, Any]:
    """LOCATION and OPTIONS for a REDIS_URL. A dead Redis costs a view the timeouts of one call, never more."""
    options: dict[str, Any] = {
        "CLIENT_CLASS": "django_redis.client.DefaultClient",
        "CONNECTION_POOL_KWARGS": {"max_connections": max_connections, "protocol": 2},
        "SOCKET_CONNECT_TIMEOUT": CONNECT_TIMEOUT_SECONDS,
        "SOCKET_TIMEOUT": ANSWER_TIMEOUT_SECONDS,
        "COMPRESSOR": COMPRESSOR,
        "IGNORE_EXCEPTIONS": True,
    }
    parts = urlsplit(url)
    if parts.scheme == "sentinel":
        return _behind_sentinels(parts.netloc, parts.path, options)
    # v21's pool raises when all its connections are in use, and IGNORE_EXCEPTIONS makes a lost session of that.
    options["CONNECTION_POOL_CLASS"] = "redis.BlockingConnectionPool"
    options["CONNECTION_POOL_KWARGS"]["timeout"] = POOL_WAIT_SECONDS
    return {"LOCATION": url, "OPTIONS": options}


def _behind_sentinels(netloc: str, path: str, options: dict[str, Any]) -> dict[str, Any]:
    """The form that django-redis has for ``sentinel://h1:26379,h2:26379/service/0``."""
    credentials, at, hosts = netloc.rpartition("@")
    service, _, database = path.strip("/").partition("/")
    options["CONNECTION_FACTORY"] = "django_redis.pool.SentinelConnectionFactory"
    options["SENTINELS"] = [_address(host) for host in hosts.split(",")]
    options["SENTINEL_KWARGS"] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "socket_timeout": ANSWER_TIMEOUT_SECONDS,
    }
    location = urlunsplit(("redis", f"{credentials}{at}{service}", f"/{database or 0}", "", ""))
    return {"LOCATION": location, "OPTIONS": options}


def _address(host: str) -> tuple[str, int]:
    name, _, port = host.partition(":")
    return name, int(port or SENTINEL_PORT)


def _first(location: str | list[str] | tuple[str, ...]) -> str:
    """The server that is written to; django-redis only reads from the others."""
    return location.split(",")[0] if isinstance(location, str) else location[0]
