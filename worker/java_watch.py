"""The watch over jobs that are parked: looks whether the Java service is back, and lets them go then.

Every worker of the lane ``java`` keeps it, in a thread of its own beside the consumer's, because a look at the
service's health may take seconds; only one worker at a time looks (lua/breaker_tend.lua).
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from celery import bootsteps

from connectbot.clients import Clients
from connectbot.errors import RedisUnavailable
from tasks.process import clients
from worker.routing import JAVA

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 0.5
RELEASING_SECONDS: Final = 0.1
LONGEST_PROBE_SECONDS: Final = 5.0


class JavaWatch:
    """Watches as long as it runs."""

    def __init__(self, ours: Clients) -> None:
        self._java = ours.java
        self._breaker = ours.java_gate.breaker
        self._probe_seconds = min(ours.settings.java_service_timeout_seconds, LONGEST_PROBE_SECONDS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="java-watch", daemon=True)

    def run(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, timeout_seconds: float = 5.0) -> None:
        """End, and wait for that."""
        self._stopping.set()
        self._thread.join(timeout_seconds)

    # --- inside ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause_seconds = 0.0
        while not self._stopping.wait(pause_seconds):
            pause_seconds = IDLE_SECONDS
            try:
                pause_seconds = self._look()
            except RedisUnavailable as reason:
                logger.warning("parked jobs are not looked after now: %s", reason)
            except Exception:
                logger.exception("looking after parked jobs failed unexpectedly")

    def _look(self) -> float:
        tended = self._breaker.tend(probe_seconds=2 * self._probe_seconds)
        if tended.probe_due:
            health = self._java.health(timeout_seconds=self._probe_seconds)
            state = self._breaker.probed(well=bool(health))
            logger.info("the matching service's health is %s: the breaker is %s", health.reason, state.value)
            return 0.0 if health else IDLE_SECONDS
        return RELEASING_SECONDS if tended.parked else IDLE_SECONDS


class JavaWatches(bootsteps.StartStopStep):
    """Runs the watch in a worker of the lane ``java``, whether Celery's own connection stands or not."""

    requires = ("celery.worker.components:Pool",)  # the pool's first processes are forked before there is a thread

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._watch: JavaWatch | None = None

    def start(self, parent: Any) -> None:
        """The worker begins."""
        if JAVA in parent.app.amqp.queues.consume_from:
            self._watch = JavaWatch(clients())
            self._watch.run()

    def stop(self, parent: Any) -> None:
        """The worker has done its last work."""
        if self._watch is not None:
            self._watch.stop()

    def terminate(self, parent: Any) -> None:
        """The worker ends at once."""
        self.stop(parent)
