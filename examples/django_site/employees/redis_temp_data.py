"""v21's file of this name: now one line."""

from connectbot.integration.temp_data import *  # noqa: F403
