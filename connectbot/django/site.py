"""The site's settings, made from ours; and ours, made from what a site has set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from django.utils.module_loading import import_string

from connectbot.redis_client import CONNECT_TIMEOUT_SECONDS, sentinel_options
from connectbot.redis_url import RedisAddress
from connectbot.settings import Settings

BACKEND: Final = "django_redis.cache.RedisCache"
CLIENT: Final = "django_redis.client.DefaultClient"
SENTINEL_CLIENT: Final = "django_redis.client.SentinelClient"
PICKLE_SERIALIZER: Final = "django_redis.serializers.pickle.PickleSerializer"
JSON_SERIALIZER: Final = "django_redis.serializers.json.JSONSerializer"
COMPRESSOR: Final = "django_redis.compressors.zlib.ZlibCompressor"
MAX_CONNECTIONS: Final = 20
ANSWER_TIMEOUT_SECONDS: Final = 2.0
POOL_WAIT_SECONDS: Final = 2.0


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

    cache = site.CACHES.get("default", {})
    changes = site_cache(cache)
    located = _first(cache["LOCATION"]) if "redis_url" in changes else ""  # the same, but without the login of OPTIONS
    for name in ("REDIS_URL", "JAVA_SERVICE_URL"):
        value = str(getattr(site, name, None) or "")
        if value and value != located:
            changes[name.lower()] = value
    return dataclasses.replace(Settings.load(), **changes)


def site_cache(cache: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Settings` that one of CACHES tells; none when its BACKEND is not django-redis."""
    if not _is_django_redis(cache.get("BACKEND", "")):
        return {}
    options = cache.get("OPTIONS", {})
    told: dict[str, Any] = {
        "cache_key_prefix": str(cache.get("KEY_PREFIX", "")),  # Django writes None as it is: "None:1:key"
        "cache_version": cache.get("VERSION", 1),
        "cache_serializer": "json" if options.get("SERIALIZER") == JSON_SERIALIZER else "pickle",
    }
    if "SENTINELS" not in options:
        told["redis_url"] = _with_login(_with_database(_first(cache["LOCATION"]), options), options)
    return told


def _is_django_redis(backend: str) -> bool:
    """Whether a BACKEND is django-redis' cache, or a site's own class that extends it."""
    if backend == BACKEND:
        return True
    try:
        return issubclass(import_string(backend), import_string(BACKEND))
    except ImportError:
        return False


def _server(url: str, max_connections: int) -> dict[str, Any]:
    """LOCATION and OPTIONS for a REDIS_URL; with the timeouts a dead Redis holds up one call for so long, no longer."""
    address = RedisAddress.parse(url)
    pool: dict[str, Any] = {"max_connections": max_connections, "protocol": 2}
    options: dict[str, Any] = {
        "CLIENT_CLASS": CLIENT,
        "CONNECTION_POOL_KWARGS": pool,
        "SOCKET_CONNECT_TIMEOUT": CONNECT_TIMEOUT_SECONDS,
        "SOCKET_TIMEOUT": ANSWER_TIMEOUT_SECONDS,
        "COMPRESSOR": COMPRESSOR,
        "IGNORE_EXCEPTIONS": True,
    }
    if address.service:
        return _behind_sentinels(address, options)
    # v21's pool raises when all its connections are in use, and IGNORE_EXCEPTIONS makes a lost session of that.
    options["CONNECTION_POOL_CLASS"] = "redis.BlockingConnectionPool"
    pool["timeout"] = POOL_WAIT_SECONDS
    return {"LOCATION": url, "OPTIONS": options}


def _behind_sentinels(address: RedisAddress, options: dict[str, Any]) -> dict[str, Any]:
    """LOCATION and OPTIONS in the form that django-redis has for sentinels."""
    tls = {} if address.tls is None else {"ssl": True, **address.tls}
    options["CONNECTION_POOL_KWARGS"] |= {**address.login(), **tls, **address.options}
    options["CONNECTION_FACTORY"] = "django_redis.pool.SentinelConnectionFactory"
    options["SENTINELS"] = list(address.hosts)
    options["SENTINEL_KWARGS"] = sentinel_options(address)
    return {"LOCATION": f"redis://{address.service}/{address.database}", "OPTIONS": options}


def _with_login(url: str, options: Mapping[str, Any]) -> str:
    """The URL with the login of django-redis' OPTIONS, as far as it has none of its own.

    The keywords for the pool win over USERNAME and PASSWORD, and the URL over both, as in redis-py's ``from_url``.
    """
    pool, parts = options.get("CONNECTION_POOL_KWARGS", {}), urlsplit(url)
    own = {"username": parts.username, "password": parts.password}
    user, password = (own[name] or quote(pool.get(name) or options.get(name.upper()) or "", safe="") for name in own)
    if not password:
        return url
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()


def _with_database(url: str, options: Mapping[str, Any]) -> str:
    """The URL with the database that the keywords for the pool name, unless it names one itself."""
    database, parts = options.get("CONNECTION_POOL_KWARGS", {}).get("db"), urlsplit(url)
    is_path = parts.scheme != "unix"
    if not database or "db" in parse_qs(parts.query) or (is_path and parts.path.strip("/")):
        return url
    if is_path and parts.netloc:
        return parts._replace(path=f"/{database}").geturl()
    return f"{url}{'&' if parts.query else '?'}db={database}"


def _first(location: str | list[str] | tuple[str, ...]) -> str:
    """The server that is written to; django-redis only reads from the others."""
    return location.split(",")[0] if isinstance(location, str) else location[0]
