"""Matching: who is paired with whom, asked of the Java service."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from celery import shared_task

from connectbot.cache_keys import MATCHING_FAILURES, MATCHING_RESULTS
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.errors import Later, MalformedEvent
from connectbot.events import ConnectBotEvents, Event, derived_id, new_event, read_data
from connectbot.java_service import Employee, MatchingRequest, MatchingResult
from connectbot.matching.asking import SERVICE, request_event
from connectbot.matching.claims import FAILURE_SECONDS, LIFETIME_SECONDS, Claim, Claimed, Wish
from connectbot.matching.local import match_locally
from tasks.base import Received, event_task
from tasks.java_call import ask, traceparent_of
from tasks.matching_deadline import deadline_of, known_deadline_of
from tasks.process import clients

SHORTEST_TWIN_DELAY_SECONDS: Final = 0.2
LONGEST_TWIN_DELAY_SECONDS: Final = 60.0
"""How long a request waits, each time half its age, for another one with the same question that is in flight."""


class _RequestData(msgspec.Struct):
    users: tuple[int, ...]
    type: str = "coffee"
    employees: tuple[Employee, ...] | None = None
    request_id: str | None = None
    algorithm_params: dict[str, Any] = {}


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
    ours.publisher.publish(request_event(ours.settings.keys, request_id, users, type=type, employees=employees))
    return request_id


def announce_failure(ours: Clients, one: Received, reason: str) -> Effects:
    """Tell, and keep for a while, that a matching request has failed for good; it may be asked again then.

    Nothing is told of one that was answered, nor of a repeat that fails, such as a malformed one, while the request
    itself is in flight.
    """
    request_id, wish, effects = _request_id(one.event), _wish(one), Effects()
    if ours.claims.is_anothers(wish, one.entry):
        return effects
    data = {"request_id": request_id, "reason": reason}
    commands = [
        *ours.temp_data.storing(MATCHING_FAILURES, request_id, data, ttl_seconds=FAILURE_SECONDS, now=time.time()),
        *ours.publisher.publishing(_announcement(ours, ConnectBotEvents.MATCHING_FAILED, one.event, data)),
        *ours.claims.releasing(wish),
    ]
    effects.add_unless(ours.claims.answered_key(request_id), commands)
    return effects


def answer_request(ours: Clients, received: Sequence[Received]) -> Effects:
    """Ask the service, keep the result, and tell everybody whom it concerns."""
    (one,) = received
    request = _request(one)
    deadline = deadline_of(ours, one)
    claimed = ours.claims.claim(_wish(one), one.entry)
    if claimed.claim is Claim.DOUBLED:
        return Effects()
    left_seconds = math.inf if deadline is None else deadline - claimed.now
    if left_seconds <= 0:
        return _too_late(ours, one, request)
    if claimed.twin:
        return _answered_by_twin(ours, one, request, claimed)
    hurried = left_seconds < ours.settings.java_service_timeout_seconds
    give_up = time.monotonic() + left_seconds
    result = ask(ours, one, lambda: _match(ours, one, request, give_up), hurried=hurried)
    return _results(ours, one, result)


answer = event_task("matching.answer", farewell=announce_failure, one_by_one=True, deadline=known_deadline_of)(
    answer_request
)


def _match(ours: Clients, one: Received, request: MatchingRequest, give_up: float) -> MatchingResult:
    """Call the service, unless the deadline (``time.monotonic``) has passed while the permit was waited for."""
    left_seconds = give_up - time.monotonic()
    if left_seconds <= 0:
        raise Later("deadline", delay_seconds=0, counted=False)
    return ours.java.match(
        request,
        idempotency_key=one.event.id,
        traceparent=traceparent_of(one),
        timeout_seconds=left_seconds,
    )


def _request(one: Received) -> MatchingRequest:
    asked = read_data(one.event, _RequestData)
    return MatchingRequest(
        request_id=_request_id(one.event),
        users=asked.users,
        type=asked.type,
        employees=asked.employees,
        algorithm_params=asked.algorithm_params,
    )


def _wish(one: Received) -> Wish:
    """The request as far as two can be the same; one that cannot be read, or passed on, is like no other."""
    request_id = _request_id(one.event)
    try:
        return Wish(request_id, _request(one).question)
    except (MalformedEvent, RecursionError):
        return Wish(request_id, one.entry.origin.encode())


def _too_late(ours: Clients, one: Received, request: MatchingRequest) -> Effects:
    """The deadline has passed: nobody asks the service any more."""
    if ours.settings.matching_fallback == "local":
        return _results(ours, one, match_locally(request))
    return announce_failure(ours, one, "deadline")


def _answered_by_twin(ours: Clients, one: Received, request: MatchingRequest, claimed: Claimed) -> Effects:
    """Another request with the same question was, or is, in flight: its answer is ours; the people know it already."""
    key = ours.claims.result_key(claimed.twin) if claimed.claim is Claim.ANSWERED else None
    found = ours.temp_data.get(MATCHING_RESULTS, key) if key else None
    if not isinstance(found, dict):
        raise Later("same_question_in_flight", delay_seconds=_twin_delay_seconds(one), counted=False)
    data = {**found, "request_id": request.request_id, "same_as": key}
    return _answers(ours, one, data, twin=True)


def _twin_delay_seconds(one: Received) -> float:
    age_seconds = time.time() - int(one.entry.origin.partition("-")[0]) / 1000
    return min(max(age_seconds / 2, SHORTEST_TWIN_DELAY_SECONDS), LONGEST_TWIN_DELAY_SECONDS)


def _results(ours: Clients, one: Received, result: MatchingResult) -> Effects:
    data = {
        "request_id": result.request_id,
        "pairs": [{"employee1_id": pair.employee1_id, "employee2_id": pair.employee2_id} for pair in result.pairs],
        "unmatched": list(result.unmatched),
        "algorithm": result.algorithm,
    }
    return _answers(ours, one, data, twin=False)


def _answers(ours: Clients, one: Received, data: dict[str, Any], *, twin: bool) -> Effects:
    """Keep an answer and tell it, unless the request has one by then.

    With ``twin``, it was another request's: the people were told, and who gave the request no id does not wait for it.
    """
    request_id, now = data["request_id"], time.time()
    commands = [
        *ours.temp_data.storing(MATCHING_RESULTS, request_id, data, ttl_seconds=LIFETIME_SECONDS, now=now),
        *ours.claims.answering(_wish(one), request_id, now=now, twin=twin),
    ]
    if not twin or one.event.data.get("request_id"):
        commands += ours.publisher.publishing(_announcement(ours, ConnectBotEvents.MATCHING_COMPLETED, one.event, data))
    if not twin:
        for pair in data["pairs"]:
            for user_id in pair.values():
                commands.append(ours.publisher.announcing(_to_user(ours, one.event, user_id, request_id, pair)))
    effects = Effects()
    effects.add_unless(ours.claims.answered_key(request_id), commands)
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
