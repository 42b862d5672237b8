"""v21's ``redis_menu_cache``: the menus of users, in the cache and as v21 shows them."""

from __future__ import annotations

import time
from typing import Any

from connectbot.cache_keys import MENU_TYPES
from connectbot.integration.arguments import as_seconds, writing
from connectbot.integration.component import Component
from connectbot.integration.site import Site
from connectbot.menus import BUILDERS, Menu, menu_record
from connectbot.users import DEFAULT_ROLE

__all__ = ["MenuBuilder", "MenuCache"]


class MenuCache(Component):
    """The cached menus. While Redis is away, this process keeps what is set in its own memory."""

    @classmethod
    def get_user_menu(cls, user_id: int, menu_type: str = "main") -> dict[str, Any] | None:
        """``{"data", "user_id", "menu_type", "cached_at"}``; None when no menu is cached."""
        return _get(cls.site(), user_id, menu_type)

    @classmethod
    def set_user_menu(
        cls, user_id: int, menu_data: object, menu_type: str = "main", timeout: float | None = None
    ) -> bool:
        """Keep a menu for ``timeout`` seconds (unset: MENU_TTL_SECONDS). Answers whether it is in Redis."""
        return _set(cls.site(), user_id, menu_data, menu_type, timeout=timeout)

    @classmethod
    def delete_user_menu(cls, user_id: int, menu_type: str = "main") -> bool:
        """Remove one menu of a user. Answers whether Redis was there to do it."""
        return _delete(cls.site(), user_id, menu_type)

    @classmethod
    def clear_user_all_menus(cls, user_id: int) -> bool:
        """Remove the menus of every type that v21 has. Answers whether Redis was there to do it."""
        return _delete(cls.site(), user_id, *MENU_TYPES)

    @classmethod
    def refresh_user_menu(cls, user_id: int, menu_data: object, menu_type: str = "main") -> bool:
        """Put a menu in the place of the cached one, with a new lifetime. Answers whether it is in Redis."""
        return _set(cls.site(), user_id, menu_data, menu_type)

    @classmethod
    def get_cached_users(cls) -> list[int]:
        """The users who have a menu in the cache. Looks at every key of Redis, in steps: for operators."""
        site = cls.site()
        return site.ask("the cached users", site.clients.menus.cached_users, [])


class MenuBuilder(Component):
    """Builds menus and caches them. What is cached is answered as long as it was made for the role asked for."""

    @classmethod
    def build_main_menu(cls, user_id: int, role: str | None = None) -> Menu:
        """The main menu for a role; unset: that of the cached menu, else the one last heard of, else ``employee``."""
        return _build(cls.site(), user_id, "main", role)

    @classmethod
    def build_preferences_menu(cls, user_id: int) -> Menu:
        """The menu of preferences."""
        return _build(cls.site(), user_id, "preferences", None)

    @classmethod
    def build_activities_menu(cls, user_id: int) -> Menu:
        """The menu of activities."""
        return _build(cls.site(), user_id, "activities", None)

    @classmethod
    def build_admin_menu(cls, user_id: int, role: str = "admin") -> Menu:
        """The menu of administrators; for any other role it has nothing but the way back."""
        return _build(cls.site(), user_id, "admin", role)


def _get(site: Site, user_id: int, menu_type: str) -> dict[str, Any] | None:
    if site.outage.now is not None and (kept := site.local_menus.get(user_id, menu_type)):
        return kept  # newer than what Redis may still answer
    return site.ask(_named(user_id, menu_type), lambda: site.clients.menus.get(user_id, menu_type), None)


def _set(site: Site, user_id: int, menu: object, menu_type: str, *, timeout: float | None = None) -> bool:
    now, what = time.time(), _named(user_id, menu_type)
    record = menu_record(user_id, menu_type, menu, now=now)
    ttl_seconds = site.attempt(
        what, lambda: as_seconds(site.settings.menu_ttl_seconds if timeout is None else timeout), None
    )
    if ttl_seconds is None:
        return False

    def store() -> None:
        with writing("menu_data", menu, in_json=True):
            site.clients.menus.store(user_id, menu_type, menu, now=now, ttl_seconds=ttl_seconds)

    def keep() -> None:
        with writing("menu_data", menu, in_json=True):
            site.local_menus.keep(user_id, menu_type, record, ttl_seconds=ttl_seconds)

    stored = site.do(what, store)
    if not stored and site.outage.now is not None:
        site.attempt(what, keep, None)
    return stored


def _delete(site: Site, user_id: int, *menu_types: str) -> bool:
    site.local_menus.forget(user_id, *menu_types)
    return site.do(f"the menus of user {user_id}", lambda: site.clients.menus.delete(user_id, *menu_types))


def _build(site: Site, user_id: int, menu_type: str, role: str | None) -> Menu:
    cached = (_get(site, user_id, menu_type) or {}).get("data")
    if isinstance(cached, dict) and role in (None, cached.get("role")):
        return cached
    menu = BUILDERS[menu_type](user_id, role or _known_role(site, user_id))
    _set(site, user_id, menu, menu_type)
    return menu


def _known_role(site: Site, user_id: int) -> str:
    known = site.ask(f"the role of user {user_id}", lambda: site.clients.users.look_up([user_id]), {})
    return (user_id in known and known[user_id].role) or DEFAULT_ROLE


def _named(user_id: int, menu_type: str) -> str:
    return f"the menu {menu_type} of user {user_id}"
