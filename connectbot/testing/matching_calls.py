"""What the stand-in for the matching service remembers of the calls that came."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any, Final

REMEMBERED_CALLS: Final = 100_000


@dataclasses.dataclass(slots=True)
class Call:
    """What came under one Idempotency-Key. ``answer`` is the result given, to be given again."""

    key: str
    path: str
    request_id: Any
    headers: dict[str, str]
    first_at: float = dataclasses.field(default_factory=time.time)
    count: int = 0
    answer: bytes | None = None

    def shown(self) -> dict[str, Any]:
        """The call as ``/__calls`` tells it."""
        names = ("key", "count", "path", "request_id", "headers", "first_at")
        return {**{name: getattr(self, name) for name in names}, "answered": self.answer is not None}


class Calls:
    """The calls that came, oldest first; beyond `REMEMBERED_CALLS`, the oldest are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight = 0
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._by_key: dict[str, Call] = {}
            self._requests = self._repeated = 0
            self._most_in_flight = self._in_flight

    def begin(self, call: Call) -> tuple[Call, int]:
        """Note a call that has come. Answers what is known of its key, and its number since the beginning.

        Calls without a key are counted together, and have nothing else in common.
        """
        with self._lock:
            self._requests += 1
            self._in_flight += 1
            self._most_in_flight = max(self._most_in_flight, self._in_flight)
            known = self._by_key.setdefault(call.key, call)
            known.count += 1
            self._repeated += bool(call.key) and known.count > 1
            if len(self._by_key) > REMEMBERED_CALLS:
                del self._by_key[next(iter(self._by_key))]
            return known if call.key else call, self._requests

    def end(self) -> None:
        """Note that a call has its answer, or never will."""
        with self._lock:
            self._in_flight -= 1

    def shown(self) -> dict[str, Any]:
        """All that is known, as ``/__calls`` tells it."""
        with self._lock:
            return {
                "requests": self._requests,
                "repeated": self._repeated,
                "in_flight": self._in_flight,
                "most_in_flight": self._most_in_flight,
                "calls": [call.shown() for call in self._by_key.values()],
            }
