"""What the bot does with a command."""

from employees.redis_integration import redis_integration


def handle_menu_command(user_id):
    """Answer /menu, as v21's summary shows it."""
    # Попытка получить из кэша
    menu = redis_integration.menu_cache.get_user_menu(user_id)

    if not menu:
        # Строим новое меню
        menu = redis_integration.menu_builder.build_main_menu(user_id)

    # Публикуем событие
    redis_integration.events.publish_user_event(user_id, "user.menu_opened", {"menu_type": "main"})

    return menu
