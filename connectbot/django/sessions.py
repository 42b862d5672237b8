"""Sessions kept as Django's cache engine keeps them: ``SESSION_ENGINE = "connectbot.django.sessions"``.

Where Django's own engine cannot create a session, it tries ten thousand ids. With a Redis that is frozen and
IGNORE_EXCEPTIONS each of them waits for its timeout, and a visitor's request hangs for hours. This engine gives up at
the first. The sessions are the same: a site may change from one engine to the other at any time.
"""

from __future__ import annotations

from django.contrib.sessions.backends import cache
from django.contrib.sessions.backends.base import CreateError

from connectbot.errors import RedisUnavailable

_NOT_KEPT = "the visitor's session could not be kept: Redis does not answer"


class SessionStore(cache.SessionStore):
    """One session. Saving a new one raises `RedisUnavailable` when Redis does not take it."""

    def save(self, must_create: bool = False) -> None:
        """As Django does it; what was refused though its id is free, was refused for want of Redis."""
        try:
            super().save(must_create=must_create)
        except CreateError:
            if self.exists(self.session_key):
                raise
            raise RedisUnavailable(_NOT_KEPT) from None

    async def asave(self, must_create: bool = False) -> None:
        """`save`, awaited."""
        try:
            await super().asave(must_create=must_create)
        except CreateError:
            if await self.aexists(self.session_key):
                raise
            raise RedisUnavailable(_NOT_KEPT) from None
