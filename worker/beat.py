"""The schedule's pulse and probes: the scheduler that celery-beat runs, watched like any worker."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Final

from connectbot.redis_client import RedisClient, translated_errors
from connectbot.watching.processes import Process
from connectbot.watching.servers import servers
from tasks.process import clients
from worker.probes import Probes
from worker.pulse import Pulse, pulses
from worker.steady_beat import SteadyScheduler

SCHEDULE_PART: Final = "schedule"


class WatchedScheduler(SteadyScheduler):
    """Tells when it ticks (Celery: ``beat_scheduler``), and serves the probes of its process."""

    _has_begun: ClassVar[bool] = False

    def setup_schedule(self) -> None:
        """The first thing that beat has its scheduler do; it waits for Redis, with the probes there already.

        Told to end while the first one waits here, Celery makes a second one, only to close it: that would wait, too.
        """
        if WatchedScheduler._has_begun:
            raise SystemExit
        WatchedScheduler._has_begun = True
        settings = clients().settings
        standby = Standby(self, servers(settings)[0].client(), pulses.of(SCHEDULE_PART))
        process = Process(role="beat", name=f"beat@{os.uname().nodename}", pid=os.getpid())
        self.probes = Probes(settings, process, look=standby.look)
        self.probes.run()
        super().setup_schedule()

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Send what is due. Answers how many seconds to sleep."""
        seconds = super().tick(*arguments, **options)
        pulses.of(SCHEDULE_PART).move()
        return seconds

    def close(self) -> None:
        """Beat ends in good order."""
        super().close()
        self.probes.stop()


class Standby:
    """The pulse of a beat that stands by: its thread waits inside redbeat, for the lock that another one holds.

    That is as it should be while somebody holds the lock. A lock that is free and not taken means that it hangs.
    """

    def __init__(self, scheduler: Any, client: RedisClient, pulse: Pulse) -> None:
        self._scheduler = scheduler
        self._redis = client
        self._pulse = pulse

    def look(self) -> None:
        """Feel it. Raises `RedisUnavailable`."""
        if self._scheduler.lock is not None:
            return
        with translated_errors():
            if self._redis.exists(self._scheduler.lock_key):
                self._pulse.move()
