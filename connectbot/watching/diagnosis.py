"""What is wrong with an installation, each in a sentence that names the cause, and one that says what to do.

What there is to find is in `redis_problems` and `lane_problems`; here it is put together, for ``connectbot check``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import redis

from connectbot.errors import RedisUnavailable
from connectbot.redis_client import RedisClient
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
from connectbot.watching.queues import tasks_waiting
from connectbot.watching.redis_problems import FULL_SHARE, Problem, server_problems
from connectbot.watching.servers import ANSWER_SECONDS, Server, servers

LOOK_AGAIN_SECONDS: Final = 1.0


class Diagnosis:
    """A look at one installation. ``lanes`` are those that somebody must serve."""

    def __init__(self, settings: Settings, lanes: Sequence[str]) -> None:
        self._settings = settings
        self._lanes = lanes

    def problems(self) -> list[Problem]:
        """All that is wrong; what only follows from something worse is left out. Never raises because Redis is away."""
        problems: list[Problem] = []
        try:
            problems.extend(self._of_servers())
            if not any(problem.stops_all for problem in problems):
                problems.extend(self._of_work())
        except CannotLook as error:
            problems.append(error.problem)
        return problems

    def _of_servers(self) -> Iterator[Problem]:
        for server in servers(self._settings):
            with _asked(server) as client:
                yield from server_problems(client, server, self._settings.keys)

    def _of_work(self) -> Iterator[Problem]:
        watched = servers(self._settings)
        with _asked(watched[-1]) as client:
            waiting = tasks_waiting(client, self._lanes)
        with _asked(watched[0]) as client:
            figures = read_figures(client, self._settings, self._lanes)
            seen = Processes(client, self._settings.keys).seen()
            for lane in figures.lanes:
                yield from lane_problems(lane, self._settings, seen)
                yield from self._growth(client, lane)
            yield from self._fullness(client, figures)
        yield from process_problems(figures, seen)
        yield from beat_problems(figures, seen, waiting)
        yield from other_problems(figures)

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


class CannotLook(Exception):
    """A server cannot be looked at, which is a ``problem`` itself."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.cause)
        self.problem = problem


@contextmanager
def _asked(server: Server) -> Iterator[RedisClient]:
    """A client for some questions to a server. Raises `CannotLook` when it does not answer them."""
    client = server.client()
    try:
        yield client
    except RedisUnavailable as reason:
        raise CannotLook(_unavailable(server, reason)) from reason
    except redis.ResponseError as error:
        raise CannotLook(
            Problem(
                f"{server.prefix or 'redis_'}refuses",
                f"{server.called} refuses a command that this look needs: {error}.",
                f"See that {server.setting} names the right server and database; where a right is missing, take the "
                "user `operator` of deploy/redis-acl.",
            )
        ) from error
    finally:
        client.close()


def _unavailable(server: Server, reason: RedisUnavailable) -> Problem:
    """Why a server cannot serve, as far as that can be told from here."""
    name, setting = server.prefix or "redis_", server.setting
    where = f"{server.called} at {RedisAddress.parse(server.url)}"
    cause = reason.__cause__
    if isinstance(cause, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return Problem(f"{name}refuses", f"{where} refuses our user or password.", f"Correct {setting}.")
    if isinstance(cause, redis.TimeoutError):
        return Problem(
            f"{name}frozen",
            f"{where} does not answer within {ANSWER_SECONDS:g} s: it hangs, or the way there is cut.",
            f"See that {setting} names the right host, and whether that is down, or Redis stopped, swapping or in a "
            "long command; restart it if it does not recover.",
        )
    if isinstance(cause, redis.ConnectionError) and not isinstance(cause, redis.exceptions.BusyLoadingError):
        return Problem(
            f"{name}away",
            f"{where} cannot be reached: {_why_not_reached(cause)}.",
            f"Start Redis, or correct {setting}; no event is lost meanwhile.",
        )
    return Problem(f"{name}cannot_serve", f"{where} cannot serve now: {cause}.", "Redis' own log says why.")


def _why_not_reached(cause: redis.ConnectionError) -> str:
    if isinstance(cause, redis.sentinel.MasterNotFoundError):
        return "no sentinel answers and names a master"
    reason = cause.__context__  # the system's own error, which redis-py puts into words
    if isinstance(reason, socket.gaierror):
        return f"the name of its host does not resolve ({reason.strerror})"
    if isinstance(reason, ConnectionRefusedError | FileNotFoundError):
        return "nobody takes the connection"
    return str(cause).rstrip(".")
