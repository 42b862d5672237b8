"""Emptying the cache of what is ConnectBot's, and of nothing else: Redis is never flushed."""

from __future__ import annotations

from typing import Final

from connectbot import scan
from connectbot.cache_keys import (
    JAVA_RESULTS,
    MATCHING_FAILURES,
    MATCHING_RESULTS,
    MENU_PREFIX,
    OLD_MANAGER_PATTERNS,
    RESULT_PATTERN,
    TEMP_PREFIX,
    temp_key,
)
from connectbot.integration.site import Site
from connectbot.redis_client import translated_errors

PATTERNS: Final = (f"{MENU_PREFIX}*", f"{TEMP_PREFIX}*", *OLD_MANAGER_PATTERNS, RESULT_PATTERN)
ANSWERS: Final = (MATCHING_RESULTS, MATCHING_FAILURES, JAVA_RESULTS)
"""Namespaces of what is no cache: nobody would ask the Java service for it again."""


def clear_all(site: Site) -> bool:
    """Remove menus, temporary data and what the old manager cached, step by step. Answers whether Redis was there."""
    site.local_menus.clear()
    return site.do("clearing the cache", lambda: _clear(site))


def _clear(site: Site) -> None:
    temp_data, client = site.clients.temp_data, site.clients.redis
    for page in temp_data.indexed():  # first, so that no `temp.expired` follows
        for namespace in page.keys() - ANSWERS:
            temp_data.delete(namespace, *page[namespace])
    physical = site.settings.cache_keys.physical
    answers = tuple(physical(temp_key(namespace, "")).encode() for namespace in ANSWERS)
    for pattern in PATTERNS:
        for found in scan.pages(client, scan.literally(physical("")) + pattern):
            if gone := [key for key in found if not key.startswith(answers)]:
                with translated_errors():
                    client.unlink(*gone)
