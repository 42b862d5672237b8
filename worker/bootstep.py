"""Where the consumers of events join Celery's worker (Celery: bootsteps, a documented extension point)."""

from __future__ import annotations

import logging
import os
from typing import Any, Final

from celery import bootsteps
from celery.worker.consumer.consumer import STOP_CONDITIONS  # type: ignore[attr-defined]
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from connectbot.errors import RedisUnavailable
from tasks.process import clients
from worker.consumer import LaneConsumer
from worker.routing import LANES, ROUTES

logger = logging.getLogger(__name__)

SPARE_BATCHES: Final = 1
"""Batches handed out beyond one for each process of the pool, so that none waits for its next."""


class EventConsumers(bootsteps.StartStopStep):
    """Runs a consumer for each lane that the worker serves (``-Q``). A subclass may know other ``routes``."""

    routes = ROUTES
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._consumers: list[LaneConsumer] = []

    def start(self, parent: Any) -> None:
        """Celery has a connection: begin, or begin again."""
        mailbox = OwnQueue(parent)
        worker = f"{parent.hostname}.{os.getpid()}"
        lanes = [lane for lane in LANES if lane in parent.app.amqp.queues.consume_from]
        in_flight = _most_in_flight(parent.controller.concurrency, len(lanes))
        self._consumers = [
            LaneConsumer(
                clients(), lane=lane, routes=self.routes, mailbox=mailbox, worker=worker, most_in_flight=in_flight
            )
            for lane in lanes
        ]
        for consumer in self._consumers:
            consumer.run()

    def stop(self, parent: Any) -> None:
        """Celery shuts down, or has lost its connection, and with it maybe orders: then all begins anew."""
        shutting_down = parent.blueprint.state in STOP_CONDITIONS
        for consumer in self._consumers:
            if shutting_down:
                consumer.drain()
            else:
                consumer.stop()

    def terminate(self, parent: Any) -> None:
        """Celery shuts down at once."""
        self.shutdown(parent)

    def shutdown(self, parent: Any) -> None:
        """The pool has finished what it was at; whatever is left goes to an heir."""
        for consumer in self._consumers:
            consumer.stop()
        self._consumers = []


class OwnQueue:
    """The queue by which a worker sends orders to itself; Celery consumes it beside the lane's own.

    It needs no acknowledgement from Celery (``no_ack``): the truth about the entries is in the stream.
    """

    def __init__(self, celery_consumer: Any) -> None:
        self._celery = celery_consumer
        self._queues = celery_consumer.app.amqp.queues
        self._producers: dict[str, Any] = {}

    def open(self, name: str) -> None:
        """Begin to take orders from the queue."""
        # A connection of its own for every registration: one of the pool may be half-open, and nobody knows.
        self._producers[name] = self._celery.app.amqp.Producer(self._celery.app.connection_for_write())
        self._celery.call_soon(self._add, name)

    def close(self, name: str) -> None:
        """Stop taking orders from the queue, and remove it."""
        self._producers.pop(name).connection.collect(socket_timeout=0.1)
        self._celery.call_soon(self._cancel, name)
        self.remove(name)

    def remove(self, name: str) -> None:
        """Remove the queue, with the orders that nobody will take from it."""
        self._celery.call_soon(self._delete, name)

    def send(self, name: str, task: Any, order: dict[str, Any], *, order_id: str, time_limit_seconds: float) -> None:
        """Send one order to this worker."""
        try:
            task.apply_async(
                kwargs=order,
                task_id=order_id,
                producer=self._producers[name],
                queue=_queue(name),
                declare=(),
                retry=False,
                time_limit=time_limit_seconds,
            )
        except (OperationalError, *self._celery.connection_errors) as error:
            raise RedisUnavailable(f"an order for queue {name} may be lost: {error}") from error

    # Called by Celery's own thread, through call_soon: its channel is not for others.

    def _add(self, name: str) -> None:
        self._queues.add(_queue(name))
        self._celery.add_task_queue(name)

    def _cancel(self, name: str) -> None:
        self._celery.cancel_task_queue(name)
        self._queues.pop(name, None)

    def _delete(self, name: str) -> None:
        self._celery.task_consumer.channel.queue_delete(name)


def _most_in_flight(processes: int, lanes: int) -> int:
    """Lanes that share a pool share its processes: the slow one must not take them all."""
    return processes + SPARE_BATCHES if lanes == 1 else max(1, processes // max(1, lanes))


def _queue(name: str) -> Queue:
    return Queue(name, Exchange(""), routing_key=name, no_ack=True)
