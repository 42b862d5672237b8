"""v21's file of this name: now one line."""

from connectbot.compat import *  # noqa: F403
