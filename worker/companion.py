"""What a worker does beside its orders: in a thread of its own, again and again, until the worker ends."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

from celery import bootsteps

from connectbot.errors import RedisUnavailable
from tasks.process import clients

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 0.5
"""After a turn that ended in an error."""


class Companion(ABC):
    """Takes turns as long as it runs, whatever happens in one of them. ``anew`` is what the log says after that."""

    anew: ClassVar[str]

    def __init__(self) -> None:
        self._is_away = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def run(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, timeout_seconds: float = 5.0) -> None:
        """End, and wait for that."""
        self._stopping.set()
        self._thread.join(timeout_seconds)

    @abstractmethod
    def turn(self) -> float:
        """One turn, which ends soon after `stop`. Answers the seconds until the next one."""

    def is_well(self) -> None:
        """Redis serves: the next time that it does not is worth a word in the log."""
        self._is_away = False

    def _run(self) -> None:
        pause_seconds = 0.0
        while not self._stopping.wait(pause_seconds):
            pause_seconds = PAUSE_SECONDS
            try:
                pause_seconds = self.turn()
                self.is_well()
            except RedisUnavailable as reason:
                if not self._is_away:
                    logger.warning("%s, as soon as it can: %s", self.anew, reason)
                self._is_away = True
            except Exception:
                logger.exception("%s after an unexpected error", self.anew)


class CompanionStep(bootsteps.StartStopStep):
    """Runs a companion in the workers of one lane, whether Celery's own connection stands or not."""

    requires = ("celery.worker.components:Pool",)  # the pool's first processes are forked before there is a thread
    lane: ClassVar[str]
    runs: type[Any]

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._companion: Companion | None = None

    def start(self, parent: Any) -> None:
        """The worker begins."""
        if self.lane in parent.app.amqp.queues.consume_from:
            self._companion = self.runs(clients())
            self._companion.run()

    def stop(self, parent: Any) -> None:
        """The worker has done its last work."""
        if self._companion is not None:
            self._companion.stop()

    def terminate(self, parent: Any) -> None:
        """The worker ends at once."""
        self.stop(parent)
