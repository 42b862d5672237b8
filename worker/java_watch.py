"""The watch over jobs that are parked: looks whether the Java service is back, and lets them go then.

Every worker of the lane ``java`` keeps it, in a thread of its own beside the consumer's, because a look at the
service's health may take seconds; only one worker at a time looks (lua/breaker_tend.lua).
"""

from __future__ import annotations

import logging
from typing import Final

from connectbot.clients import Clients
from worker.companion import Companion, CompanionStep
from worker.routing import JAVA

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 0.5
RELEASING_SECONDS: Final = 0.1
LONGEST_PROBE_SECONDS: Final = 5.0


class JavaWatch(Companion):
    """Watches as long as it runs."""

    anew = "the watch over parked jobs begins anew"

    def __init__(self, ours: Clients) -> None:
        super().__init__()
        self._java = ours.java
        self._breaker = ours.java_gate.breaker
        self._probe_seconds = min(ours.settings.java_service_timeout_seconds, LONGEST_PROBE_SECONDS)

    def turn(self) -> float:
        """Look after the parked jobs once."""
        tended = self._breaker.tend(probe_seconds=2 * self._probe_seconds)
        if tended.probe_due:
            health = self._java.health(timeout_seconds=self._probe_seconds)
            state = self._breaker.probed(well=bool(health))
            logger.info("the matching service's health is %s: the breaker is %s", health.reason, state.value)
            return 0.0 if health else IDLE_SECONDS
        return RELEASING_SECONDS if tended.parked else IDLE_SECONDS


class JavaWatches(CompanionStep):
    """Runs the watch in a worker of the lane ``java``."""

    lane, runs = JAVA, JavaWatch
