"""v21's side of the caches: real django-redis, set up as the deployed site is.

``python -m benchmarks.apps.django_cache loop|many COUNT`` prints how many seconds writing so many menus took, and how
many of CPU.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import django
from django.conf import settings

from benchmarks.work import FIRST_USER, TTL_MS, broker_url, menu_text, role_of

CHUNK = 500


def configured_cache() -> Any:
    """Django's default cache with v21's options."""
    options = {
        "CLIENT_CLASS": "django_redis.client.DefaultClient",
        "CONNECTION_POOL_KWARGS": {"max_connections": 20},
        "COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor",
        "IGNORE_EXCEPTIONS": True,
    }
    default = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": broker_url(), "OPTIONS": options}
    settings.configure(CACHES={"default": default})
    django.setup()
    from django.core.cache import cache  # only now: it asks for the settings

    return cache


def key(user_id: int) -> str:
    """The key as Django code writes it."""
    return f"menu:user:{user_id}:main"


def loop(cache: Any, users: range) -> None:
    """v21's ``set_user_menu``, user by user."""
    for user_id in users:
        cache.set(key(user_id), menu_text(user_id, role_of(user_id)), timeout=TTL_MS // 1000)


def many(cache: Any, users: range) -> None:
    """The quickest that django-redis has: ``set_many``, 500 at a time."""
    for at in range(0, len(users), CHUNK):
        part = users[at : at + CHUNK]
        cache.set_many({key(user_id): menu_text(user_id, role_of(user_id)) for user_id in part}, TTL_MS // 1000)


if __name__ == "__main__":
    ours = configured_cache()
    ours.set("first", "connects", timeout=1)
    began, used = time.perf_counter(), time.process_time()
    {"loop": loop, "many": many}[sys.argv[1]](ours, range(FIRST_USER, FIRST_USER + int(sys.argv[2])))
    print(time.perf_counter() - began, time.process_time() - used)
