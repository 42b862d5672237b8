"""Django's system check (``manage.py check``): site and worker must use the same cache in the same way."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from django.conf import settings as site
from django.core.checks import CheckMessage, Error, Warning

from connectbot.django.site import site_cache
from connectbot.errors import SettingsError
from connectbot.settings import Settings

_KEY_FUNCTIONS: Final = (None, "django.core.cache.backends.base.default_key_func")
_FIELDS: Final = {field.name: field for field in dataclasses.fields(Settings)}


def check_same_cache(**_options: Any) -> list[CheckMessage]:
    """What differs between CACHES["default"] and the environment that the worker reads; Redis is not asked."""
    cache = site.CACHES.get("default", {})
    try:
        worker = Settings.load()
    except SettingsError as error:
        return [Error(str(error), hint="Correct the variable in the environment or in .env.", id="connectbot.E001")]
    told = site_cache(cache)
    if not told:
        return [_not_redis(cache.get("BACKEND"))]
    found = [_difference(name, value) for name, value in told.items() if getattr(worker, name) != value]
    if cache.get("KEY_FUNCTION") not in _KEY_FUNCTIONS:
        found.append(_own_keys())
    return found


def _difference(name: str, value: object) -> CheckMessage:
    # The values are left out: the address of Redis may hold a password.
    variable = _FIELDS[name].metadata["variable"]
    said = "" if name == "redis_url" else f": {value!r}"
    return Warning(
        f"CACHES['default'] and {variable} differ: the worker, which reads the environment, and this site would not "
        "see each other's menus and temporary data.",
        hint=f"Set {variable} in the environment or in .env to what CACHES['default'] says{said}.",
        id="connectbot.W001",
    )


def _not_redis(backend: object) -> CheckMessage:
    return Warning(
        f"CACHES['default'] is {backend}: what the worker stores in Redis is not in this cache.",
        hint="Use connectbot.django.redis_settings() for CACHES.",
        id="connectbot.W002",
    )


def _own_keys() -> CheckMessage:
    return Warning(
        "CACHES['default'] has a KEY_FUNCTION of its own; ConnectBot's keys are made by Django's default.",
        hint="Leave KEY_FUNCTION out.",
        id="connectbot.W003",
    )
