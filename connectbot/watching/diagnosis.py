"""What is wrong with an installation, each in a sentence that names the cause, and one that says what to do.

What there is to find is in `redis_problems` and `lane_problems`; here it is put together, for ``connectbot check``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from typing import Final

import redis

from connectbot.errors import RedisUnavailable
from connectbot.redis_client import RedisClient, connect, translated_errors
from connectbot.redis_url import RedisAddress
from connectbot.settings import Settings
from connectbot.watching.figures import Figures, LaneFigures, furthest_behind, read_figures
from connectbot.watching.lane_problems import (
    GROWING_FROM,
    beat_problems,
    events,
    lane_problems,
    other_problems,
    process_problems,
)
from connectbot.watching.processes import Processes
from connectbot.watching.redis_problems import FULL_SHARE, TAKES_NO_WRITES, Problem, redis_problems

ANSWER_SECONDS: Final = 2.0
"""A Redis that takes longer to answer hangs."""
LOOK_AGAIN_SECONDS: Final = 1.0


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
            if TAKES_NO_WRITES.isdisjoint(problem.name for problem in problems):
                problems += self._inside(client)
        except RedisUnavailable as reason:
            return [_unavailable("redis", self._settings.redis_url, reason)]
        except redis.ResponseError as error:
            return [
                Problem(
                    "redis_refuses",
                    f"Redis refuses a command that this look needs: {error}.",
                    "See that REDIS_URL names the right server and database; where a right is missing, take the user "
                    "`operator` of deploy/redis-acl.",
                )
            ]
        else:
            return problems
        finally:
            client.close()

    def _inside(self, client: RedisClient) -> Iterator[Problem]:
        keys = self._settings.keys
        figures = read_figures(client, self._settings, self._lanes)
        yield from self._broker()
        seen = Processes(client, keys).seen(now=time.time())
        for lane in figures.lanes:
            yield from lane_problems(lane, self._settings, seen)
            yield from self._growth(client, lane)
        yield from self._fullness(client, figures)
        yield from process_problems(figures, seen)
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
        later = next(iter(read_figures(client, self._settings, [lane.lane]).lanes))
        if later.backlog > lane.backlog:
            yield Problem(
                "backlog_grows",
                f"The backlog of lane {lane.lane} grows: {events(later.backlog)} waiting, "
                f"{later.backlog - lane.backlog:,} more than a second before.",
                f"Start more workers for the lane (celery -A worker worker -Q {lane.lane}).",
            )

    def _fullness(self, client: RedisClient, figures: Figures) -> Iterator[Problem]:
        """Publishing may fail for a group of somebody else's, too: the stream keeps what any group still needs."""
        settings = self._settings
        if figures.entries - settings.stream_keep < settings.max_backlog * FULL_SHARE:
            return
        group = furthest_behind(client, settings.keys, self._lanes)
        if group is not None and group not in self._lanes:  # of a lane its backlog tells
            yield Problem(
                "stream_full",
                f"The stream {settings.keys.events} holds {figures.entries:,} entries, at {settings.room:,} publishing "
                f"fails, and the consumer group {group}, which is no lane, has not finished with the oldest.",
                "Have whoever reads in that group go on, and acknowledge; if nobody does any more, remove it: "
                f"XGROUP DESTROY {settings.keys.events} {group}.",
            )


def _connect(url: str) -> RedisClient:
    return connect(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)


def _unavailable(name: str, url: str, reason: RedisUnavailable) -> Problem:
    """Why Redis cannot serve, as far as that can be told from here."""
    what, setting = ("Redis", "REDIS_URL") if name == "redis" else ("The broker's Redis", "CELERY_BROKER_URL")
    where = f"{what} at {RedisAddress.parse(url)}"
    cause = reason.__cause__
    if isinstance(cause, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return Problem(f"{name}_refuses", f"{where} refuses our user or password.", f"Correct {setting}.")
    if isinstance(cause, redis.TimeoutError):
        return Problem(
            f"{name}_frozen",
            f"{where} does not answer within {ANSWER_SECONDS:g} s: it hangs, or the way there is cut.",
            f"See that {setting} names the right host, and whether that is down, or Redis stopped, swapping or in a "
            "long command; restart it if it does not recover.",
        )
    if isinstance(cause, redis.ConnectionError) and not isinstance(cause, redis.exceptions.BusyLoadingError):
        return Problem(
            f"{name}_away",
            f"{where} cannot be reached: {_why_not_reached(cause)}.",
            f"Start Redis, or correct {setting}; no event is lost meanwhile.",
        )
    return Problem(f"{name}_cannot_serve", f"{where} cannot serve now: {cause}.", "Redis' own log says why.")


def _why_not_reached(cause: redis.ConnectionError) -> str:
    if isinstance(cause, redis.sentinel.MasterNotFoundError):
        return "no sentinel answers and names a master"
    reason = cause.__context__  # the system's own error, which redis-py puts into words
    if isinstance(reason, socket.gaierror):
        return f"the name of its host does not resolve ({reason.strerror})"
    if isinstance(reason, ConnectionRefusedError | FileNotFoundError):
        return "nobody takes the connection"
    return str(cause).rstrip(".")
