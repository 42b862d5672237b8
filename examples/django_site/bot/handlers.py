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


async def handle_menu_command_async(user_id):
    """The same for python-telegram-bot's coroutines: waiting for Redis never holds up the event loop."""
    aio = redis_integration.aio

    menu = await aio.menu_cache.get_user_menu(user_id)
    if not menu:
        menu = await aio.menu_builder.build_main_menu(user_id)
    await aio.events.publish_user_event(user_id, "user.menu_opened", {"menu_type": "main"})
    return menu
