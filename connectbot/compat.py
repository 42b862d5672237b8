"""v21's ``redis_utils``: the old manager and what extends it, for code that still calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connectbot.asynchronous import awaitable
from connectbot.cache_keys import employee_key, interests_key, participants_key, session_key
from connectbot.integration.events import EventPublisher
from connectbot.integration.facade import redis_integration
from connectbot.integration.helpers import forget_employee, keep_cached
from connectbot.integration.menu_cache import MenuCache
from connectbot.integration.site import default_site
from connectbot.integration.temp_data import TempDataManager

__all__ = ["EnhancedRedisManager", "RedisManager"]

EMPLOYEE_SECONDS: Final = 3600
INTERESTS_SECONDS: Final = 1800
PARTICIPANTS_SECONDS: Final = 900
SESSION_SECONDS: Final = 7200


class RedisManager:
    """The old manager: values as they are, in Django's cache.

    What reads answers None when nothing is there, what writes whether it is done. Nothing is kept for a Redis that
    is away: it is a cache, and filled again.
    """

    @staticmethod
    def set_employee_data(employee_id: int, data: object, timeout: float = EMPLOYEE_SECONDS) -> bool:
        """Keep what is known of an employee."""
        return keep_cached(employee_key(employee_id), data, timeout)

    @staticmethod
    def get_employee_data(employee_id: int) -> Any:
        """What is known of an employee."""
        return _get(employee_key(employee_id))

    @staticmethod
    def delete_employee_data(employee_id: int) -> bool:
        """Forget what is known of an employee."""
        return _delete(employee_key(employee_id))

    @staticmethod
    def set_employee_interests(employee_id: int, interests: object, timeout: float = INTERESTS_SECONDS) -> bool:
        """Keep an employee's interests."""
        return keep_cached(interests_key(employee_id), interests, timeout)

    @staticmethod
    def get_employee_interests(employee_id: int) -> Any:
        """An employee's interests."""
        return _get(interests_key(employee_id))

    @staticmethod
    def delete_employee_interests(employee_id: int) -> bool:
        """Forget an employee's interests."""
        return _delete(interests_key(employee_id))

    @staticmethod
    def set_activity_participants(
        activity_id: int, participants: object, timeout: float = PARTICIPANTS_SECONDS
    ) -> bool:
        """Keep who takes part in an activity."""
        return keep_cached(participants_key(activity_id), participants, timeout)

    @staticmethod
    def get_activity_participants(activity_id: int) -> Any:
        """Who takes part in an activity."""
        return _get(participants_key(activity_id))

    @staticmethod
    def delete_activity_participants(activity_id: int) -> bool:
        """Forget who takes part in an activity."""
        return _delete(participants_key(activity_id))

    @staticmethod
    def set_user_session(user_id: int, session: object, timeout: float = SESSION_SECONDS) -> bool:
        """Keep what the old manager calls a user's session; Django's own sessions are something else."""
        return keep_cached(session_key(user_id), session, timeout)

    @staticmethod
    def get_user_session(user_id: int) -> Any:
        """What the old manager calls a user's session."""
        return _get(session_key(user_id))

    @staticmethod
    def delete_user_session(user_id: int) -> bool:
        """Forget what the old manager calls a user's session."""
        return _delete(session_key(user_id))

    @staticmethod
    def invalidate_employee_cache(employee_id: int) -> bool:
        """Forget what is cached of an employee: data and interests."""
        return forget_employee(employee_id)

    @staticmethod
    async def async_invalidate_employee_cache(employee_id: int) -> bool:
        """The same, without holding up the event loop."""
        return await awaitable(forget_employee, employee_id)


class EnhancedRedisManager(RedisManager):
    """The old manager with what `redis_integration` can do, in static methods like its own."""

    @staticmethod
    def cache_user_menu(user_id: int, menu_data: object, menu_type: str = "main") -> bool:
        """Keep a menu of a user."""
        return MenuCache.set_user_menu(user_id, menu_data, menu_type)

    @staticmethod
    def get_cached_user_menu(user_id: int, menu_type: str = "main") -> dict[str, Any] | None:
        """What `MenuCache.get_user_menu` answers."""
        return MenuCache.get_user_menu(user_id, menu_type)

    @staticmethod
    def publish_event(user_id: int, event_type: str, data: Mapping[str, Any] | None = None) -> bool:
        """Tell what concerns one user."""
        return EventPublisher.publish_user_event(user_id, event_type, data)

    @staticmethod
    def store_temp_data(key: str, data: object, timeout: float | None = None) -> bool:
        """Keep something for a while."""
        return TempDataManager.store_temp_data(key, data, timeout)

    @staticmethod
    def get_temp_data(key: str, default: Any = None) -> Any:
        """What `store_temp_data` kept."""
        return TempDataManager.get_temp_data(key, default)

    @staticmethod
    def health_check() -> dict[str, Any]:
        """What `redis_integration.health_check` answers."""
        return redis_integration.health_check()


def _get(key: str) -> Any:
    site = default_site()
    return site.ask(f"the cached {key}", lambda: site.clients.cache.get(key), None)


def _delete(key: str) -> bool:
    site = default_site()
    return site.do(f"the cached {key}", lambda: site.clients.cache.delete(key))
