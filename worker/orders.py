"""The orders that a worker has given to itself and not heard the end of.

An order is the Celery message for one batch. Celery tells what becomes of it to the request that stands for it in the
worker's main process; the request passes it on here, to the consumer that gave the order (worker/in_flight.py).
"""

from __future__ import annotations

import threading
from enum import Enum
from typing import Any, Protocol

import billiard.pool
from billiard.exceptions import TimeLimitExceeded, WorkerLostError

from connectbot.entries import Batch
from worker.task_counts import CountedRequest


class End(Enum):
    """How an order ended."""

    DONE = "done"
    """The task returned: all that could be committed is."""
    CRASHED = "crashed"
    """The process that worked on it died, or was killed for taking too long: one of the entries may be the cause."""
    FAILED = "failed"
    """The task raised (Redis was away, most likely), gave its batch up, or was revoked."""


class Listener(Protocol):
    """Is told what becomes of an order, by Celery's main thread."""

    def begun(self, order_id: str, pid: int) -> None:
        """A process has begun with it."""

    def ended(self, order_id: str, end: End) -> None:
        """It has ended; told once."""


class Pool(Protocol):
    """The processes of a consumer's own worker."""

    def send(self, order_id: str, task: Any, batch: Batch, *, time_limit_seconds: float) -> None:
        """Have a batch worked on; returns at once."""


class Orders:
    """All open orders of this process, by the id of their Celery task. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, Listener] = {}

    def open(self, order_id: str, listener: Listener) -> None:
        """Remember an order."""
        with self._lock:
            self._listeners[order_id] = listener

    def begin(self, order_id: str, pid: int) -> None:
        """Tell that a process has begun with an order."""
        with self._lock:
            listener = self._listeners.get(order_id)
        if listener:
            listener.begun(order_id, pid)

    def close(self, order_id: str, end: End) -> None:
        """Tell the end of an order; the first word counts."""
        if listener := self.forget(order_id):
            listener.ended(order_id, end)

    def forget(self, order_id: str) -> Listener | None:
        """Nobody asks for it any more. Answers who did."""
        with self._lock:
            return self._listeners.pop(order_id, None)


open_orders = Orders()

billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20
"""A process of the pool that ends waits until the worker has read its last result, asking ten times a second; billiard
gives it 30 s. On SIGTERM Celery forgets a task that a process was just given (``AsynPool.flush``), and may never read
what has become of it: the worker would end 30 s later for nothing. A result that is read is read at once, and one of an
order is not needed, for its commit is in the stream."""


class OrderRequest(CountedRequest):
    """What stands for an order in the worker's main process (Celery: ``Task.Request``)."""

    def info(self, safe: bool = False) -> Any:
        """What ``celery inspect active`` tells of it; Celery itself would give the entries that travel with it."""
        return super().info(safe=True)

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        """A process of the pool has begun with it."""
        open_orders.begin(self.id, pid)
        super().on_accepted(pid, time_accepted)

    def acknowledge(self) -> None:
        """The task has returned. The broker is not told: it knows nothing of the order."""
        self.acknowledged = True
        open_orders.close(self.id, End.DONE)

    def reject(self, requeue: bool = False) -> None:
        """Nothing goes back to the broker: the stream still holds the entries."""
        self.acknowledged = True
        open_orders.close(self.id, End.FAILED)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """The task has raised, or its process is gone."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)  # billiard wraps what it sends between processes
        crashed = isinstance(error, (WorkerLostError, TimeLimitExceeded, SystemExit))
        open_orders.close(self.id, End.CRASHED if crashed else End.FAILED)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The task takes too long; after the hard limit its process is killed."""
        if not soft:
            open_orders.close(self.id, End.CRASHED)
        super().on_timeout(soft, timeout)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """An operator has revoked it: its entries are handed out again, for it is not by revoking that events end."""
        open_orders.close(self.id, End.FAILED)
        super()._announce_revoked(reason, terminated, signum, expired)  # type: ignore[misc]
