"""Emptying the cache of what is ConnectBot's, and of nothing else: Redis is never flushed."""

from __future__ import annotations

from typing import Final

from connectbot import scan
from connectbot.cache_keys import MENU_PREFIX, OLD_MANAGER_PATTERNS, RESULT_PATTERN, TEMP_PREFIX
from connectbot.integration.site import Site
from connectbot.redis_client import translated_errors

PATTERNS: Final = (f"{MENU_PREFIX}*", f"{TEMP_PREFIX}*", *OLD_MANAGER_PATTERNS, RESULT_PATTERN)


def clear_all(site: Site) -> bool:
    """Remove menus, temporary data and what the old manager cached, step by step. Answers whether Redis was there."""
    site.local_menus.clear()
    return site.do("clearing the cache", lambda: _clear(site))


def _clear(site: Site) -> None:
    temp_data, client = site.clients.temp_data, site.clients.redis
    for page in temp_data.indexed():  # first, so that no `temp.expired` follows
        for namespace, keys in page.items():
            temp_data.delete(namespace, *keys)
    root = scan.literally(site.settings.cache_keys.physical(""))
    for pattern in PATTERNS:
        for found in scan.pages(client, root + pattern):
            with translated_errors():
                client.unlink(*found)
