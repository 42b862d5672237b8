"""redbeat's scheduler, made to outlive Redis' absences: celery-beat itself ends at the first error of a tick.

A beat that has lost its lock, because it hung or because a failover lost the key, stands by like any other. One whose
schedule is gone, because Redis was flushed or came back empty, writes it again.
"""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any, Final

from redbeat import RedBeatScheduler
from redbeat.schedulers import acquire_distributed_beat_lock, get_redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 1.0


class SteadyScheduler(RedBeatScheduler):  # type: ignore[misc]  # redbeat has no types
    """Ticks while Redis serves and the lock is ours, and tries again when not (Celery: ``beat_scheduler``)."""

    lock: Any = None
    _waits = False

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
            if not get_redis(self.app).exists(self.app.redbeat_conf.statics_key):
                super().setup_schedule()
            seconds = float(super().tick(*arguments, **options))
        except RedisError as error:  # a lock that is not ours any more is one, too
            self._tell_once("beat begins anew", error)
            self.lock = None
            return PAUSE_SECONDS
        self._waits = False
        return seconds

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
