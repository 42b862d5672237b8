"""v21's file of this name: now one line."""

from connectbot.integration.menu_cache import *  # noqa: F403
