"""v21's file of this name: now one line."""

from connectbot.integration import *  # noqa: F403
