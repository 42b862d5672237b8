"""Matching: who is paired with whom, asked of the Java service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from celery import shared_task

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.errors import JavaServiceRefused, JavaServiceUnavailable, Later, Never
from connectbot.events import ConnectBotEvents, Event, derived_id, new_event, read_data
from connectbot.java_service import Employee, MatchingRequest, MatchingResult
from tasks.base import Received, event_task
from tasks.process import clients

SERVICE: Final = "matching"
RESULTS_NAMESPACE: Final = "matching_results"
RESULT_TTL_SECONDS: Final = 1800.0


class _RequestData(msgspec.Struct):
    users: tuple[int, ...]
    type: str = "coffee"
    employees: tuple[Employee, ...] | None = None
    request_id: str | None = None


@shared_task(name="matching.request", bind=True)
def request(
    self: Any,
    users: Sequence[int],
    type: str = "coffee",  # noqa: A002 - contract v21
    employees: Sequence[dict[str, Any]] | None = None,
    request_id: str | None = None,
) -> str:
    """Ask for a matching of ``users``. Answers the id by which matching.completed will name the request.

    It goes through the stream, so that it outlives this worker; asking again with the same ``request_id`` publishes
    an event with the same id.
    """
    ours = clients()
    request_id = request_id or self.request.id
    data = {"users": list(users), "type": type, "employees": employees, "request_id": request_id}
    event = new_event(
        ConnectBotEvents.MATCHING_REQUEST,
        data,
        channel=ours.settings.keys.service_channel(SERVICE),
        event_id=derived_id(request_id, "request"),
    )
    ours.publisher.publish(event)
    return request_id


def announce_failure(ours: Clients, one: Received, reason: str) -> Effects:
    """Tell that a matching request has failed for good."""
    data = {"request_id": _request_id(one.event), "reason": reason}
    effects = Effects()
    effects.add(*ours.stream.publishing(_announcement(ours, ConnectBotEvents.MATCHING_FAILED, one.event, data)))
    return effects


@event_task("matching.answer", farewell=announce_failure, one_by_one=True)
def answer(ours: Clients, received: Sequence[Received]) -> Effects:
    """Ask the service, keep the result, and tell everybody whom it concerns."""
    (one,) = received
    asked = read_data(one.event, _RequestData)
    request_id = _request_id(one.event)
    try:
        result = ours.java.match(
            MatchingRequest(request_id=request_id, users=asked.users, type=asked.type, employees=asked.employees),
            idempotency_key=one.event.id,
        )
    except JavaServiceUnavailable as fault:
        raise Later(fault.reason, delay_seconds=fault.retry_after_seconds) from fault
    except JavaServiceRefused as fault:
        raise Never(fault.reason) from fault
    return _results(ours, one.event, request_id, result)


def _results(ours: Clients, event: Event, request_id: str, result: MatchingResult) -> Effects:
    pairs = [{"employee1_id": pair.employee1_id, "employee2_id": pair.employee2_id} for pair in result.pairs]
    data = {
        "request_id": request_id,
        "pairs": pairs,
        "unmatched": list(result.unmatched),
        "algorithm": result.algorithm,
    }
    effects = Effects()
    effects.add(
        *ours.temp_data.storing(RESULTS_NAMESPACE, request_id, data, ttl_seconds=RESULT_TTL_SECONDS, now=time.time()),
        *ours.stream.publishing(_announcement(ours, ConnectBotEvents.MATCHING_COMPLETED, event, data)),
    )
    for pair in pairs:
        for user_id in pair.values():
            effects.add(ours.stream.announcing(_to_user(ours, event, user_id, request_id, pair)))
    return effects


def _announcement(ours: Clients, event_type: str, cause: Event, data: dict[str, Any]) -> Event:
    return new_event(
        event_type,
        data,
        channel=ours.settings.keys.service_channel(SERVICE),
        event_id=derived_id(cause.id, event_type),
    )


def _to_user(ours: Clients, cause: Event, user_id: int, request_id: str, pair: dict[str, int]) -> Event:
    """What a matched user hears: the own pair, and nobody else's."""
    return new_event(
        ConnectBotEvents.MATCHING_COMPLETED,
        {"request_id": request_id, "pairs": [pair]},
        channel=ours.settings.keys.user_channel(user_id),
        user_id=user_id,
        event_id=derived_id(cause.id, ConnectBotEvents.MATCHING_COMPLETED, user_id),
    )


def _request_id(event: Event) -> str:
    named = event.data.get("request_id")
    return named if isinstance(named, str) and named else event.id
