"""Celery's own consumer of tasks, made to go on soon after the broker is back."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from celery.platforms import EX_FAILURE
from celery.worker.consumer import Consumer
from celery.worker.consumer.gossip import Gossip
from celery.worker.consumer.mingle import Mingle
from celery.worker.state import maybe_shutdown

from worker.broker import LONGEST_PAUSE_SECONDS

logger = logging.getLogger(__name__)


class SteadyConsumer(Consumer):
    """What a worker runs (Celery: ``worker_consumer``)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Nobody here makes use of gossip, and it meets every loss of the connection with a traceback.
        steps = [step for step in self.steps if not isinstance(step, Gossip)]
        self.steps: list[Any] = [_MinglesOnce(self) if isinstance(step, Mingle) else step for step in steps]
        self._is_away = self._has_begun = False

    def start(self) -> None:
        """Consume until the worker ends.

        Where its loop breaks, Celery stops, and waits for a pool that nobody listens to any more: for ever, where a
        process of it does not end by itself. Meanwhile the lanes' consumers, alive and with a lease, would take events
        that nobody works on. So the worker ends at once, like one that was killed, and others have what it held.
        """
        try:
            super().start()
        except Exception:
            if not self._has_begun:  # Celery will tell, and end
                raise
            logger.critical("the worker ends, for its loop has broken", exc_info=True)
            os._exit(EX_FAILURE)

    def ensure_connected(self, conn: Any) -> Any:
        """Wait until the broker answers. Celery itself says at every try that it does not."""
        conn.ensure_connection(lambda error, _: self._tell_once(error), None, callback=maybe_shutdown)
        return super().ensure_connected(conn)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """The broker answers, but with a refusal (``-READONLY``): Celery tries again at once, and so on."""
        self._tell_once(exc)
        time.sleep(LONGEST_PAUSE_SECONDS)

    def on_ready(self) -> None:
        """Tasks can come again."""
        self._is_away, self._has_begun = False, True
        super().on_ready()

    def _tell_once(self, error: Exception) -> None:
        if not self._is_away:
            logger.warning("the broker is away, and asked again every %g s: %s", LONGEST_PAUSE_SECONDS, error)
        self._is_away = True


class _MinglesOnce(Mingle):
    """Asks the other workers what was revoked when this one starts, and not after every outage.

    It waits a second for answers; and after an outage all ask at once, so that none answers.
    """

    def start(self, parent: Any) -> None:
        if parent.restart_count == 0:
            super().start(parent)
