"""Celery's task events, which Flower shows, without making the worker wait for them."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher

INTERVAL_SECONDS: Final = 0.1
MOST_HELD: Final = 10_000
"""Events held beyond that are published at once, as Celery does."""


class PatientDispatcher(EventDispatcher):
    """Publishes what the worker's event loop has to tell in a thread of its own, some events at a time.

    Celery would publish from the loop itself, which waits for Redis' answer then: behind a commit of some hundred
    events that is long, and the processes of the pool wait with it for their next batch.
    """

    def __init__(self, *args: Any, on_send_buffered: Any = None, **options: Any) -> None:
        self._news = threading.Event()
        self._buffers = on_send_buffered is not None
        self._ended = False
        if self._buffers:
            options |= {"buffer_limit": MOST_HELD, "on_send_buffered": self._news.set}
        super().__init__(*args, **options)

    def enable(self) -> None:
        """Begin to publish (Celery: ``EventDispatcher.enable``)."""
        super().enable()
        if self._buffers:
            threading.Thread(target=self._publish_now_and_then, name="task-events", daemon=True).start()

    def close(self) -> None:
        """Publish the last of them, and no more."""
        self.flush()
        super().close()
        self._ended = True
        self._news.set()

    def _publish_now_and_then(self) -> None:
        while not self._ended:
            self._news.wait()
            self._news.clear()  # before anything else: what comes from here on, even the end, is news again
            time.sleep(INTERVAL_SECONDS)
            self.flush()


class PatientEvents(Events):
    """Gives Celery this dispatcher (Celery's argument ``events``)."""

    dispatcher_cls = "worker.task_events:PatientDispatcher"
