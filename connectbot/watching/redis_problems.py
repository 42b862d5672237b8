"""What is wrong with a Redis itself: its state and its configuration, as INFO tells them.

Used by ``connectbot check``, by a worker when it starts and by ``/metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from connectbot.keys import Keys
from connectbot.redis_client import RedisClient, translated_errors
from connectbot.watching.servers import Server, refused_write

FULL_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. ``name`` is for machines.

    ``is_advice``: all works, and yet it should be changed. ``stops_all``: nothing works until it is mended, and what
    else could be found would follow from it.
    """

    name: str
    cause: str
    remedy: str
    is_advice: bool = False
    stops_all: bool = False


def redis_problems(client: RedisClient, server: Server) -> list[Problem]:
    """What is wrong with a server's state and configuration. Raises `RedisUnavailable`."""
    with translated_errors():
        info: dict[str, Any] = client.info("everything")
    found = [problem for look in _LOOKS if (problem := look(info, server)) is not None]
    return [replace(problem, name=server.prefix + problem.name) for problem in found]


def server_problems(client: RedisClient, server: Server, keys: Keys) -> list[Problem]:
    """The same, and whether the server takes what is written to it, which is tried. Raises `RedisUnavailable`."""
    problems = redis_problems(client, server)
    refusal = refused_write(client, keys)
    if not refusal:
        return problems
    explanations = {server.prefix + name for name in _EXPLAIN_REFUSALS}
    if explanations.isdisjoint(problem.name for problem in problems):
        problems.append(_refuses_writes(server, refusal))
    return [replace(problem, stops_all=not problem.is_advice) for problem in problems]


def _refuses_writes(server: Server, refusal: str) -> Problem:
    return Problem(
        f"{server.prefix}refuses_writes",
        f"{server.called} refuses all that is written to it: {refusal}.",
        f"Mend that, or name another server in {server.setting}; work goes on by itself.",
    )


def _may_evict(info: Mapping[str, Any], server: Server) -> Problem | None:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return None
    return Problem(
        "may_evict",
        f"{server.called} may drop {server.holds} when its memory is full (maxmemory-policy {policy}).",
        f"Set maxmemory-policy noeviction: a full Redis must refuse {server.holds} loudly.",
    )


def _keeps_nothing(info: Mapping[str, Any], server: Server) -> Problem | None:
    if info.get("aof_enabled", 1):
        return None
    return Problem(
        "keeps_nothing",
        f"{server.called} loses {server.holds} when it restarts (appendonly no).",
        "Set appendonly yes.",
    )


def _cannot_write_log(info: Mapping[str, Any], server: Server) -> Problem | None:
    if info.get("aof_last_write_status", "ok") == "ok":
        return None
    return Problem(
        "disk_full",
        f"{server.called} cannot write its append-only file (aof_last_write_status err) and refuses all "
        f"{server.holds}: most likely its disk is full.",
        "Make room on the disk of its data directory; it goes on by itself.",
    )


def _cannot_rewrite_log(info: Mapping[str, Any], server: Server) -> Problem | None:
    if info.get("aof_last_bgrewrite_status", "ok") == "ok":
        return None
    return Problem(
        "cannot_rewrite",
        f"{server.called} has failed to rewrite its append-only file (aof_last_bgrewrite_status err).",
        "Make room on the disk, then run BGREWRITEAOF; its log says more.",
    )


def _cannot_save(info: Mapping[str, Any], server: Server) -> Problem | None:
    if info.get("rdb_last_bgsave_status", "ok") == "ok":
        return None
    return Problem(
        "cannot_save",
        f"{server.called} has failed to save its last snapshot (rdb_last_bgsave_status err), and may refuse every "
        "write for that.",
        "Make room on the disk, then run BGSAVE; its log says more.",
    )


def _memory_full(info: Mapping[str, Any], server: Server) -> Problem | None:
    most, used = info.get("maxmemory", 0), info.get("used_memory", 0)
    if not most or used < most * FULL_SHARE:
        return None
    return Problem(
        "memory_full",
        f"{server.called} uses {used / most:.0%} of its memory (maxmemory {most:,} bytes); full, it refuses "
        f"{server.holds}.",
        f"Raise maxmemory, {server.relief}.",
    )


def _is_replica(info: Mapping[str, Any], server: Server) -> Problem | None:
    if info.get("role", "master") == "master":
        return None
    return Problem(
        "is_replica",
        f"{server.setting} names a replica, which takes no writes.",
        f"Name the master, or the sentinels (sentinel://...), in {server.setting}.",
    )


def _was_flushed(info: Mapping[str, Any], server: Server) -> Problem | None:
    """The site's cache lies in the stream's database (REDIS_URL serves both), and Django's cache.clear() flushes it."""
    calls = sum(info.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("flushdb", "flushall"))
    if not calls or server.prefix:
        return None
    return Problem(
        "was_flushed",
        f"The cache shares its database with the stream, and somebody has flushed databases of this Redis ({calls}x "
        "since it started): events that waited in one of them are gone.",
        "Use redis_integration.clear_all_cache() in place of Django's cache.clear(), and forbid FLUSHDB by ACL.",
        is_advice=True,
    )


_EXPLAIN_REFUSALS: Final = frozenset({"is_replica", "disk_full", "cannot_save", "memory_full"})
_LOOKS: Final[Sequence[Callable[[Mapping[str, Any], Server], Problem | None]]] = (
    _is_replica, _cannot_write_log, _cannot_save, _cannot_rewrite_log, _memory_full,
    _may_evict, _keeps_nothing, _was_flushed,
)  # fmt: skip
