"""Jobs for the Java service that are not a matching request: forwarded as they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from celery import shared_task

from connectbot.cache_keys import JAVA_RESULTS
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.events import ConnectBotEvents, derived_id, new_event, read_data
from tasks.base import Received, event_task
from tasks.java_call import ask, traceparent_of
from tasks.process import clients


class _ForwardData(msgspec.Struct):
    operation: str
    payload: Any
    idempotency_key: str | None = None


@shared_task(name="java.forward", bind=True)
def forward(self: Any, operation: str, payload: Any, idempotency_key: str | None = None) -> str:
    """Send a job to the Java service. Answers the key under which the result is kept (temp data ``java_results``).

    ``operation`` is a name of `connectbot.java_service.OPERATIONS`, never an address. The job goes through the
    stream, so that it outlives this worker.
    """
    ours = clients()
    key = idempotency_key or self.request.id
    event = new_event(
        ConnectBotEvents.JAVA_FORWARD,
        {"operation": operation, "payload": payload, "idempotency_key": key},
        channel=ours.settings.keys.service_channel("java"),
        event_id=derived_id(key, "forward"),
    )
    ours.publisher.publish(event)
    return key


@event_task("java.forward_job", one_by_one=True)
def forward_job(ours: Clients, received: Sequence[Received]) -> Effects:
    """Make the call and keep what the service answered."""
    (one,) = received
    job = read_data(one.event, _ForwardData)
    key = job.idempotency_key or one.event.id
    answered = ask(
        ours,
        one,
        lambda: ours.java.forward(job.operation, job.payload, idempotency_key=key, traceparent=traceparent_of(one)),
    )
    effects = Effects()
    effects.add(*ours.temp_data.storing(JAVA_RESULTS, key, answered, now=time.time()))
    return effects
