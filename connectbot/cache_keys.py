"""Every key of ours in Django's cache, with its lifetime. No other file spells one.

Redis sees them by the rule of Django's cache framework, ``{KEY_PREFIX}:{VERSION}:{key}``: see `CacheKeys`. The worker's
own keys are in `connectbot.keys`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CacheKeys:
    """Keys inside Django's cache, as Django's default ``KEY_FUNCTION`` makes them."""

    prefix: str = ""
    version: int = 1

    def physical(self, key: str) -> str:
        """The key that Redis sees for the cache's ``key``."""
        return f"{self.prefix}:{self.version}:{key}"


MENU_PREFIX = "menu:user:"
MENU_TYPES: Final = ("main", "preferences", "activities", "admin")
TEMP_PREFIX = "temp:"
SESSIONS = "sessions"
"""The namespace of sessions' temporary data (contract v21)."""
MATCHING_RESULTS, JAVA_RESULTS = "matching_results", "java_results"
"""The namespaces of what the Java service has answered."""
MATCHING_FAILURES = "matching_failures"
"""The namespace of why matching requests have failed: request → its ``reason``. Kept for some minutes."""


def menu_key(user_id: int, menu_type: str) -> str:
    """Cache key of one menu (contract v21). A string; lives MENU_TTL_SECONDS."""
    return f"{MENU_PREFIX}{user_id}:{menu_type}"


def temp_key(namespace: str, key: str) -> str:
    """Cache key of one piece of temporary data (contract v21). A string; lives as long as its writer said."""
    return f"{TEMP_PREFIX}{namespace}:{key}"


def told_temp_key(namespace: str, key: str) -> str:
    """`temp_key` as a log may tell it: who knows the key of a session may be let in by it."""
    return temp_key(namespace, "…" if namespace == SESSIONS else key)


def user_namespace(user_id: int) -> str:
    """The namespace of one user's temporary data (contract v21)."""
    return f"user_{user_id}"


# --- cache keys of v21's old manager (contract v21), which no other part of ours writes -------------------


def employee_key(employee_id: int) -> str:
    """Cache key of what is known of an employee. Lives an hour."""
    return f"emp:{employee_id}"


def interests_key(employee_id: int) -> str:
    """Cache key of an employee's interests. Lives half an hour."""
    return f"int:{employee_id}"


def participants_key(activity_id: int) -> str:
    """Cache key of who takes part in an activity. Lives a quarter of an hour."""
    return f"act:{activity_id}:participants"


def session_key(user_id: int) -> str:
    """Cache key of what the old manager calls a user's session. Lives two hours."""
    return f"sess:{user_id}"


def result_key(name: str, digest: str) -> str:
    """Cache key of what a function answered for some arguments (`cache_result`). Lives as its decorator says."""
    return f"result:{name}:{digest}"


OLD_MANAGER_PATTERNS = ("emp:*", "int:*", "act:*:participants", "sess:*")
RESULT_PATTERN = "result:*"
