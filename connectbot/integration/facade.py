"""``redis_integration``: all of v21's Redis in one object."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from connectbot.asynchronous import Awaitable
from connectbot.events import ConnectBotEvents
from connectbot.integration import health
from connectbot.integration.clearing import clear_all
from connectbot.integration.events import EventPublisher
from connectbot.integration.menu_cache import MenuBuilder, MenuCache
from connectbot.integration.site import SiteSource, default_site
from connectbot.integration.temp_data import TempDataManager, UserTempDataManager
from connectbot.settings import Settings

__all__ = ["RedisIntegration", "get_redis_integration", "redis_integration"]


class RedisIntegration:
    """v21's facade. Nothing is read or opened before the first call.

    ``settings`` are those of the process unless given.
    """

    event_types = ConnectBotEvents

    def __init__(self, settings: Settings | None = None) -> None:
        self._site = default_site if settings is None else SiteSource(lambda: settings)
        self.menu_cache = MenuCache.of(self._site)
        self.menu_builder = MenuBuilder.of(self._site)
        self.events = EventPublisher.of(self._site)
        self.temp_data = TempDataManager.of(self._site)

    def get_user_manager(self, user_id: int) -> UserTempDataManager:
        """The temporary data of one user."""
        return UserTempDataManager(user_id, self.temp_data)

    def health_check(self) -> dict[str, Any]:
        """What works and what does not, tried for real: ``status`` is ``healthy``, ``degraded`` or ``unhealthy``."""
        return health.check(self._site())

    def get_cache_stats(self) -> dict[str, Any]:
        """How much there is in Redis and how it is used. Looks at every key, in steps: for operators."""
        return health.statistics(self._site())

    def clear_all_cache(self) -> bool:
        """Remove every menu, all temporary data and all that the old manager cached.

        Nothing else goes, such as Django's sessions. Answers whether all of it is removed and the workers are told, who
        build the menus of known users anew.
        """
        return clear_all(self._site()) and self.events.publish_global_event(
            ConnectBotEvents.SYSTEM_CACHE_CLEARED, {"cache_type": "all"}
        )

    @cached_property
    def aio(self) -> Any:
        """All of this, to be awaited: ``await redis_integration.aio.menu_cache.get_user_menu(7)``."""
        return _AwaitableIntegration(self)

    def close(self) -> None:
        """Close connections and files; the next call opens them anew."""
        self._site.close()


class _AwaitableIntegration(Awaitable):
    def get_user_manager(self, user_id: int) -> Awaitable:
        """The temporary data of one user; this one call needs no ``await``."""
        return Awaitable(self._target.get_user_manager(user_id))  # type: ignore[attr-defined]


redis_integration = RedisIntegration()


def get_redis_integration() -> RedisIntegration:
    """The facade of this process."""
    return redis_integration
