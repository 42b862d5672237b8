"""What works, tried for real, and how much there is of everything."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from connectbot import scan
from connectbot.cache_keys import MENU_PREFIX, TEMP_PREFIX
from connectbot.errors import BacklogFull, Fault, UnreadableValue
from connectbot.integration.site import Site
from connectbot.offline.outage import Absence
from connectbot.redis_client import told_of, translated_errors

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
UNHEALTHY: Final = "unhealthy"

TRIAL_SECONDS: Final = 5.0
"""For how long a trial's value would live if this process died before removing it."""
_TRIAL: Final = "connectbot_health"


def check(site: Site) -> dict[str, Any]:
    """What v21's ``health_check`` answers, with causes. Never raises. No password or payload is in it.

    ``status`` is ``healthy``; ``degraded`` when Redis is there and something does not work all the same, or waits;
    or ``unhealthy``.
    """
    began = time.perf_counter()
    cause = _against(lambda: _ping(site))
    latency_ms = (time.perf_counter() - began) * 1000
    components = {name: _verdict(cause or _against(partial(trial, site))) for name, trial in _TRIALS.items()}
    spool = _spool(site)
    well = all(part["ok"] for part in components.values()) and (spool is None or spool["ok"])
    return {
        "status": UNHEALTHY if cause else HEALTHY if well else DEGRADED,
        "redis": {**_verdict(cause), "latency_ms": round(latency_ms, 3)},
        "components": components,
        "outage": {"now": _absence(site.outage.now), "last": _absence(site.outage.last)},
        "spool": spool,
        "last_complaint": _complaint(site),
        "checked_at": _iso(time.time()),
    }


def statistics(site: Site) -> dict[str, Any]:
    """What v21's ``get_cache_stats`` answers. Never raises; ``status`` is ``unavailable`` while Redis is away."""
    found = site.ask("the statistics", lambda: _counted(site), {"status": "unavailable"})
    return {**found, "local_menus": len(site.local_menus), "spool": _spool(site)}


# --- trials: what raises does not work ------------------------------------------------------------------


def _ping(site: Site) -> None:
    with translated_errors():
        site.clients.redis.ping()


def _try_cache(site: Site) -> None:
    cache, key, value = site.clients.cache, f"{_TRIAL}:{uuid.uuid4().hex}", {"text": "проверка " * 10}
    cache.set(key, value, TRIAL_SECONDS)
    _require_equal(cache.get(key), value)
    cache.delete(key)


def _try_events(site: Site) -> None:
    """An event would start work, so none is published: the stream is there or can be, and has room."""
    name, client, room = site.settings.keys.events, site.clients.redis, site.clients.publisher.room
    with translated_errors():
        kind = client.type(name)
        if kind not in (b"stream", b"none"):
            raise UnreadableValue(f"{name} is a {kind.decode()} and should be a stream: find out who wrote it")
        entries = client.xlen(name)
    if entries >= room:
        raise BacklogFull(f"the stream {name} is full ({entries} entries): `connectbot check` says who lags")


def _try_temp_data(site: Site) -> None:
    temp_data, key, value = site.clients.temp_data, uuid.uuid4().hex, {"шаг": [1, 2.5, None]}
    temp_data.store(_TRIAL, key, value, now=time.time(), ttl_seconds=TRIAL_SECONDS)
    _require_equal(temp_data.get(_TRIAL, key), value)
    temp_data.delete(_TRIAL, key)


_TRIALS: Final[dict[str, Callable[[Site], None]]] = {
    "cache": _try_cache,
    "events": _try_events,
    "temp_data": _try_temp_data,
}


def _require_equal(read: object, written: object) -> None:
    if read != written:
        raise UnreadableValue("what was written is not what is read: is Redis full, or evicting?")


def _against(trial: Callable[[], None]) -> str | None:
    """What speaks against it; None when it works."""
    try:
        trial()
    except Exception as error:  # also what a parameter of the URL makes redis-py raise
        return told_of(error)
    return None


# --- parts of the answers -------------------------------------------------------------------------------


def _verdict(cause: str | None) -> dict[str, Any]:
    return {"ok": cause is None, "cause": cause}


def _spool(site: Site) -> dict[str, Any] | None:
    """None when there is to be none."""
    if site.outbox is None:
        return None
    try:
        waiting, since = site.outbox.waiting()
    except Fault as error:
        return _verdict(str(error))
    return {
        **_verdict(site.outbox.hindrance or None),
        "waiting": waiting,
        "oldest_seconds": None if since is None else round(time.time() - since, 1),
    }


def _absence(absence: Absence | None) -> dict[str, Any] | None:
    if absence is None:
        return None
    return {
        "cause": absence.cause,
        "refuses_writes": absence.refuses_writes,
        "began_at": _iso(absence.began_at),
        "seconds": absence.seconds,
    }


def _complaint(site: Site) -> dict[str, str] | None:
    if site.complaints.last is None:
        return None
    text, at = site.complaints.last
    return {"text": text, "at": _iso(at)}


def _counted(site: Site) -> dict[str, Any]:
    client, keys = site.clients.redis, site.settings.keys
    with translated_errors():
        memory, clients, stats = client.info("memory"), client.info("clients"), client.info("stats")
        events, dead, users = client.xlen(keys.events), client.xlen(keys.dead), client.hlen(keys.users)
    asked = stats["keyspace_hits"] + stats["keyspace_misses"]
    return {
        "status": "available",
        **_cached(site),
        "known_users": users,
        "events": events,
        "dead_letters": dead,
        "memory_bytes": memory["used_memory"],
        "connected_clients": clients["connected_clients"],
        "keyspace_hits": stats["keyspace_hits"],
        "keyspace_misses": stats["keyspace_misses"],
        "hit_rate": round(stats["keyspace_hits"] / asked, 4) if asked else None,
    }


def _cached(site: Site) -> dict[str, int]:
    """How many of its keys the cache holds, by kind."""
    root = site.settings.cache_keys.physical("")
    skip, found = len(root.encode()), Counter[str]()
    for keys in scan.pages(site.clients.redis, f"{scan.literally(root)}*"):
        found.update(_kind(key[skip:]) for key in keys)
    return {"menus": found["menus"], "temp_data": found["temp_data"], "other_cached": found["other"]}


def _kind(key: bytes) -> str:
    if key.startswith(MENU_PREFIX.encode()):
        return "menus"
    return "temp_data" if key.startswith(TEMP_PREFIX.encode()) else "other"


def _iso(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat()
