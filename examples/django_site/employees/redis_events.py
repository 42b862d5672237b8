"""v21's file of this name: now one line."""

from connectbot.integration.events import *  # noqa: F403
