"""Django's system check (``manage.py check``): site and worker must use the same cache in the same way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings as site
from django.core import checks

from connectbot.django.site import (
    CLIENT,
    COMPRESSOR,
    JSON_SERIALIZER,
    PICKLE_SERIALIZER,
    SENTINEL_CLIENT,
    site_cache,
)
from connectbot.errors import SettingsError
from connectbot.settings import Settings

_READABLE: Final = {
    "CLIENT_CLASS": (CLIENT, SENTINEL_CLIENT),
    "SERIALIZER": (PICKLE_SERIALIZER, JSON_SERIALIZER),
    "COMPRESSOR": (COMPRESSOR,),
}
"""Of django-redis' OPTIONS those that decide what lies in Redis, and what of them the worker knows."""
_DEFAULTS: Final = {
    "CLIENT_CLASS": CLIENT,
    "SERIALIZER": PICKLE_SERIALIZER,
    "COMPRESSOR": "django_redis.compressors.identity.IdentityCompressor",
}
_WAYS: Final = ("host", "port", "path", "connection_class", "credential_provider")
"""Keywords for the pool by which one connects elsewhere, or as somebody else, and which `site_cache` does not read."""
_FIELDS: Final = {field.name: field for field in dataclasses.fields(Settings)}


def check_same_cache(**_options: Any) -> list[checks.CheckMessage]:
    """What differs between CACHES["default"] and the environment that the worker reads; Redis is not asked."""
    cache = site.CACHES.get("default", {})
    try:
        worker = Settings.load()
    except SettingsError as error:
        return [
            checks.Error(str(error), hint="Correct the variable in the environment or in .env.", id="connectbot.E001")
        ]
    told = site_cache(cache)
    if not told:
        return [_not_redis(cache.get("BACKEND"))]
    found = [_difference(name, value) for name, value in told.items() if str(getattr(worker, name)) != str(value)]
    return found + _unknown_forms(cache) + _unknown_ways(cache.get("OPTIONS", {}))


def _difference(name: str, value: object) -> checks.CheckMessage:
    # The values are left out: the address of Redis may hold a password.
    variable = _FIELDS[name].metadata["variable"]
    said = "" if name == "redis_url" else f": {value!r}"
    return checks.Warning(
        f"CACHES['default'] and {variable} differ: the worker, which reads the environment, and this site would not "
        "see each other's menus and temporary data.",
        hint=f"Set {variable} in the environment or in .env to what CACHES['default'] says{said}.",
        id="connectbot.W001",
    )


def _not_redis(backend: object) -> checks.CheckMessage:
    return checks.Warning(
        f"CACHES['default'] is {backend}: what the worker stores in Redis is not in this cache.",
        hint="Use connectbot.django.redis_settings() for CACHES.",
        id="connectbot.W002",
    )


def _unknown_forms(cache: Mapping[str, Any]) -> list[checks.CheckMessage]:
    options = cache.get("OPTIONS", {})
    strange = {name: options.get(name, _DEFAULTS[name]) for name in _READABLE}
    strange = {name: value for name, value in strange.items() if value not in _READABLE[name]}
    if cache.get("KEY_FUNCTION"):
        strange["KEY_FUNCTION"] = cache["KEY_FUNCTION"]
    return [
        checks.Warning(
            f"CACHES['default'] has the {name} {value}, which the worker does not know.",
            hint="Use connectbot.django.redis_settings() for CACHES.",
            id="connectbot.W003",
        )
        for name, value in strange.items()
    ]


def _unknown_ways(options: Mapping[str, Any]) -> list[checks.CheckMessage]:
    if "SENTINELS" in options:
        return []  # an address that is not read at all
    pool = options.get("CONNECTION_POOL_KWARGS", {})
    return [
        checks.Warning(
            f"CACHES['default'] has {name} in CONNECTION_POOL_KWARGS, which only django-redis reads: the rest of "
            "ConnectBot in this site would reach another Redis, or none.",
            hint="Say it in LOCATION instead, such as rediss://host:6379/0?ssl_cert_reqs=none, and in REDIS_URL.",
            id="connectbot.W004",
        )
        for name in pool
        if name in _WAYS or name.startswith("ssl_")
    ]
