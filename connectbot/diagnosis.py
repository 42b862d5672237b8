"""What is wrong with an installation, each in a sentence that names the cause, and one that says what to do.

Used by ``connectbot check``, by a worker when it starts and by ``/metrics``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from connectbot.circuit_breaker import State
from connectbot.errors import RedisUnavailable
from connectbot.figures import Figures, LaneFigures, read_figures
from connectbot.processes import Processes, Seen
from connectbot.redis_client import RedisClient, connect, translated_errors
from connectbot.redis_url import RedisAddress
from connectbot.settings import Settings

ANSWER_SECONDS: Final = 2.0
"""A Redis that takes longer to answer hangs."""
OLD_SECONDS: Final = 60.0
BEAT_SILENT_SECONDS: Final = 30.0
OVERDUE_SECONDS: Final = 30.0
GROWING_FROM: Final = 1000
LOOK_AGAIN_SECONDS: Final = 1.0
FULL_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. ``name`` is for machines. ``is_advice``: all works, and yet it should be changed."""

    name: str
    cause: str
    remedy: str
    is_advice: bool = False


class Diagnosis:
    """A look at one installation. ``lanes`` are those that somebody must serve."""

    def __init__(self, settings: Settings, lanes: Sequence[str]) -> None:
        self._settings = settings
        self._lanes = lanes

    def problems(self) -> list[Problem]:
        """All that is wrong; what only follows from something worse is left out. Never raises because Redis is away."""
        client = _connect(self._settings.redis_url)
        try:
            problems = redis_problems(client, self._settings)
            if _TAKES_NO_WRITES.isdisjoint(problem.name for problem in problems):
                problems += self._inside(client)
        except RedisUnavailable as reason:
            return [_unavailable("redis", self._settings.redis_url, reason)]
        except redis.ResponseError as error:
            return [
                Problem(
                    "redis_refuses",
                    f"Redis refuses a command that this look needs: {error}.",
                    "Take the user `operator` of deploy/redis-acl, or allow it what that one may.",
                )
            ]
        else:
            return problems
        finally:
            client.close()

    def _inside(self, client: RedisClient) -> Iterator[Problem]:
        keys = self._settings.keys
        figures = read_figures(client, keys, self._lanes)
        yield from self._broker()
        seen = Processes(client, keys).seen(now=time.time())
        for lane in figures.lanes:
            yield from lane_problems(lane, self._settings, seen)
            yield from self._growth(client, lane)
        yield from beat_problems(figures, seen)
        yield from other_problems(figures)

    def _broker(self) -> Iterator[Problem]:
        url = self._settings.broker_url
        if url == self._settings.redis_url:
            return
        client = _connect(url)
        try:
            with translated_errors():
                client.ping()
        except RedisUnavailable as reason:
            yield _unavailable("broker", url, reason)
        finally:
            client.close()

    def _growth(self, client: RedisClient, lane: LaneFigures) -> Iterator[Problem]:
        """A backlog is looked at again a second later: is it on the way down?"""
        if lane.backlog < GROWING_FROM or not lane.consumers:
            return
        time.sleep(LOOK_AGAIN_SECONDS)
        later = next(iter(read_figures(client, self._settings.keys, [lane.lane]).lanes))
        if later.backlog > lane.backlog:
            yield Problem(
                "backlog_grows",
                f"The backlog of lane {lane.lane} grows: {_events(later.backlog)} waiting, "
                f"{later.backlog - lane.backlog:,} more than a second before.",
                f"Start more workers for the lane (celery -A worker worker -Q {lane.lane}).",
            )


def _connect(url: str) -> RedisClient:
    return connect(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)


def _unavailable(name: str, url: str, reason: RedisUnavailable) -> Problem:
    """Why Redis cannot serve, as far as that can be told from here."""
    what = "Redis" if name == "redis" else "The broker's Redis"
    where = f"{what} at {RedisAddress.parse(url)}"
    cause = reason.__cause__
    if isinstance(cause, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return Problem(f"{name}_refuses", f"{where} refuses our user or password.", "Correct the URL in the settings.")
    if isinstance(cause, redis.TimeoutError):
        return Problem(
            f"{name}_frozen",
            f"{where} does not answer within {ANSWER_SECONDS:g} s: it hangs, or the way there is cut.",
            "Look whether its process is stopped, swapping or in a long command; restart it if it does not recover.",
        )
    if isinstance(cause, redis.ConnectionError) and not isinstance(cause, redis.exceptions.BusyLoadingError):
        return Problem(
            f"{name}_away",
            f"{where} cannot be reached: nobody takes the connection.",
            "Start Redis, or correct REDIS_URL (CELERY_BROKER_URL for the broker); no event is lost meanwhile.",
        )
    return Problem(f"{name}_cannot_serve", f"{where} cannot serve now: {cause}.", "Redis' own log says why.")


# --- Redis itself -------------------------------------------------------------------------------------


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
        f"The cache shares its database with the stream, and somebody has flushed a database of this Redis {calls} "
        "times since it started: events that waited in it are gone.",
        "Use redis_integration.clear_all_cache() in place of Django's cache.clear(), and forbid FLUSHDB by ACL.",
        is_advice=True,
    )


