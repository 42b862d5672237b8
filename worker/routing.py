"""Which event goes where: the one table. Add an event by adding a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from connectbot.entries import UNREADABLE
from connectbot.errors import SettingsError
from connectbot.events import ConnectBotEvents as Types
from connectbot.settings import Settings
from tasks import enqueued, java, matching, menus, upkeep

DEFAULT: Final = "default"
JAVA: Final = "java"
LANES: Final = (DEFAULT, JAVA)

SPARE_BATCHES: Final = 2
"""Batches handed out beyond one for each process of the pool, so that none waits for its next one."""
TASK_TIME_LIMIT_SECONDS: Final = 120.0
"""How long a task that was enqueued directly may take."""


@dataclass(frozen=True, slots=True)
class Route:
    """Events of one type, the lane that handles them, and the task that does."""

    type: str
    lane: str
    task: Any


def table(*routes: Route) -> tuple[Route, ...]:
    """The routes as they are, after a look that no lane has two for one type. Raises `SettingsError`."""
    seen: set[tuple[str, str]] = set()
    for route in routes:
        if route.lane not in LANES:
            raise SettingsError(f"the route of {route.type!r} names the lane {route.lane!r}, which does not exist")
        if (route.type, route.lane) in seen:
            raise SettingsError(f"the lane {route.lane!r} has two routes for {route.type!r}")
        seen.add((route.type, route.lane))
    return routes


ROUTES: Final = table(
    Route(Types.USER_CREATED, DEFAULT, menus.follow_users),
    Route(Types.USER_UPDATED, DEFAULT, menus.follow_users),
    Route(Types.USER_DELETED, DEFAULT, menus.follow_users),
    Route(Types.USER_LOGIN, DEFAULT, menus.follow_users),
    Route(Types.SYSTEM_CACHE_CLEARED, DEFAULT, menus.follow_users),
    Route(Types.MENUS_WARM, DEFAULT, menus.warm_chunk),
    Route(Types.MATCHING_REQUEST, JAVA, matching.answer),
    Route(Types.JAVA_FORWARD, JAVA, java.forward_job),
    Route(Types.TASK_ENQUEUED, DEFAULT, enqueued.call_task),
    Route(Types.JAVA_TASK_ENQUEUED, JAVA, enqueued.call_task),
    Route(UNREADABLE, DEFAULT, upkeep.bury),
)


def tasks_of(lane: str, routes: Iterable[Route]) -> Mapping[str, Any]:
    """The task for each type of event that a lane handles."""
    return {route.type: route.task for route in routes if route.lane == lane}


def event_tasks(routes: Iterable[Route]) -> Iterable[Any]:
    """Every task that works on events, each once."""
    return {route.task.name: route.task for route in routes}.values()


def batch_size(lane: str, settings: Settings) -> int:
    """Most entries that one order of a lane may hold."""
    return settings.java_batch_size if lane == JAVA else settings.batch_size


def time_limit_seconds(lane: str, settings: Settings) -> float:
    """How long one order of a lane may take before its process is killed (Celery: ``time_limit``)."""
    if lane != JAVA:
        return settings.batch_time_limit_seconds
    return settings.java_rounds * settings.java_service_timeout_seconds + settings.batch_time_limit_seconds
