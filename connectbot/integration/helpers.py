"""v21's short ways to what one often needs."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, ParamSpec, TypeVar, cast
from uuid import UUID

import msgspec

from connectbot.asynchronous import awaitable
from connectbot.cache_keys import employee_key, interests_key, result_key
from connectbot.events import USER_ACTION_PREFIX, ConnectBotEvents
from connectbot.integration.arguments import as_seconds, writing
from connectbot.integration.events import EventPublisher
from connectbot.integration.menu_cache import MenuCache
from connectbot.integration.site import default_site
from connectbot.integration.temp_data import UserTempDataManager

P = ParamSpec("P")
R = TypeVar("R")

__all__ = [
    "cache_result",
    "cache_user_menu",
    "get_cached_user_menu",
    "get_user_temp_data",
    "invalidate_user_cache",
    "publish_user_action",
    "store_user_temp_data",
]

RESULT_SECONDS: Final = 300
_MISSING: Final = object()


def cache_user_menu(user_id: int, menu_data: object, menu_type: str = "main") -> bool:
    """Keep a menu of a user. Answers whether it is in Redis."""
    return MenuCache.set_user_menu(user_id, menu_data, menu_type)


def get_cached_user_menu(user_id: int, menu_type: str = "main") -> dict[str, Any] | None:
    """What `MenuCache.get_user_menu` answers."""
    return MenuCache.get_user_menu(user_id, menu_type)


def publish_user_action(user_id: int, action: str, data: Mapping[str, Any] | None = None) -> bool:
    """Tell what a user has done: the event ``user.action.{action}``."""
    return EventPublisher.publish_user_event(user_id, f"{USER_ACTION_PREFIX}{action}", data)


def store_user_temp_data(user_id: int, key: str, data: object, timeout: float | None = None) -> bool:
    """Keep something of a user's for ``timeout`` seconds (unset: TEMP_DATA_TTL_SECONDS)."""
    return UserTempDataManager(user_id).store_data(key, data, timeout)


def get_user_temp_data(user_id: int, key: str, default: Any = None) -> Any:
    """What `store_user_temp_data` kept."""
    return UserTempDataManager(user_id).get_data(key, default)


def invalidate_user_cache(user_id: int) -> bool:
    """Remove what is cached of a user: the menus, and what the old manager keeps of the employee.

    What the user has entered and not yet sent stays. Tells it as ``user.cache_cleared``.
    """
    removed = [MenuCache.clear_user_all_menus(user_id), forget_employee(user_id)]
    told = EventPublisher.publish_user_event(user_id, ConnectBotEvents.USER_CACHE_CLEARED, {"user_id": user_id})
    return all(removed) and told


def forget_employee(employee_id: int) -> bool:
    """Remove what the old manager caches of an employee. Answers whether Redis was there to do it."""
    site = default_site()
    keys = (employee_key(employee_id), interests_key(employee_id))
    return site.do(f"what is cached of employee {employee_id}", lambda: site.clients.cache.delete(*keys))


def keep_cached(key: str, value: object, timeout: float | None) -> bool:
    """Keep a value in Django's cache for ``timeout`` seconds (None: for ever). Answers whether it is in Redis."""
    site = default_site()

    def keep() -> None:
        ttl_seconds = None if timeout is None else as_seconds(timeout)
        with writing("the value", value, in_json=site.settings.cache_serializer == "json"):
            site.clients.cache.set(key, value, ttl_seconds)

    return site.do(f"the cached {key}", keep)


def cache_result(timeout: float = RESULT_SECONDS, key_prefix: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that what it answers is kept for ``timeout`` seconds, for each of its arguments.

    ``key_prefix`` comes before the function's name in the key: functions may share one. Arguments and answers must be
    plain data: with others, or while Redis is away, the function is called. A coroutine function stays one.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = f"{key_prefix}:{function.__module__}.{function.__qualname__}".removeprefix(":")

        @functools.wraps(function)
        def cached(*args: P.args, **kwargs: P.kwargs) -> R:
            key = _key_of(name, args, kwargs)
            result = _cached(key)
            if result is _MISSING:
                result = function(*args, **kwargs)
                if key is not None:
                    keep_cached(key, result, timeout)
            return cast(R, result)

        @functools.wraps(function)
        async def cached_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            key = _key_of(name, args, kwargs)
            result = await awaitable(_cached, key)
            if result is _MISSING:
                result = await cast(Any, function(*args, **kwargs))
                if key is not None:
                    await awaitable(keep_cached, key, result, timeout)
            return result

        return cast(Callable[P, R], cached_coroutine) if inspect.iscoroutinefunction(function) else cached

    return decorate


def _key_of(name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str | None:
    """The cache key of one call; None when the arguments are not plain data, so that no other call is meant by it."""
    try:
        told = msgspec.msgpack.encode([_told(args), _told(kwargs)])
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return result_key(name, hashlib.blake2b(told, digest_size=16).hexdigest())


def _told(value: object) -> object:
    """A value so that no other one looks like it. Raises TypeError when it is no plain data."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes):
        return value
    if isinstance(value, Mapping):
        return [str(kind), sorted((key, _told(one)) for key, one in value.items())]
    if isinstance(value, (list, tuple)):
        return [str(kind), *map(_told, value)]
    if isinstance(value, Enum) or kind in (datetime, date, time, timedelta, Decimal, UUID):
        return [str(kind), repr(value)]
    raise TypeError(f"{kind} is no plain data")


def _cached(key: str | None) -> object:
    if key is None:
        return _MISSING
    site = default_site()
    return site.ask(f"the cached {key}", lambda: site.clients.cache.get(key, _MISSING), _MISSING)
