"""The circuit breaker before the Java service, with bulkhead and rate limit: one for all workers, kept in Redis.

The words are resilience4j's, so that the service's own team can read them. The breaker is *closed* while all is well;
it *opens* when too many of the latest calls failed or were slow, is *half-open* while a few permitted calls find out
whether the service is back, and *forced open* when an operator parks everything.

pybreaker is not used: what its Redis storage shares is one count of failures in a row and the time of opening. It has
no sliding window, no rate of slow calls, no bound on the calls in half-open over processes, and changes its state in
several commands, between which other workers see half of it. Here each step is one script (lua/breaker_*.lua).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Final, Literal

import msgspec

from connectbot.keys import Keys
from connectbot.quick_script import QuickScript
from connectbot.redis_client import RedisClient, translated_errors
from connectbot.settings import Settings

Outcome = Literal["success", "failure", "cut_short", "ignored"]
"""How a call went; what says nothing of the service is ignored. One cut short by its request's own deadline has not
failed: it is ignored, too, unless it was slow by then."""

BURST_MS: Final = 50
"""Calls of so many milliseconds may begin at once without exceeding the rate."""
RELEASE_AT_ONCE: Final = 200
RELEASED_IS_AWAITED_MS: Final = 5_000


class State(Enum):
    """What the breaker does."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"


class Verdict(Enum):
    """What becomes of a call that asks for a permit."""

    GO = "go"
    PARK = "park"
    WAIT = "wait"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """When the breaker does what. Rates of failure and slowness are percentages, ``rate`` is in calls per second."""

    failure_rate: float
    slow_call_rate: float
    slow_call_ms: float
    window_size: int
    minimum_calls: int
    wait_ms: float
    permitted_calls: int
    max_concurrent: int
    rate: float
    burst_ms: float = BURST_MS

    @classmethod
    def from_settings(cls, settings: Settings) -> Rules:
        """The rules that the settings name."""
        return cls(
            failure_rate=settings.breaker_failure_rate_threshold,
            slow_call_rate=settings.breaker_slow_call_rate_threshold,
            slow_call_ms=settings.breaker_slow_call_duration_seconds * 1000,
            window_size=settings.breaker_sliding_window_size,
            minimum_calls=min(settings.breaker_minimum_number_of_calls, settings.breaker_sliding_window_size),
            wait_ms=settings.breaker_wait_duration_seconds * 1000,
            permitted_calls=settings.breaker_permitted_calls_in_half_open,
            max_concurrent=settings.java_max_concurrent,
            rate=settings.java_rate,
        )


@dataclass(frozen=True, slots=True)
class Tended:
    """What a look after the breaker brought. ``probe_due``: the caller is to look at the service's health."""

    probe_due: bool
    released: int
    parked: int


@dataclass(frozen=True, slots=True)
class Status:
    """The breaker as an operator wants to see it. Rates are percentages of ``calls``, the latest ones.

    ``oldest_parked`` is when the parked job came whose turn is next (epoch seconds): the oldest, but for those whose
    tries have failed.
    """

    state: str
    since: float
    opened: int
    calls: int
    failure_rate: float
    slow_call_rate: float
    in_flight: int
    parked: int
    oldest_parked: float | None


class CircuitBreaker:
    """The breaker of one installation. Every method raises `RedisUnavailable` when Redis cannot serve."""

    def __init__(self, client: RedisClient, keys: Keys, rules: Rules, *, lane: str) -> None:
        self._redis = client
        self._keys = keys
        self._lane = lane
        self._rules = msgspec.json.encode(rules)
        self._script_keys = [
            keys.java_breaker, keys.java_breaker_window, keys.java_breaker_trials, keys.java_breaker_probe,
            keys.java_permits, keys.java_rate,
            keys.parked(lane), keys.parked_deadlines(lane), keys.released(lane), keys.events,
        ]  # fmt: skip

    def admit(self, permit: str, *, lapses_seconds: float, parked: str) -> tuple[Verdict, float]:
        """Ask for a permit under a name of its own. Answers how long to wait, in seconds, where that is the verdict.

        A permit that is never returned lapses after ``lapses_seconds``. ``parked`` is the name under which the job
        was parked before; empty when it was not.
        """
        verdict, wait_ms = self._run("admit", permit, int(lapses_seconds * 1000), parked)
        return Verdict(verdict.decode()), wait_ms / 1000

    def record(self, permit: str, outcome: Outcome, *, seconds: float) -> State:
        """Return a permit, and tell how its call went."""
        return State(self._run("record", permit, outcome, int(seconds * 1000)).decode())

    def tend(self, *, probe_seconds: float) -> Tended:
        """Release what may be released now. To be called often, by every worker of the lane."""
        look, released, parked = self._run(
            "tend",
            self._keys.parked_entry(self._lane, ""),
            RELEASE_AT_ONCE,
            RELEASED_IS_AWAITED_MS,
            int(probe_seconds * 1000),
        )
        return Tended(bool(look), released, parked)

    def probed(self, *, well: bool) -> State:
        """Tell what a look at the service's health has shown."""
        return State(self._run("probed", int(well)).decode())

    def turn(self, state: State) -> None:
        """Turn it by hand: forced open, it stays so until it is turned again."""
        self._run("turn", state.value)

    def status(self) -> Status:
        """How it stands. A permit that has lapsed is no call in flight, though it may not be cleared away yet."""
        with translated_errors(), self._redis.pipeline(transaction=True) as pipe:
            seconds, microseconds = self._redis.time()
            pipe.hgetall(self._keys.java_breaker)
            pipe.llen(self._keys.java_breaker_window)
            pipe.zcount(self._keys.java_permits, f"({seconds * 1000 + microseconds // 1000}", "+inf")
            pipe.zcard(self._keys.parked(self._lane))
            pipe.zrange(self._keys.parked(self._lane), 0, 0)
            held, calls, in_flight, parked, oldest = pipe.execute()
        return Status(
            state=held.get(b"state", b"closed").decode(),
            since=float(held.get(b"since_ms", 0)) / 1000,
            opened=int(held.get(b"opened", 0)),
            calls=calls,
            failure_rate=int(held.get(b"failures", 0)) * 100 / max(calls, 1),
            slow_call_rate=int(held.get(b"slow", 0)) * 100 / max(calls, 1),
            in_flight=in_flight,
            parked=parked,
            oldest_parked=int(oldest[0].partition(b"-")[0]) / 1000 if oldest else None,
        )

    def distrust_connections(self) -> None:
        """Close the connections at hand for permits: they may be half-open."""
        for script in self._scripts.values():
            script.distrust()

    # --- inside ---------------------------------------------------------------------------------------

    def _run(self, name: str, *words: Any) -> Any:
        with translated_errors():
            return self._scripts[name](keys=self._script_keys, args=[self._rules, *words])

    @cached_property
    def _scripts(self) -> dict[str, QuickScript]:
        names = ("admit", "record", "tend", "probed", "turn")
        return {name: QuickScript(self._redis, "breaker", f"breaker_{name}") for name in names}
