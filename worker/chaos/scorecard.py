"""The result of a run: numbers, and which promises they break."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

RECOVERY_P99_SECONDS: Final = 10.0
OUTAGE_P99_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Durations:
    """Some durations, in seconds; None where there was nothing to measure."""

    count: int
    p50: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Durations:
        """The percentiles of some durations (nearest rank)."""
        if not seconds:
            return cls(0, None, None, None)
        ordered = sorted(seconds)
        ranks = [ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99, 1.0)]
        return cls(len(ordered), *(round(value, 2) for value in ranks))

    def __str__(self) -> str:
        if not self.count:
            return "-"
        return f"p50 {self.p50:.1f} s, p99 {self.p99:.1f} s, max {self.max:.1f} s ({self.count})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scorecard:
    """What one run showed."""

    system: str
    seed: int
    workers: int
    seconds: float
    events: int
    """Events that were certainly published."""
    kills: int
    stops: int
    freezes: int
    redis_outages: int
    lost: int
    doubled: int
    """Events whose effect was applied more than once."""
    dead_letters: int
    stale_menus: int | None
    """None for a system without menus."""
    executions_per_event: float
    recovery: Durations
    """From a worker's death to the moment when all it held was handed out again or finished."""
    recovery_to_effect: Durations
    """From a worker's death to the effect of the last event it held."""
    outage_to_effect: Durations
    """From the end of an outage of Redis to the effect of an event published after it."""
    outages: Mapping[str, Durations]
    """The same for each kind of outage."""
    pending: int
    """Entries delivered and not finished at the end."""
    gone_with_redis: int
    """Events that were in a Redis that came back empty: nothing is owed for them."""

    @property
    def broken(self) -> tuple[str, ...]:
        """The promises that did not hold, in words."""
        rules = {
            f"{self.lost} events were lost": self.lost == 0,
            f"{self.doubled} effects were applied twice": self.doubled == 0,
            f"{self.dead_letters} good events became dead letters": self.dead_letters == 0,
            f"{self.stale_menus} menus are older than the newest event": not self.stale_menus,
            f"{self.pending} entries are still pending": self.pending == 0,
            f"recovery p99 is not under {RECOVERY_P99_SECONDS:g} s": _under(self.recovery, RECOVERY_P99_SECONDS),
            f"the first effect after an outage, p99, is not within {OUTAGE_P99_SECONDS:g} s": _under(
                self.outage_to_effect, OUTAGE_P99_SECONDS
            ),
        }
        return tuple(words for words, holds in rules.items() if not holds)

    def rows(self) -> list[tuple[str, str]]:
        """What a person reads, line by line."""
        return [
            ("events", f"{self.events:,} in {self.seconds:.0f} s, {self.workers} workers, seed {self.seed}"),
            ("kills", f"{self.kills} kill -9, {self.stops} SIGTERM, {self.freezes} SIGSTOP"),
            ("outages of Redis", str(self.redis_outages)),
            ("lost", str(self.lost)),
            ("effects doubled", str(self.doubled)),
            ("dead letters", str(self.dead_letters)),
            ("stale menus", "-" if self.stale_menus is None else str(self.stale_menus)),
            ("executions per event", f"{self.executions_per_event:.3f}"),
            ("recovery: handed out again", str(self.recovery)),
            ("recovery: last effect", str(self.recovery_to_effect)),
            ("effect after an outage", str(self.outage_to_effect)),
            *((f"  {kind}", str(seconds)) for kind, seconds in self.outages.items()),
            ("pending at the end", str(self.pending)),
            ("gone with an emptied Redis", f"{self.gone_with_redis:,}"),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The same for machines."""
        return {**asdict(self), "broken": list(self.broken)}


def _under(durations: Durations, seconds: float) -> bool:
    return durations.p99 is None or durations.p99 < seconds
