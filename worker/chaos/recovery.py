"""Watches how long it takes until others have what a dead worker held."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Final

from connectbot.errors import RedisUnavailable
from worker.chaos.system import Held, System

LOOK_EVERY_SECONDS: Final = 0.1
EFFECTS_AT_ONCE: Final = 2000


@dataclass(slots=True)
class _Death:
    held: Held
    at: float
    missing: list[int]
    handed_out: bool = False


class RecoveryWatch:
    """Measures recoveries in a thread of its own, from `died` on."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._lock = threading.Lock()
        self._open: list[_Death] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-recovery", daemon=True)
        self.handed_out_seconds: list[float] = []
        self.effect_seconds: list[float] = []

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; who has not recovered by now counts with the time until now."""
        self._stopped.set()
        self._thread.join()
        for death in self._open:
            waited = time.monotonic() - death.at
            self.effect_seconds.append(waited)
            if not death.handed_out:
                self.handed_out_seconds.append(waited)

    def died(self, pid: int, at: float) -> None:
        """The worker with this process id has died ``at`` (monotonic seconds)."""
        held = self._system.held_by(pid)
        if held.numbers:
            with self._lock:
                self._open.append(_Death(held, at, sorted(held.numbers)))

    def disturbed(self) -> None:
        """Redis is away: nothing can be told of those who have not recovered yet."""
        with self._lock:
            self._open.clear()

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_EVERY_SECONDS):
            try:
                self._look()
            except RedisUnavailable:
                continue

    def _look(self) -> None:
        with self._lock:
            deaths = list(self._open)
        for death in deaths:
            self._look_at(death)

    def _look_at(self, death: _Death) -> None:
        handed_out = death.handed_out or self._system.handed_out(death.held)
        if handed_out:
            first, rest = death.missing[:EFFECTS_AT_ONCE], death.missing[EFFECTS_AT_ONCE:]
            death.missing = self._system.without_effect(first) + rest
        now = time.monotonic()
        with self._lock:
            if death not in self._open:  # disturbed meanwhile
                return
            if handed_out and not death.handed_out:
                death.handed_out = True
                self.handed_out_seconds.append(now - death.at)
            if not death.missing:
                self._open.remove(death)
                self.effect_seconds.append(now - death.at)
