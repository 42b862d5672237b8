"""What the worker is compared with: one Celery task an event, ``acks_late``, the Redis transport tuned to recover fast.

Celery's own values would give a dead worker's tasks back after an hour (``visibility_timeout``); here it is seconds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from celery import Celery
from kombu.exceptions import OperationalError

from connectbot.clients import Clients
from connectbot.errors import RedisUnavailable
from connectbot.redis_client import translated_errors
from connectbot.settings import Settings
from tasks.process import clients
from worker.broker import kombu_url
from worker.chaos.count import WORK_SECONDS, ChaosKeys
from worker.chaos.system import Counts, Held, Roles

VISIBILITY_SECONDS: Final = 10
QUEUE: Final = "chaos"


def make_app(settings: Settings) -> Celery:
    """The app, with its one task ``chaos.plain_count``."""
    app = Celery("chaos-plain", broker=kombu_url(settings.broker_url), set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "global_keyprefix": f"{settings.namespace}:celery:",
            "visibility_timeout": VISIBILITY_SECONDS,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": VISIBILITY_SECONDS,
        },
    )
    app.task(name="chaos.plain_count")(count)
    return app


def count(number: int) -> None:
    """Count the event before and after the work: without a commit there is no better place."""
    ours = clients()
    keys = ChaosKeys(ours.settings.namespace)
    with translated_errors():
        with ours.redis.pipeline(transaction=True) as pipe:
            pipe.hincrby(keys.executions, number, 1)
            pipe.hset(keys.holders, number, os.getppid())
            pipe.execute()
        time.sleep(WORK_SECONDS)
        ours.redis.hincrby(keys.effects, number, 1)


class PlainCelerySystem(Counts):
    """Celery's queue and its hash of unacknowledged messages."""

    name = f"celery, acks_late, visibility_timeout {VISIBILITY_SECONDS} s"
    app = "worker.chaos.plain_celery:app"
    arguments: tuple[str, ...] = (f"--queues={QUEUE}", "--concurrency=2")

    def __init__(self, settings: Settings) -> None:
        super().__init__(Clients.open(settings))
        self._app = make_app(settings)
        self._task = self._app.tasks["chaos.plain_count"]
        self._prefix = f"{settings.namespace}:celery:"

    def publish(self, numbers: Sequence[int], roles: Roles) -> None:
        """A message each: Celery has no other way."""
        try:
            for number in numbers:
                self._task.apply_async((number,), retry=False)
        except OperationalError as error:
            raise RedisUnavailable(f"tasks may not have been enqueued: {error}") from error

    def ready(self) -> int:
        """How many workers answer."""
        return len(self._app.control.ping(timeout=1.0) or ())

    def held_by(self, pid: int) -> Held:
        """The tasks it has begun and not finished."""
        with translated_errors():
            holders = self._redis.hgetall(self._keys.holders)
        begun = [int(number) for number, holder in holders.items() if int(holder) == pid]
        return Held((str(pid),), frozenset(self.without_effect(begun)))

    def unfinished(self) -> frozenset[int]:
        """What waits in the queue, and what is not acknowledged."""
        with translated_errors():
            waiting, unacked = (
                self._redis.lrange(self._prefix + QUEUE, 0, -1),
                self._redis.hvals(self._prefix + "unacked"),
            )
        messages = [json.loads(text) for text in waiting] + [json.loads(text)[0] for text in unacked]
        return frozenset(int(message["headers"]["argsrepr"].strip("(),")) for message in messages)

    def handed_out(self, held: Held) -> bool:
        """Whether others have begun with all of it, or it is finished."""
        numbers = self.without_effect(sorted(held.numbers))
        with translated_errors():
            holders: list[Any] = self._redis.hmget(self._keys.holders, numbers) if numbers else []
        return all(holder and holder.decode() not in held.names for holder in holders)

    def pending(self) -> int:
        """What waits in the queue, and what is not acknowledged."""
        with translated_errors():
            waiting, unacked = self._redis.llen(self._prefix + QUEUE), self._redis.hlen(self._prefix + "unacked")
        return int(waiting + unacked)

    def dead_letters(self) -> int:
        """Celery has none."""
        return 0

    def roles(self, users: Sequence[int]) -> Mapping[int, str] | None:
        """There are no menus to compare."""
        return None


def __getattr__(name: str) -> Celery:
    """``app``, made only where it is asked for: by the workers."""
    if name == "app":
        globals()["app"] = made = make_app(Settings.load())
        return made
    raise AttributeError(name)
