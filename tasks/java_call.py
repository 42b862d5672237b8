"""What every job for the Java service does: go through the gate, and turn what comes back into an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from connectbot.clients import Clients
from connectbot.errors import JavaServiceRefused, JavaServiceUnavailable, Later, Never
from tasks.work import Received

T = TypeVar("T")


def ask(ours: Clients, one: Received, make: Callable[[], T], *, hurried: bool = False) -> T:
    """Make a call of the service for an event (see `JavaGate.call`). Raises `Later`, `Parked` or `Never`."""
    try:
        return ours.java_gate.call(make, parked=one.entry.parked, hurried=hurried)
    except JavaServiceUnavailable as fault:
        asked_seconds = fault.retry_after_seconds or 0.0
        raise Later(fault.reason, asked_seconds=asked_seconds, counted=not fault.away) from fault
    except JavaServiceRefused as fault:
        raise Never(fault.reason) from fault


def traceparent_of(one: Received) -> str | None:
    """The trace that an event belongs to (W3C Trace Context), where its entry or its data names one."""
    named = one.entry.fields.get(b"traceparent", b"").decode("utf-8", "replace") or one.event.data.get("traceparent")
    return named if isinstance(named, str) else None
