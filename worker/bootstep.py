"""Where the consumers of events join Celery's worker (Celery: bootsteps, a documented extension point)."""

from __future__ import annotations

import logging
import os
from typing import Any

import msgspec
from celery import bootsteps
from celery.worker.consumer.consumer import STOP_CONDITIONS  # type: ignore[attr-defined]
from kombu import Message, serialization

from connectbot.entries import Batch
from tasks.process import clients
from worker.consumer import LaneConsumer
from worker.routing import LANES, ROUTES, SPARE_BATCHES

logger = logging.getLogger(__name__)


class EventConsumers(bootsteps.StartStopStep):
    """Runs a consumer for each lane that the worker serves (``-Q``). A subclass may know other ``routes``."""

    routes = ROUTES
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._consumers: list[LaneConsumer] = []

    def start(self, parent: Any) -> None:
        """Celery has a connection: begin, or begin again."""
        pool = OwnPool(parent)
        worker = f"{parent.hostname}.{os.getpid()}"
        lanes = [lane for lane in LANES if lane in parent.app.amqp.queues.consume_from]
        processes = parent.controller.max_concurrency or parent.controller.concurrency  # the first with --autoscale
        in_flight = _most_in_flight(processes, len(lanes))
        self._consumers = [
            LaneConsumer(clients(), lane=lane, routes=self.routes, pool=pool, worker=worker, most_in_flight=in_flight)
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


class OwnPool:
    """Hands orders to the worker's own pool, by way of Celery's request, its task events and its time limits.

    They do not travel through the broker: an order is about entries that this worker holds, so nobody else could use
    it, and it is nothing to be kept, for the truth about the entries is in the stream.
    """

    def __init__(self, celery_consumer: Any) -> None:
        self._celery = celery_consumer
        self._amqp = celery_consumer.app.amqp

    def send(self, order_id: str, task: Any, batch: Batch, *, time_limit_seconds: float) -> None:
        """Have a batch worked on; returns at once."""
        order = msgspec.to_builtins(batch)
        made = self._amqp.create_task_message(
            order_id, task.name, (), order, argsrepr="()", kwargsrepr=str(batch), time_limit=time_limit_seconds
        )
        content_type, encoding, body = serialization.dumps(made.body, "json")
        message = Message(
            body,
            content_type=content_type,
            content_encoding=encoding,
            headers=made.headers,
            properties=made.properties,
            delivery_info={"exchange": "", "routing_key": batch.lane},
            accept={content_type},
        )
        self._celery.call_soon(self._receive, message)

    def _receive(self, message: Message) -> None:
        """Called by Celery's own thread, as for a message from the broker."""
        if self._celery.task_consumer is not None:  # else the worker has ended its work
            self._celery.task_consumer.on_message(message)


def _most_in_flight(processes: int, lanes: int) -> int:
    """Lanes that share a pool share its processes: the slow one must not take them all."""
    return processes + SPARE_BATCHES if lanes == 1 else max(1, processes // max(1, lanes))
