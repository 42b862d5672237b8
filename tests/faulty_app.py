"""The worker's own app with consumers that die or hang, and a loop of Celery's that is blocked or breaks, on demand.

A file that is named by CONNECTBOT_TEST_FAULT asks for it; it holds some of ``die LANE``, ``hang LANE``, ``block``,
``break``, ``lose``, ``kill`` and ``outage``, a line each. The last three wait until half of what `tell_much` tells was
read; then, once, the broker is lost, with ``kill`` together with the process; with ``outage`` it is when Redis is gone.
"""

from __future__ import annotations

import os
import signal
import time
from array import array
from contextlib import suppress
from fcntl import ioctl
from inspect import isgenerator
from pathlib import Path
from pickle import UnpicklingError
from termios import FIONREAD
from typing import Any

import redis
from billiard import active_children
from billiard.connection import Connection
from celery import bootsteps
from kombu.asynchronous import get_event_loop

from worker import app, health
from worker.consumer import LaneConsumer

__all__ = ["app"]

_fault = Path(os.environ["CONNECTBOT_TEST_FAULT"])
_has_room = LaneConsumer._has_room


def _asked(fault: str) -> bool:
    with suppress(FileNotFoundError):  # it may go at any moment, between a look at whether it exists and a reading, too
        return fault in _fault.read_text().splitlines()
    return False


def _faulty(consumer: LaneConsumer) -> bool:
    if _asked(f"die {consumer._lane}"):
        raise SystemExit
    while _asked(f"hang {consumer._lane}"):
        time.sleep(0.05)
    return _has_room(consumer)


def _block() -> None:
    while _asked("block"):
        time.sleep(0.05)


def _break() -> None:
    """What Celery meets when it reads half of what a process had to say that was killed."""
    if _asked("break"):
        raise UnpicklingError("invalid load key")


NUMBERS = "\0\0\0\4" * 250_000
"""Who reads it from a wrong place on takes a part for the length of something, and what follows is no pickle."""
LOSSES = ("lose", "kill", "outage")
_send = Connection._send


class MuchToTell(Exception):
    """Brief in a log."""

    def __repr__(self) -> str:
        return "MuchToTell()"

    __str__ = __repr__


@app.task(name="faulty.tell_much")
def tell_much() -> None:
    """Fails with more to tell than goes into a pipe."""
    raise MuchToTell(NUMBERS)


def _send_by_half(pipe: Connection, message: memoryview) -> None:
    if (begin := bytes(message[:50_000]).find(NUMBERS.encode()[:1000])) > 0:
        _send(pipe, message[: begin + 10_000])
        while any(map(_asked, LOSSES)):
            time.sleep(0.05)
        message = message[begin + 10_000 :]
    _send(pipe, message)


def _lose_the_broker() -> None:
    """When a first half was read, and the rest stands in the pipe."""
    loss = next(filter(_asked, LOSSES), None)
    if not loss:
        return
    half_read = [fd for fd, (callback, _) in get_event_loop().readers.items() if isgenerator(callback)]
    if half_read:
        _fault.unlink()
        available = array("i", [0])
        while available[0] < 10_000:
            ioctl(half_read[0], FIONREAD, available)
        if loss == "kill":
            for process in active_children():
                os.kill(process.pid, signal.SIGKILL)
                process.join()
        if loss == "outage":
            with suppress(redis.ConnectionError), redis.Redis.from_url(app.conf.redbeat_redis_url) as client:
                while client.ping():
                    time.sleep(0.05)
        raise ConnectionError("the broker is lost")


class Blocker(bootsteps.StartStopStep):
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        parent.timer.call_repeatedly(0.2, _block)
        parent.timer.call_repeatedly(0.2, parent.call_soon, (_break,))
        parent.hub.on_tick.add(_lose_the_broker)


health.STUCK_SECONDS = 5.0  # type: ignore[misc]  # the tests would wait for nothing else
Connection._send = _send_by_half
LaneConsumer._has_room = _faulty  # type: ignore[method-assign]
app.steps["consumer"].add(Blocker)
