"""redbeat's scheduler, made to outlive Redis' absences: celery-beat itself ends at the first error of a tick.

A beat that has lost its lock, because it hung or because a failover lost the key, stands by like any other. One whose
schedule is gone, because Redis was flushed or came back empty, writes it again. And what ran last while a clock was far
ahead does not wait for that time to come. What the broker does not take is due until it does: Celery would take it for
done, and wait for the next time.
"""

from __future__ import annotations

import logging
import math
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final

from celery.beat import SchedulingError
from kombu.exceptions import OperationalError
from redbeat import RedBeatScheduler
from redbeat.schedulers import acquire_distributed_beat_lock, get_redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 1.0
NEVER: Final = datetime.fromtimestamp(0, UTC)
MOST_AHEAD_SECONDS: Final = 60.0
"""So far the clocks of two beats may differ, before what one of them says is not believed by the other."""


class SteadyScheduler(RedBeatScheduler):  # type: ignore[misc]  # redbeat has no types
    """Ticks while Redis serves and the lock is ours, and tries again when not (Celery: ``beat_scheduler``)."""

    lock: Any = None
    _waits = _is_refused = False
    _ticked_at = math.inf
    """When it last ticked, in epoch seconds."""

    def setup_schedule(self) -> None:
        """Write the schedule to Redis, as soon as it serves."""
        while True:
            try:
                super().setup_schedule()
            except RedisError as error:
                self._tell_once("beat waits for Redis", error)
                time.sleep(PAUSE_SECONDS)
            else:
                self._waits = False
                return

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Send what is due. Answers how many seconds to sleep."""
        try:
            if self.lock is None:  # celery-beat ignores what goes wrong in acquiring it
                acquire_distributed_beat_lock(sender=SimpleNamespace(scheduler=self))
            begins_or_was_set_back = self._now() < self._ticked_at
            if begins_or_was_set_back or not get_redis(self.app).exists(self.app.redbeat_conf.statics_key):
                super().setup_schedule()
                self._forget_the_future()
            seconds = float(super().tick(*arguments, **options))
        except RedisError as error:  # a lock that is not ours any more is one, too
            self._tell_once("beat begins anew", error)
            self.lock, self._ticked_at = None, math.inf
            return PAUSE_SECONDS
        self._waits, self._ticked_at = False, self._now()
        return PAUSE_SECONDS if self._is_refused else seconds

    def apply_async(self, entry: Any, *arguments: Any, **options: Any) -> Any:
        """Note that an entry runs, and send its task; where the broker does not take it, it is due as it was before.

        In this order a beat that ends in between leaves one run out, and nothing is sent twice.
        """
        try:
            sent = super().apply_async(entry, *arguments, **options)
        except SchedulingError as error:
            if not isinstance(error.__context__, OperationalError | RedisError):
                raise
            entry.reschedule(entry.last_run_at or NEVER)
            if not self._is_refused:
                logger.warning("the broker does not take what is due: %s", type(error.__context__).__name__)
            self._is_refused = True
            return None
        self._is_refused = False
        return sent

    def _forget_the_future(self) -> None:
        """What ran last at a time that is still to come is taken to have run just now: else it would wait for it."""
        for name in self.app.redbeat_conf.schedule:
            entry = self.Entry.from_key(self.Entry.generate_key(self.app, name), app=self.app)
            if entry.last_run_at and entry.last_run_at.timestamp() > self._now() + MOST_AHEAD_SECONDS:
                logger.warning("%s ran last at %s, by a clock that was wrong", name, entry.last_run_at)
                entry.reschedule()

    def _now(self) -> float:
        return float(self.app.now().timestamp())

    def _tell_once(self, what: str, error: RedisError) -> None:
        """Say what is wrong, but not again each second: an outage may last for hours."""
        if not self._waits:
            logger.warning("%s: %s", what, type(error).__name__)
        self._waits = True

    def close(self) -> None:
        """Give up the lock, if Redis can be told."""
        try:
            super().close()
        except RedisError as error:
            logger.warning("beat could not give up its lock, which runs out by itself: %s", type(error).__name__)
