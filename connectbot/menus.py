"""Menus: what v21 shows in them, and how they lie in the cache (contract v21)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

from connectbot import json_text, scan
from connectbot.cache import Cache, Ending, Stencil
from connectbot.cache_keys import MENU_PREFIX, MENU_TYPES, CacheKeys, menu_key
from connectbot.effects import Column, ForEach, Listed, Values, with_id
from connectbot.errors import UnreadableValue
from connectbot.keys import Keys
from connectbot.menu_warmer import MenuWarmer, menu_start
from connectbot.redis_client import Command, RedisClient, translated_errors
from connectbot.users import DEFAULT_ROLE, LONGEST_ROLE

Menu = dict[str, Any]

ADMIN_ROLES: Final = frozenset({"admin", "super_admin"})

_USER_ID: Final = re.compile(rb"-?\d{1,19}")


def build_main_menu(user_id: int, role: str = DEFAULT_ROLE) -> Menu:
    """The main menu; administrators see two options more."""
    options = [
        _option("profile", "👤 Профиль", "show_profile"),
        _option("activities", "🎯 Мои активности", "show_activities"),
        _option("preferences", "⚙️ Настройки", "show_preferences"),
    ]
    if role in ADMIN_ROLES:
        options += [
            _option("admin_panel", "🔧 Админ панель", "admin_panel"),
            _option("manage_users", "👥 Управление пользователями", "manage_users"),
        ]
    return {"type": "main", "user_id": user_id, "role": role, "options": options}


def build_preferences_menu(user_id: int, role: str = DEFAULT_ROLE) -> Menu:
    """The menu of preferences, the same for every role."""
    options = [
        _option("interests", "❤️ Интересы", "edit_interests"),
        _option("notifications", "🔔 Уведомления", "edit_notifications"),
        _option("privacy", "🔒 Приватность", "edit_privacy"),
        _back(),
    ]
    return {"type": "preferences", "user_id": user_id, "options": options}


def build_activities_menu(user_id: int, role: str = DEFAULT_ROLE) -> Menu:
    """The menu of activities, the same for every role. v21 names it only; the options are ours."""
    options = [
        _option("secret_coffee", "☕ Тайный кофе", "show_secret_coffee"),
        _option("upcoming", "📅 Ближайшие активности", "show_upcoming_activities"),
        _option("history", "📜 История", "show_activity_history"),
        _back(),
    ]
    return {"type": "activities", "user_id": user_id, "options": options}


def build_admin_menu(user_id: int, role: str = DEFAULT_ROLE) -> Menu:
    """The menu of administrators; others find only the way back in it. v21 names it only; the options are ours."""
    options = [
        _option("manage_users", "👥 Управление пользователями", "manage_users"),
        _option("manage_activities", "🎯 Управление активностями", "manage_activities"),
        _option("statistics", "📊 Статистика", "show_statistics"),
    ]
    shown = options if role in ADMIN_ROLES else []
    return {"type": "admin", "user_id": user_id, "role": role, "options": [*shown, _back()]}


BUILDERS: Final[dict[str, Callable[[int, str], Menu]]] = {
    "main": build_main_menu,
    "preferences": build_preferences_menu,
    "activities": build_activities_menu,
    "admin": build_admin_menu,
}


class Menus:
    """The menus in the cache. Raises `RedisUnavailable` when Redis cannot serve.

    ``warm`` names the menus that are rebuilt for every known user; ``ttl_seconds`` is how long one lives. ``warmer``
    does that for many at a time.
    """

    def __init__(
        self,
        client: RedisClient,
        *,
        cache: Cache,
        keys: Keys,
        cache_keys: CacheKeys,
        warm: Iterable[str],
        ttl_seconds: int,
    ) -> None:
        self._redis = client
        self._cache = cache
        self._keys = keys
        self._cache_keys = cache_keys
        self._warm = tuple(warm)
        self._ttl_seconds = ttl_seconds
        self._prefix = cache_keys.physical(MENU_PREFIX)
        # A role is any word that an event brings: not every one must be kept.
        self.ending = lru_cache(maxsize=256)(self._make_ending)
        self.warmer = MenuWarmer(
            client,
            keys=keys,
            prefix=self._prefix,
            types=self._warm,
            ttl_seconds=ttl_seconds,
            ending_of=self.ending,
        )

    def get(self, user_id: int, menu_type: str) -> dict[str, Any] | None:
        """What lies in the cache: ``{"data", "user_id", "menu_type", "cached_at"}``; None when nothing does.

        Raises `UnreadableValue` when it is not of v21's form.
        """
        key = menu_key(user_id, menu_type)
        text = self._cache.get(key)
        if text is None:
            return None
        try:
            return _record_in(text)
        except UnreadableValue as error:
            raise UnreadableValue(f"the cached menu {key} cannot be used: {error}") from None

    def roles_shown(self, user_ids: Iterable[int]) -> dict[int, str]:
        """For which role somebody has built the main menu of each of the users, where it is in the cache."""
        key_of = {user_id: menu_key(user_id, "main") for user_id in user_ids}
        cached = self._cache.get_readable(list(key_of.values()))
        roles = {user_id: _role_in(cached[key]) for user_id, key in key_of.items() if key in cached}
        return {user_id: role for user_id, role in roles.items() if role}

    def store(
        self, user_id: int, menu_type: str, menu: object, *, now: float, ttl_seconds: float | None = None
    ) -> dict[str, Any]:
        """Keep a menu that somebody has built, for ``ttl_seconds`` from ``now``. Answers what `get` will answer.

        Raises `TypeError` or `ValueError` when the menu cannot be written as JSON.
        """
        record = menu_record(user_id, menu_type, menu, now=now)
        ttl_seconds = self._ttl_seconds if ttl_seconds is None else ttl_seconds
        self._cache.set(menu_key(user_id, menu_type), json_text.dumps(record), ttl_seconds)
        return record

    def delete(self, user_id: int, *menu_types: str) -> None:
        """Remove some menus of a user; all when none is named."""
        self._cache.delete(*[menu_key(user_id, menu_type) for menu_type in menu_types or MENU_TYPES])

    def cached_users(self) -> list[int]:
        """The users who have a menu in the cache, whoever wrote it. Looks at every key of Redis: for operators."""
        prefix = self._cache_keys.physical(MENU_PREFIX)
        pages = scan.pages(self._redis, f"{scan.literally(prefix)}*")
        users = {key.removeprefix(prefix.encode()).partition(b":")[0] for keys in pages for key in keys}
        return sorted(int(user_id) for user_id in users if _USER_ID.fullmatch(user_id))

    def writing(self, *, now: float, types: Iterable[str] = (), are_new: bool = False) -> list[Column]:
        """What rebuilds the menus of some ``types`` of users; by default the warm ones.

        By default it also removes the users' other menus, which were made for what the users were before. Users who
        ``are_new`` were nothing before, and have no others unless they are known all the same.
        """
        chosen = tuple(types) or self._warm
        columns: list[Column] = [self._written(menu_type, start=menu_start(now)) for menu_type in chosen]
        if chosen == self._warm:
            columns += self._putting_down(runs_out=repr(now + self._ttl_seconds), are_new=are_new)
        return columns

    def removing(self, user_id: int) -> list[Command]:
        """The commands that remove every menu of a user."""
        keys = [menu_key(user_id, menu_type) for menu_type in MENU_TYPES]
        return [self._cache.deleting(*keys)]

    def clearing(self, user_id: int, *, now: float) -> list[Command]:
        """The commands that remove every menu of a user, who is not warmed for what was removed."""
        cleared = self._keys.cleared_menus
        remembering = [("HSET", cleared, user_id, repr(now)), ("PEXPIRE", cleared, self._ttl_seconds * 1000)]
        return [*self.removing(user_id), *remembering]

    def cold(self, user_ids: Iterable[int], *, within_seconds: float) -> list[int]:
        """Those of the users whose menus are missing or run out ``within_seconds``: PTTL of the keys themselves."""
        ids = list(user_ids)
        with translated_errors(), self._redis.pipeline(transaction=False) as pipe:
            for user_id in ids:
                for menu_type in self._warm:
                    pipe.pttl(self._cache_keys.physical(menu_key(user_id, menu_type)))
            left_ms = pipe.execute()
        each = len(self._warm)
        rows = [left_ms[at * each : (at + 1) * each] for at in range(len(ids))]
        return [id_ for id_, row in zip(ids, rows, strict=True) if min(row, default=0) < within_seconds * 1000]

    def _written(self, menu_type: str, *, start: str) -> Values:
        """One menu of each user, built anew."""

        def stencil_of(role: str, length: int) -> Stencil:
            return self.ending(menu_type, role).stencil(start, length)

        return Values(self._prefix, f":{menu_type}", self._ttl_seconds * 1000, stencil_of)

    def _putting_down(self, *, runs_out: str, are_new: bool) -> Iterator[Column]:
        """Note when the warm menus run out, and remove the others."""
        if others := [menu_type for menu_type in MENU_TYPES if menu_type not in self._warm]:
            keys = [with_id(self._prefix, f":{menu_type}") for menu_type in others]
            yield ForEach(("DEL",), keys, only_known=are_new)
        yield Listed(("ZADD", self._keys.warm_menus, runs_out))

    def _make_ending(self, menu_type: str, role: str) -> Ending:
        """What the menus of one type and role have in common: all but the user's id and the time."""
        menu = BUILDERS[menu_type](0, role)
        del menu["user_id"]
        rest = msgspec.json.encode(menu).decode().removeprefix("{")
        return self._cache.ending(f'{rest},"menu_type":"{menu_type}"}}')


def menu_record(user_id: int, menu_type: str, menu: object, *, now: float) -> dict[str, Any]:
    """What v21 keeps of a menu; ``now`` is in epoch seconds."""
    return {"data": menu, "user_id": user_id, "menu_type": menu_type, "cached_at": now}


def _record_in(text: object) -> dict[str, Any]:
    record = json_text.loads(text)
    if isinstance(record, dict) and "data" in record:
        return record
    raise UnreadableValue('it holds no "data"')


def _role_in(text: object) -> str | None:
    try:
        role = _record_in(text)["data"]["role"]
    except (UnreadableValue, LookupError, TypeError):
        return None
    return role if isinstance(role, str) and len(role) <= LONGEST_ROLE else None


def _back() -> dict[str, str]:
    return _option("back", "⬅️ Назад", "main_menu")


def _option(key: str, label: str, action: str) -> dict[str, str]:
    return {"key": key, "label": label, "action": action}
