"""v21's Redis integration: the same names, arguments and answers, on the worker's ground.

Importing it reads no setting and opens nothing. A v21 site puts one line into each of its five files:

    employees/redis_integration.py    from connectbot.integration import *
    employees/redis_menu_cache.py     from connectbot.integration.menu_cache import *
    employees/redis_events.py         from connectbot.integration.events import *
    employees/redis_temp_data.py      from connectbot.integration.temp_data import *
    employees/redis_utils.py          from connectbot.compat import *
"""

from connectbot.asynchronous import awaitable
from connectbot.integration.events import (
    ConnectBotEvents,
    EventPublisher,
    EventSubscriber,
    publish_activity_scheduled,
    publish_cache_cleared,
    publish_matching_request,
    publish_user_created,
)
from connectbot.integration.facade import RedisIntegration, get_redis_integration, redis_integration
from connectbot.integration.helpers import (
    cache_result,
    cache_user_menu,
    get_cached_user_menu,
    get_user_temp_data,
    invalidate_user_cache,
    publish_user_action,
    store_user_temp_data,
)
from connectbot.integration.menu_cache import MenuBuilder, MenuCache
from connectbot.integration.temp_data import (
    ActivityTempDataManager,
    SessionDataManager,
    TempDataManager,
    UserTempDataManager,
    get_quick_data,
    get_user_temp_manager,
    store_quick_data,
)

__all__ = [
    "ActivityTempDataManager",
    "ConnectBotEvents",
    "EventPublisher",
    "EventSubscriber",
    "MenuBuilder",
    "MenuCache",
    "RedisIntegration",
    "SessionDataManager",
    "TempDataManager",
    "UserTempDataManager",
    "awaitable",
    "cache_result",
    "cache_user_menu",
    "get_cached_user_menu",
    "get_quick_data",
    "get_redis_integration",
    "get_user_temp_data",
    "get_user_temp_manager",
    "invalidate_user_cache",
    "publish_activity_scheduled",
    "publish_cache_cleared",
    "publish_matching_request",
    "publish_user_action",
    "publish_user_created",
    "redis_integration",
    "store_quick_data",
    "store_user_temp_data",
]
