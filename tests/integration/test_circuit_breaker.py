"""The breaker, the bulkhead and the rate limit, as several workers share them through Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from connectbot import aside
from connectbot.effects import Effects
from connectbot.entries import Entry
from connectbot.errors import JavaServiceRefused, JavaServiceUnavailable, Later, Parked
from connectbot.java.circuit_breaker import CircuitBreaker, Outcome, Rules, State, Verdict
from connectbot.java.gate import JavaGate
from connectbot.keys import Keys
from connectbot.redis_client import RedisClient, connect
from connectbot.stream import EventStream
from tests.support import wait_until

RULES = Rules(
    failure_rate=50, slow_call_rate=100, slow_call_ms=1000, window_size=10, minimum_calls=4, wait_ms=100,
    permitted_calls=3, max_concurrent=5, rate=100_000,
)  # fmt: skip
KEYS = Keys()


@pytest.fixture
def make(client: RedisClient) -> Callable[..., CircuitBreaker]:
    """Makes breakers of one installation, as different processes have them."""

    def make(**changes: Any) -> CircuitBreaker:
        rules = Rules(**{**{name: getattr(RULES, name) for name in RULES.__struct_fields__}, **changes})
        return CircuitBreaker(client, KEYS, rules, lane="java")

    return make


def admit(breaker: CircuitBreaker, permit: str, *, parked: str = "", lapses_seconds: float = 60) -> Verdict:
    return breaker.admit(permit, lapses_seconds=lapses_seconds, parked=parked)[0]


def called(breaker: CircuitBreaker, *outcomes: Outcome, seconds: float = 0.0) -> State:
    state = State.CLOSED
    for outcome in outcomes:
        assert admit(breaker, "p") is Verdict.GO
        state = breaker.record("p", outcome, seconds=seconds)
    return state


def half_open(breaker: CircuitBreaker) -> None:
    breaker.turn(State.OPEN)
    wait_until(lambda: breaker.tend(probe_seconds=1).probe_due, deadline_seconds=5, what="a look at health")
    assert breaker.probed(well=True) is State.HALF_OPEN


def let_pass(client: RedisClient, seconds: int) -> None:
    """Move what Redis holds into the past, as if so much time had gone by."""
    client.hincrby(KEYS.java_breaker, "since_ms", -1000 * seconds)
    for key in (KEYS.java_breaker_trials, KEYS.java_permits):
        for permit in client.zrange(key, 0, -1):
            client.zincrby(key, -1000 * seconds, permit)


# --- the sliding window ---------------------------------------------------------------------------------------------


def test_it_opens_at_the_failure_rate_over_all_workers(make: Callable[..., CircuitBreaker]) -> None:
    one, other = make(), make()
    assert called(one, "success", "success", "failure") is State.CLOSED, "fewer calls than the minimum"
    assert called(other, "failure") is State.OPEN
    assert admit(one, "p") is Verdict.PARK
    assert (one.status().state, one.status().opened) == ("open", 1)


def test_only_the_latest_calls_count(make: Callable[..., CircuitBreaker]) -> None:
    breaker = make()
    called(breaker, *["success"] * 6, *["failure"] * 4)
    called(breaker, *["success"] * 6)  # now four failures are followed by six successes
    assert (breaker.status().calls, breaker.status().failure_rate) == (10, 40.0)
    called(breaker, *["success"] * 4)
    assert breaker.status().failure_rate == 0.0
    assert called(breaker, *["failure"] * 4) is State.CLOSED
    assert called(breaker, "failure") is State.OPEN


def test_it_opens_at_the_rate_of_slow_calls(make: Callable[..., CircuitBreaker]) -> None:
    breaker = make(slow_call_rate=60)
    called(breaker, "success", "success")
    assert called(breaker, "success", "success", seconds=1.5) is State.CLOSED
    assert breaker.status().slow_call_rate == 50.0
    assert called(breaker, "success", seconds=1.0) is State.OPEN


def test_what_says_nothing_of_the_service_is_not_counted(make: Callable[..., CircuitBreaker]) -> None:
    breaker = make()
    assert called(breaker, *["ignored"] * 20) is State.CLOSED
    assert breaker.status().calls == 0


def test_calls_cut_short_by_their_deadlines_count_where_they_were_slow(make: Callable[..., CircuitBreaker]) -> None:
    breaker = make()
    assert called(breaker, *["cut_short"] * 10, seconds=0.9) is State.CLOSED
    assert breaker.status().calls == 0
    assert called(breaker, *["cut_short"] * 3, seconds=1.0) is State.CLOSED
    assert (breaker.status().failure_rate, breaker.status().slow_call_rate) == (0, 100)
    assert called(breaker, "cut_short", seconds=1.0) is State.OPEN


def test_an_outcome_that_is_told_twice_counts_once(make: Callable[..., CircuitBreaker]) -> None:
    breaker = make()
    assert called(breaker, "failure") is State.CLOSED
    assert breaker.record("p", "failure", seconds=0) is State.CLOSED
    assert breaker.status().calls == 1


def test_a_late_outcome_does_not_disturb_an_open_breaker(make: Callable[..., CircuitBreaker]) -> None:
    breaker = make()
    assert admit(breaker, "late") is Verdict.GO
    assert called(breaker, *["failure"] * 4) is State.OPEN
    assert breaker.record("late", "success", seconds=0) is State.OPEN
    assert breaker.status().in_flight == 0


# --- open and half-open ---------------------------------------------------------------------------------------------


def test_one_worker_at_a_time_looks_at_the_health(make: Callable[..., CircuitBreaker], client: RedisClient) -> None:
    one, other = make(wait_ms=60_000), make(wait_ms=60_000)
    one.turn(State.OPEN)
    assert not one.tend(probe_seconds=60).probe_due, "the wait is not over"
    let_pass(client, 60)
    assert one.tend(probe_seconds=60).probe_due
    assert not other.tend(probe_seconds=60).probe_due
    assert one.probed(well=False) is State.OPEN
    assert not other.tend(probe_seconds=60).probe_due, "the wait begins anew"
    let_pass(client, 60)
    assert other.tend(probe_seconds=60).probe_due
    assert other.probed(well=True) is State.HALF_OPEN


def test_a_worker_that_dies_over_its_look_is_replaced(make: Callable[..., CircuitBreaker]) -> None:
    one, other = make(), make()
    one.turn(State.OPEN)
    wait_until(lambda: one.tend(probe_seconds=0.2).probe_due, deadline_seconds=5, what="a look at health")
    wait_until(lambda: other.tend(probe_seconds=0.2).probe_due, deadline_seconds=5, what="another's look")


def test_half_open_permits_so_many_calls_over_all_workers(make: Callable[..., CircuitBreaker]) -> None:
    one, other = make(), make()
    half_open(one)
    assert [admit(one, "a"), admit(other, "b"), admit(one, "c")] == [Verdict.GO] * 3
    assert admit(other, "d") is Verdict.PARK
    assert one.record("a", "success", seconds=0) is State.HALF_OPEN
    assert admit(other, "d") is Verdict.PARK, "three calls decide, not three at once"
    assert one.record("b", "failure", seconds=0) is State.HALF_OPEN
    assert one.record("c", "success", seconds=0) is State.CLOSED, "33 % failed, which is less than 50 %"


def test_half_open_opens_again_at_the_failure_rate(make: Callable[..., CircuitBreaker]) -> None:
    breaker = make()
    half_open(breaker)
    assert called(breaker, "failure", "success") is State.HALF_OPEN
    assert called(breaker, "failure") is State.OPEN
    assert breaker.status().opened == 2


@pytest.mark.parametrize(("outcome", "then"), [("success", State.CLOSED), ("failure", State.OPEN)])
def test_half_open_decides_however_small_the_window(
    make: Callable[..., CircuitBreaker], outcome: Outcome, then: State
) -> None:
    breaker = make(window_size=2, minimum_calls=2)
    half_open(breaker)
    assert called(breaker, outcome, outcome) is State.HALF_OPEN
    assert called(breaker, outcome) is then


def test_half_open_ends_also_when_another_worker_permits_less(
    make: Callable[..., CircuitBreaker], stream: EventStream
) -> None:
    one, other = make(permitted_calls=5), make(permitted_calls=3)
    half_open(one)
    assert called(one, *["success"] * 4) is State.HALF_OPEN
    park(stream, "1-0")
    assert other.tend(probe_seconds=1).released == 1
    assert called(other, "success") is State.CLOSED


def test_a_permit_of_half_open_comes_back_when_its_worker_dies(
    make: Callable[..., CircuitBreaker], client: RedisClient
) -> None:
    breaker = make()
    half_open(breaker)
    for name in "abc":
        assert admit(breaker, name, lapses_seconds=30) is Verdict.GO
    assert admit(breaker, "d") is Verdict.PARK
    let_pass(client, 30)
    assert admit(breaker, "d") is Verdict.GO


def test_forced_open_stays_until_it_is_turned(make: Callable[..., CircuitBreaker]) -> None:
    breaker = make(wait_ms=1)
    breaker.turn(State.FORCED_OPEN)
    time_of_looks = time.monotonic() + 0.1
    wait_until(lambda: time.monotonic() > time_of_looks, deadline_seconds=1, what="some time")
    assert not breaker.tend(probe_seconds=1).probe_due
    assert admit(breaker, "p", parked="x") is Verdict.PARK
    breaker.turn(State.HALF_OPEN)
    assert admit(breaker, "p") is Verdict.GO


# --- bulkhead and rate ----------------------------------------------------------------------------------------------


def test_so_many_calls_are_in_flight_over_all_workers(make: Callable[..., CircuitBreaker]) -> None:
    one, other = make(), make()
    assert [admit(breaker, str(at)) for at, breaker in enumerate((one, other, one, other, one))] == [Verdict.GO] * 5
    assert admit(other, "5") is Verdict.WAIT
    one.record("0", "success", seconds=0)
    assert admit(other, "5") is Verdict.GO


def test_the_permits_of_a_killed_worker_come_back(make: Callable[..., CircuitBreaker], client: RedisClient) -> None:
    breaker = make()
    for at in range(5):
        admit(breaker, str(at), lapses_seconds=30)
    assert admit(breaker, "5") is Verdict.WAIT
    let_pass(client, 30)
    assert breaker.status().in_flight == 0
    assert admit(breaker, "5") is Verdict.GO


def test_the_rate_is_kept_over_all_workers(make: Callable[..., CircuitBreaker]) -> None:
    breakers = [make(rate=200, max_concurrent=1000) for _ in range(4)]
    granted, waits = list[float](), list[float]()
    begun = time.monotonic()

    def ask(breaker: CircuitBreaker) -> None:
        while len(granted) < 200:
            verdict, wait_seconds = breaker.admit(str(time.monotonic()), lapses_seconds=60, parked="")
            waits.append(wait_seconds)
            if verdict is Verdict.GO:
                granted.append(time.monotonic())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, breakers))
    assert len(granted) <= 200 * (max(granted) - begun) + 200 * RULES.burst_ms / 1000 + 2
    assert 0 < max(waits) <= 1 / 200 + 0.001, "the next permit is there after so long, and no longer"


# --- parked jobs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(client: RedisClient) -> EventStream:
    stream = EventStream(client, KEYS)
    stream.ensure_lanes(["java"])
    return stream


def park(stream: EventStream, *origins: str, deadline: float | None = None) -> None:
    for number, origin in enumerate(origins):
        entry = Entry(f"9999-{number}", {b"event": origin.encode(), b"origin": origin.encode(), b"attempts": b"2"})
        effects = Effects()
        effects.add(*aside.parking(KEYS, "java", entry, deadline=deadline, tries=2))
        stream.apply(effects)


def released(client: RedisClient) -> list[str]:
    return [fields[b"event"].decode() for _, fields in client.xrange(KEYS.events)]


def test_the_oldest_go_first_and_as_many_as_are_permitted(
    make: Callable[..., CircuitBreaker], stream: EventStream, client: RedisClient
) -> None:
    breaker = make()
    park(stream, "30-0", "5-11", "5-2", "100-0", "7-0")
    breaker.turn(State.OPEN)
    assert breaker.tend(probe_seconds=1).parked == 5
    assert breaker.status().oldest_parked == 0.005
    half_open(breaker)
    assert breaker.tend(probe_seconds=1).released == 3
    assert breaker.tend(probe_seconds=1).released == 0, "those released have not come to the gate yet"
    assert released(client) == ["5-2", "5-11", "7-0"]
    fields = client.xrange(KEYS.events)[0][1]
    assert fields == {
        b"event": b"5-2", b"origin": b"5-2", b"attempts": b"2", b"tries": b"2", b"lane": b"java",
        b"parked": fields[b"parked"],
    }  # fmt: skip
    for _ in range(3):
        parked = client.zrange(KEYS.released("java"), 0, 0)[0].decode()
        assert admit(breaker, "p", parked=parked) is Verdict.GO
        breaker.record("p", "success", seconds=0)
    wait_until(
        lambda: breaker.tend(probe_seconds=1).parked == 0, deadline_seconds=10, what="the rest, the breaker closed"
    )
    assert released(client)[3:] == ["30-0", "100-0"]
    assert client.keys("connectbot:parked:java:[0-9]*") == []


def test_who_comes_while_others_are_parked_is_parked_behind_them(
    make: Callable[..., CircuitBreaker], stream: EventStream
) -> None:
    breaker = make()
    assert admit(breaker, "p") is Verdict.GO
    park(stream, "1-0")
    assert admit(breaker, "q") is Verdict.PARK
    assert admit(breaker, "q", parked="1-0") is Verdict.GO


def test_release_is_a_ramp(make: Callable[..., CircuitBreaker], stream: EventStream, client: RedisClient) -> None:
    breaker = make(permitted_calls=10, max_concurrent=1000)
    park(stream, *(f"{at}-0" for at in range(1, 500)))
    begun, passed, seen = time.monotonic(), 0.0, 0
    breaker.turn(State.CLOSED)
    while passed < 2:
        seen += breaker.tend(probe_seconds=1).released
        passed = time.monotonic() - begun
        assert seen <= 10 * (2 ** (passed + 0.1)) * (passed + 0.1) + 1
        threading.Event().wait(0.02)
    assert 10 < seen < 80
    assert released(client) == [f"{at}-0" for at in range(1, seen + 1)]


def test_a_parked_job_returns_at_its_deadline_whatever_the_breaker_says(
    make: Callable[..., CircuitBreaker], stream: EventStream, client: RedisClient
) -> None:
    breaker = make()
    park(stream, "1-0", deadline=time.time() + 3600)
    park(stream, "2-0", deadline=time.time() - 1)
    breaker.turn(State.FORCED_OPEN)
    seen = breaker.tend(probe_seconds=1)
    assert (seen.released, seen.parked) == (1, 1)
    assert released(client) == ["2-0"]
    assert client.zcard(KEYS.parked_deadlines("java")) == 1


def test_a_rate_below_one_a_second_releases_too(make: Callable[..., CircuitBreaker], stream: EventStream) -> None:
    breaker = make(rate=0.8)
    park(stream, "1-0")
    breaker.turn(State.CLOSED)
    wait_until(lambda: breaker.tend(probe_seconds=1).released, deadline_seconds=10, what="the parked job")


# --- Redis' clock is set back by an hour ----------------------------------------------------------------------------

AN_HOUR_MS = 3_600_000


@pytest.mark.parametrize("state", [State.OPEN, State.CLOSED])
def test_a_clock_set_back_keeps_nobody_parked(
    make: Callable[..., CircuitBreaker], stream: EventStream, client: RedisClient, state: State
) -> None:
    breaker = make()
    park(stream, "1-0")
    breaker.turn(state)
    ahead = f"{time.time() * 1000 + AN_HOUR_MS:.0f}"
    client.hset(KEYS.java_breaker, mapping={"since_ms": ahead, "ramp_ms": ahead})

    def goes_on() -> bool:
        tended = breaker.tend(probe_seconds=1)
        return tended.probe_due or tended.released > 0

    wait_until(goes_on, deadline_seconds=10, what="a look at health, or a release")


def test_a_clock_set_back_holds_no_permit_and_no_trial(
    make: Callable[..., CircuitBreaker], stream: EventStream, client: RedisClient
) -> None:
    breaker = make(max_concurrent=3)
    assert admit(breaker, "p") is Verdict.GO
    park(stream, "1-0")
    half_open(breaker)
    ahead = {name: time.time() * 1000 + AN_HOUR_MS for name in "abc"}
    for key in (KEYS.java_breaker_trials, KEYS.java_permits, KEYS.released("java")):
        client.zadd(key, ahead)
    assert breaker.tend(probe_seconds=1).released == 1
    assert admit(breaker, "q") is Verdict.GO


def test_a_permit_may_last_long(make: Callable[..., CircuitBreaker]) -> None:
    breaker = make(max_concurrent=1)
    assert admit(breaker, "p", lapses_seconds=7200) is Verdict.GO
    assert admit(breaker, "q", lapses_seconds=60) is Verdict.WAIT


def test_a_clock_set_back_does_not_use_the_rate_up(make: Callable[..., CircuitBreaker], client: RedisClient) -> None:
    client.set(KEYS.java_rate, f"{time.time() * 1000 + AN_HOUR_MS:.3f}", px=AN_HOUR_MS)
    assert admit(make(rate=10), "p") is Verdict.GO


# --- the gate of a process ------------------------------------------------------------------------------------------


def away(reason: str = "connection_error") -> Any:
    raise JavaServiceUnavailable(reason, "away", away=True)


def test_a_call_that_opens_the_breaker_is_parked_and_so_are_all_after_it(make: Callable[..., CircuitBreaker]) -> None:
    gate = JavaGate(make(), patience_seconds=1, call_seconds=1)
    for _ in range(3):
        with pytest.raises(JavaServiceUnavailable):
            gate.call(away)
    with pytest.raises(Parked) as parked:
        gate.call(away)
    assert (parked.value.reason, parked.value.counted) == ("connection_error", False)
    with pytest.raises(Parked, match="circuit_open"):
        gate.call(lambda: pytest.fail("the service was called"))


@pytest.mark.parametrize("reason", ["pool_timeout", "token_unreadable", "too_many_requests"])
def test_some_reasons_do_not_blame_the_service(make: Callable[..., CircuitBreaker], reason: str) -> None:
    gate = JavaGate(make(), patience_seconds=1, call_seconds=1)
    for _ in range(10):
        with pytest.raises(JavaServiceUnavailable):
            gate.call(lambda: away(reason))
    assert gate.breaker.status().calls == 0


def test_a_service_that_hangs_opens_it_though_each_request_is_in_a_hurry(make: Callable[..., CircuitBreaker]) -> None:
    gate = JavaGate(make(slow_call_ms=0), patience_seconds=1, call_seconds=1)
    for _ in range(3):
        with pytest.raises(JavaServiceUnavailable):
            gate.call(lambda: away("timeout"), hurried=True)
    with pytest.raises(Parked, match="timeout"):
        gate.call(lambda: away("timeout"), hurried=True)


def test_a_refusal_is_a_success_of_the_service_but_nonsense_is_not(make: Callable[..., CircuitBreaker]) -> None:
    gate = JavaGate(make(), patience_seconds=1, call_seconds=1)

    def refuse(reason: str) -> None:
        raise JavaServiceRefused(reason, "no")

    for _ in range(8):
        with pytest.raises(JavaServiceRefused):
            gate.call(lambda: refuse("unprocessable"))
    assert gate.breaker.status().failure_rate == 0
    for _ in range(5):
        with pytest.raises(JavaServiceRefused):
            gate.call(lambda: refuse("nonsense"))
    assert gate.breaker.status().state == "open"


def test_a_call_waits_a_little_for_its_permit_and_is_put_back_then(make: Callable[..., CircuitBreaker]) -> None:
    breaker = make(max_concurrent=1)
    assert admit(breaker, "other") is Verdict.GO
    with pytest.raises(Later) as later:
        JavaGate(breaker, patience_seconds=0.2, call_seconds=1).call(lambda: None)
    assert (later.value.reason, later.value.counted) == ("no_permit", False)
    gate = JavaGate(breaker, patience_seconds=20, call_seconds=1)
    threading.Timer(0.05, lambda: breaker.record("other", "success", seconds=0)).start()
    assert gate.call(lambda: 7) == 7
    assert gate.breaker.status().in_flight == 0


def test_threads_share_a_gate_and_never_exceed_the_bulkhead(redis_url: str) -> None:
    rules = Rules(**{**{name: getattr(RULES, name) for name in RULES.__struct_fields__}, "max_concurrent": 3})
    client = connect(redis_url)
    gates = [
        JavaGate(CircuitBreaker(client, KEYS, rules, lane="java"), patience_seconds=10, call_seconds=5)
        for _ in range(2)
    ]
    lock, running, most = threading.Lock(), 0, 0

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.005)
        with lock:
            running -= 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda at: gates[at % 2].call(work), range(200)))
    client.close()
    assert 1 < most <= 3
