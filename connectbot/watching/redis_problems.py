"""What is wrong with Redis itself: its state and its configuration, as INFO tells them.

Used by ``connectbot check``, by a worker when it starts and by ``/metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connectbot.redis_client import RedisClient, translated_errors
from connectbot.settings import Settings

FULL_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. ``name`` is for machines. ``is_advice``: all works, and yet it should be changed."""

    name: str
    cause: str
    remedy: str
    is_advice: bool = False


def redis_problems(client: RedisClient, settings: Settings) -> list[Problem]:
    """What is wrong with Redis' state and configuration. Raises `RedisUnavailable`."""
    with translated_errors():
        info: dict[str, Any] = client.info("everything")
    return [problem for look in _LOOKS if (problem := look(info, settings)) is not None]


def _may_evict(info: Mapping[str, Any], _: Settings) -> Problem | None:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return None
    return Problem(
        "may_evict",
        f"Redis may drop events when its memory is full (maxmemory-policy {policy}).",
        "Set maxmemory-policy noeviction: a full Redis must refuse events loudly.",
    )


def _keeps_nothing(info: Mapping[str, Any], _: Settings) -> Problem | None:
    if info.get("aof_enabled", 1):
        return None
    return Problem(
        "keeps_nothing",
        "Redis loses events when it restarts (appendonly no).",
        "Set appendonly yes.",
    )


def _cannot_write_log(info: Mapping[str, Any], _: Settings) -> Problem | None:
    if info.get("aof_last_write_status", "ok") == "ok":
        return None
    return Problem(
        "disk_full",
        "Redis cannot write its append-only file (aof_last_write_status err) and refuses every event: "
        "most likely its disk is full.",
        "Make room on the disk of Redis' data directory; it goes on by itself.",
    )


def _cannot_rewrite_log(info: Mapping[str, Any], _: Settings) -> Problem | None:
    if info.get("aof_last_bgrewrite_status", "ok") == "ok":
        return None
    return Problem(
        "cannot_rewrite",
        "Redis' last rewrite of its append-only file failed (aof_last_bgrewrite_status err).",
        "Make room on the disk, then run BGREWRITEAOF; Redis' log says more.",
    )


def _cannot_save(info: Mapping[str, Any], _: Settings) -> Problem | None:
    if info.get("rdb_last_bgsave_status", "ok") == "ok":
        return None
    return Problem(
        "cannot_save",
        "Redis' last snapshot failed (rdb_last_bgsave_status err), and it may refuse every write for that.",
        "Make room on the disk, then run BGSAVE; Redis' log says more.",
    )


def _memory_full(info: Mapping[str, Any], _: Settings) -> Problem | None:
    most, used = info.get("maxmemory", 0), info.get("used_memory", 0)
    if not most or used < most * FULL_SHARE:
        return None
    return Problem(
        "memory_full",
        f"Redis uses {used / most:.0%} of its memory (maxmemory {most:,} bytes); full, it refuses events.",
        "Raise maxmemory, drop dead letters (connectbot dead), or start workers for a lane that lags.",
    )


def _is_replica(info: Mapping[str, Any], _: Settings) -> Problem | None:
    if info.get("role", "master") == "master":
        return None
    return Problem(
        "is_replica",
        "REDIS_URL names a replica, which takes no writes.",
        "Name the master, or the sentinels (sentinel://...), in REDIS_URL.",
    )


def _was_flushed(info: Mapping[str, Any], _: Settings) -> Problem | None:
    """The site's cache lies in the stream's database (REDIS_URL serves both), and Django's cache.clear() flushes it."""
    calls = sum(info.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("flushdb", "flushall"))
    if not calls:
        return None
    return Problem(
        "was_flushed",
        f"The cache shares its database with the stream, and somebody has flushed databases of this Redis ({calls}x "
        "since it started): events that waited in one of them are gone.",
        "Use redis_integration.clear_all_cache() in place of Django's cache.clear(), and forbid FLUSHDB by ACL.",
        is_advice=True,
    )


TAKES_NO_WRITES: Final = frozenset({"is_replica", "disk_full"})
"""What stops every worker: all else that could be found then follows from it."""
_LOOKS: Final[Sequence[Callable[[Mapping[str, Any], Settings], Problem | None]]] = (
    _is_replica, _cannot_write_log, _cannot_save, _cannot_rewrite_log, _memory_full,
    _may_evict, _keeps_nothing, _was_flushed,
)  # fmt: skip
