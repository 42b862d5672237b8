"""The code in the summary of ConnectBot v21, typed in as it stands there."""

from __future__ import annotations

from typing import Final

# config/settings.py
SETTINGS: Final = """
# Redis Configuration
REDIS_URL = config('REDIS_URL', default='redis://localhost:6379/0')
JAVA_SERVICE_URL = config('JAVA_SERVICE_URL', default='http://localhost:8080')

# Cache с оптимизацией
CACHES = {
    'default': {
        'BACKEND': 'django_redis.cache.RedisCache',
        'LOCATION': REDIS_URL,
        'OPTIONS': {
            'CLIENT_CLASS': 'django_redis.client.DefaultClient',
            'CONNECTION_POOL_KWARGS': {'max_connections': 20},
            'COMPRESSOR': 'django_redis.compressors.zlib.ZlibCompressor',
            'IGNORE_EXCEPTIONS': True,
        },
    }
}

# Session engine
SESSION_ENGINE = 'django.contrib.sessions.backends.cache'
SESSION_CACHE_ALIAS = 'default'
"""

MENU_CACHE: Final = """
from employees.redis_integration import redis_integration

# Сохранить меню
redis_integration.menu_cache.set_user_menu(user_id, menu_data)

# Получить меню
menu = redis_integration.menu_cache.get_user_menu(user_id)

# Построить меню автоматически
menu = redis_integration.menu_builder.build_main_menu(user_id, 'admin')
"""

EVENTS: Final = """
# Пользовательские события
redis_integration.events.publish_user_event(
    user_id, 'user.login', {'timestamp': now()}
)

# Глобальные события
redis_integration.events.publish_global_event(
    'system.maintenance', {'message': 'Обслуживание'}
)

# События микросервисов
redis_integration.events.publish_microservice_event(
    'matching', 'matching.request', {'users': [1, 2]}
)
"""

TEMP_DATA: Final = """
# Пользовательские данные
user_manager = redis_integration.get_user_manager(user_id)
user_manager.store_form_data('step1', form_data)
user_manager.store_conversation_state(state)

# Общие временные данные
redis_integration.temp_data.store_temp_data(
    'key', data, timeout=300
)
"""

COMMANDS: Final = """
python manage.py test_redis --component=all --user-id=123
python manage.py test_redis --component=cache
python manage.py test_redis --component=events
python manage.py test_redis --component=health
"""

QUICK_CHECKS: Final = """
# Проверка здоровья
from employees.redis_integration import redis_integration
health = redis_integration.health_check()
print(health['status'])

# Тест кэширования
redis_integration.menu_cache.set_user_menu(1, {'test': 'data'})
menu = redis_integration.menu_cache.get_user_menu(1)

# Тест событий
redis_integration.events.publish_global_event('test', {'msg': 'hello'})
"""

HANDLER: Final = """
from employees.redis_integration import redis_integration

# В обработчике команды /menu
def handle_menu_command(user_id):
    # Попытка получить из кэша
    menu = redis_integration.menu_cache.get_user_menu(user_id)

    if not menu:
        # Строим новое меню
        menu = redis_integration.menu_builder.build_main_menu(user_id)

    # Публикуем событие
    redis_integration.events.publish_user_event(
        user_id, 'user.menu_opened', {'menu_type': 'main'}
    )

    return menu
"""
