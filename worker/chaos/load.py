"""Publishes events at an even pace while the attacks go on."""

from __future__ import annotations

import random
import threading
import time
from typing import Final

from connectbot.errors import RedisUnavailable
from worker.chaos.ledger import Ledger
from worker.chaos.system import System

MOST_AT_ONCE: Final = 200
USERS: Final = 300
EVENTS_FOR_ONE_ROLE: Final = 10
PAUSE_SECONDS: Final = 0.05


class Load:
    """``events`` numbered ones over ``seconds``, and a changed role of some user for every ten of them."""

    def __init__(self, system: System, ledger: Ledger, *, events: int, seconds: float, seed: int) -> None:
        self._system = system
        self._ledger = ledger
        self._events = events
        self._rate = events / max(seconds, 1.0)
        self._dice = random.Random(seed)  # noqa: S311 - not for secrets
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-load", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Wait until everything is published."""
        self._thread.join()

    def stop(self) -> None:
        """Publish nothing more."""
        self._stopped.set()
        self._thread.join()

    def publish(self, count: int) -> int | None:
        """Publish that many now. Answers the number of the last one; None when it is not certain that they are in."""
        with self._ledger.lock:
            numbers = [self._ledger.next_number() for _ in range(count)]
            roles = [
                (self._dice.randrange(1, USERS + 1), f"role-{number}")
                for number in numbers
                if number % EVENTS_FOR_ONE_ROLE == 0
            ]
            try:
                self._system.publish(numbers, roles)
            except RedisUnavailable:
                self._ledger.record(numbers, roles, certain=False)
                return None
            self._ledger.record(numbers, roles, certain=True)
            return numbers[-1]

    def _run(self) -> None:
        begun = time.monotonic()
        while self._ledger.published < self._events and not self._stopped.is_set():
            due = min(self._events, int((time.monotonic() - begun) * self._rate) + 1)
            count = min(due - self._ledger.published, MOST_AT_ONCE)
            if count <= 0 or self.publish(count) is None:
                self._stopped.wait(PAUSE_SECONDS)
