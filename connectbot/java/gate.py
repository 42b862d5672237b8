"""The way to the Java service: a call gets a permit first, and tells the circuit breaker how it went."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Final, TypeVar

from connectbot.errors import (
    JavaServiceError,
    JavaServiceRefused,
    JavaServiceUnavailable,
    Later,
    Parked,
    RedisUnavailable,
)
from connectbot.java.circuit_breaker import CircuitBreaker, Outcome, State, Verdict
from connectbot.settings import Settings

SAYS_NOTHING: Final = frozenset({"pool_timeout", "token_unreadable", "too_early", "too_many_requests"})
"""Reasons to ask later that say nothing of the service's health."""
IS_NO_SERVICE: Final = frozenset({"nonsense"})
"""Reasons never to ask again that a service in good health does not give."""
NO_PERMIT_DELAY_SECONDS: Final = 1.0
LAPSE_MARGIN_SECONDS: Final = 5.0
OUTAGE_SECONDS: Final = 5.0
"""How long it is tried to report how a call went while Redis is away. After a longer outage the lane's consumer has the
event handed out again."""
OUTAGE_PAUSE_SECONDS: Final = 0.5

T = TypeVar("T")


class JavaGate:
    """The gate of one process; threads share it, and one of them at a time asks Redis for a permit.

    ``patience_seconds`` is how long a call may wait for its permit; ``call_seconds`` how long it may take.
    """

    def __init__(self, breaker: CircuitBreaker, *, patience_seconds: float, call_seconds: float) -> None:
        self.breaker = breaker
        self._patience_seconds = patience_seconds
        self._call_seconds = call_seconds
        self._turn = threading.Lock()
        self._returned = threading.Event()

    @classmethod
    def from_settings(cls, breaker: CircuitBreaker, settings: Settings) -> JavaGate:
        """The gate that the settings name: all rounds of a batch together may wait half of the batch's time limit."""
        return cls(
            breaker,
            patience_seconds=settings.batch_time_limit_seconds / 2 / settings.java_rounds,
            call_seconds=settings.java_service_timeout_seconds,
        )

    def call(self, make: Callable[[], T], *, parked: str = "", hurried: bool = False) -> T:
        """Make a call once it is permitted. ``make`` answers, or raises `JavaServiceError`.

        ``parked`` is the name under which the job was parked before. ``hurried``: the call has less time than usual,
        so that running out of it is no failure of the service.

        Raises `Later`, not counted, when there was no permit in time; `Parked` while the breaker is open, and when
        this call's failure has opened it; `RedisUnavailable`; else what ``make`` raises.
        """
        permit = self._permit(parked)
        begun = time.monotonic()
        outcome: Outcome = "ignored"
        try:
            answered = make()
            outcome = "success"
        except JavaServiceError as fault:
            outcome = _outcome(fault, hurried=hurried)
            state = self._return(permit, outcome, begun)
            if isinstance(fault, JavaServiceUnavailable):
                if state in (State.OPEN, State.FORCED_OPEN):
                    raise Parked(fault.reason, tried=True) from fault
                fault.away = fault.away or state is State.HALF_OPEN  # a trial is no attempt
            raise
        except BaseException:
            self._return(permit, outcome, begun)
            raise
        self._return(permit, outcome, begun)
        return answered

    # --- inside ---------------------------------------------------------------------------------------

    def _permit(self, parked: str) -> str:
        permit = uuid.uuid4().hex
        give_up = time.monotonic() + self._patience_seconds
        with self._turn:
            while True:
                self._returned.clear()
                lapses = self._call_seconds + LAPSE_MARGIN_SECONDS
                verdict, wait_seconds = self.breaker.admit(permit, lapses_seconds=lapses, parked=parked)
                if verdict is Verdict.GO:
                    return permit
                if verdict is Verdict.PARK:
                    raise Parked("circuit_open")
                if time.monotonic() + wait_seconds > give_up:
                    raise Later("no_permit", delay_seconds=NO_PERMIT_DELAY_SECONDS, counted=False)
                self._returned.wait(wait_seconds)

    def _return(self, permit: str, outcome: Outcome, begun: float) -> State:
        ended = time.monotonic()
        try:
            while True:
                try:
                    return self.breaker.record(permit, outcome, seconds=ended - begun)
                except RedisUnavailable:
                    if time.monotonic() > ended + OUTAGE_SECONDS:
                        raise
                time.sleep(OUTAGE_PAUSE_SECONDS)  # then again: for all we know it has been noted, which it is once
        finally:
            self._returned.set()


def _outcome(fault: JavaServiceError, *, hurried: bool) -> Outcome:
    if isinstance(fault, JavaServiceRefused):
        return "failure" if fault.reason in IS_NO_SERVICE else "success"
    if fault.reason in SAYS_NOTHING:
        return "ignored"
    return "cut_short" if hurried and fault.reason == "timeout" else "failure"