_TAKES_NO_WRITES: Final = frozenset({"is_replica", "disk_full"})
"""What stops every worker: all else that could be found then follows from it."""
_LOOKS: Final[Sequence[Callable[[Mapping[str, Any], Settings], Problem | None]]] = (
    _is_replica, _cannot_write_log, _cannot_save, _cannot_rewrite_log, _memory_full,
    _may_evict, _keeps_nothing, _was_flushed,
)  # fmt: skip


# --- lanes, beat and the rest -------------------------------------------------------------------------


def lane_problems(lane: LaneFigures, settings: Settings, seen: Sequence[Seen] = ()) -> Iterator[Problem]:
    """What is wrong with one lane. ``seen`` are the processes of the installation, to name who hangs."""
    if not lane.consumers:
        yield _nobody_consumes(lane, seen)
    if lane.backlog >= settings.max_backlog * FULL_SHARE:
        yield Problem(
            "backlog_full",
            f"{_events(lane.backlog)} wait in lane {lane.lane}; at {settings.max_backlog:,} publishing fails.",
            f"Start more workers for it (celery -A worker worker -Q {lane.lane}), or raise CONNECTBOT_MAX_BACKLOG.",
        )
    if lane.consumers and lane.oldest_age_seconds > OLD_SECONDS:
        yield Problem(
            "backlog_old",
            f"The oldest of {_events(lane.backlog)} in lane {lane.lane} has waited {lane.oldest_age_seconds:.0f} s.",
            "Start more workers for the lane, or look in the log of its worker for what holds it up.",
        )


def _nobody_consumes(lane: LaneFigures, seen: Sequence[Seen]) -> Problem:
    waiting = f", with {_events(lane.backlog)} waiting" if lane.backlog else ""
    workers = [one for one in seen if one.process.role == "worker" and _serves(one, lane.lane)]
    for one in workers:
        process = one.process
        if one.is_silent:
            return Problem(
                "no_consumer",
                f"No consumer of lane {lane.lane} lives{waiting}: worker {process.name} (pid {process.pid}) has not "
                f"been heard of for {one.silent_seconds:.0f} s, so it hangs, was killed or is cut off.",
                "Restart it.",
            )
        return Problem(
            "no_consumer",
            f"Worker {process.name} (pid {process.pid}) runs, but its consumer of lane {lane.lane} is dead or stuck"
            f"{waiting}.",
            f"Restart it; http://{process.probes}/livez says what stands still." if process.probes else "Restart it.",
        )
    return Problem(
        "no_consumer",
        f"No worker serves lane {lane.lane}{waiting}.",
        f"Start one: celery -A worker worker -Q {lane.lane}.",
    )


def _events(number: int) -> str:
    return "1 event" if number == 1 else f"{number:,} events"


def _serves(one: Seen, lane: str) -> bool:
    return lane in one.process.lanes


def beat_problems(figures: Figures, seen: Sequence[Seen]) -> Iterator[Problem]:
    """Whether the schedule ticks. A tick is worked on by the lane ``default``: without it nothing can be said."""
    if figures.last_tick is not None and figures.now - figures.last_tick <= BEAT_SILENT_SECONDS:
        return
    if any(lane.lane == "default" and not lane.consumers for lane in figures.lanes):
        return
    since = "never" if figures.last_tick is None else f"{figures.now - figures.last_tick:.0f} s ago"
    beats = [one for one in seen if one.process.role == "beat"]
    silent = next((one for one in beats if one.is_silent), None)
    if beats and silent is not None:
        process = silent.process
        why = f": beat {process.name} (pid {process.pid}) has not been heard of for {silent.silent_seconds:.0f} s"
    else:
        why = ", although a beat runs" if beats else ", and no beat runs"
    yield Problem(
        "beat_silent",
        f"The schedule ticked last {since}{why}." if figures.last_tick else f"The schedule has never ticked{why}.",
        "Restart it; its log says what it waits for." if beats else "Start one: celery -A worker beat.",
    )


def other_problems(figures: Figures) -> Iterator[Problem]:
    """Dead letters, the circuit breaker, and temporary data that does not expire."""
    if figures.dead:
        yield Problem(
            "dead_letters",
            f"There are dead letters, events that could not be handled: {figures.dead:,}.",
            "See why with `connectbot dead list`, then replay or drop them.",
        )
    if figures.breaker != State.CLOSED.value:
        yield _breaker(figures)
    if figures.temp_data_overdue > GROWING_FROM:
        yield Problem(
            "temp_data_overdue",
            f"{figures.temp_data_overdue:,} pieces of temporary data are overdue: their owners were not told yet.",
            "Start more workers for the lane default.",
        )


def _breaker(figures: Figures) -> Problem:
    parked = sum(lane.parked for lane in figures.lanes)
    by_hand = figures.breaker == State.FORCED_OPEN.value
    return Problem(
        "breaker_open",
        f"The circuit breaker of the Java service is {figures.breaker.replace('_', ' ')}; jobs parked: {parked:,}.",
        "An operator has forced it open: `connectbot java release` lets the jobs go on."
        if by_hand
        else "Look after the Java service: the jobs go on by themselves when it is well, and none is lost.",
    )
