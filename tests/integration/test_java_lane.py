"""Jobs for the Java service while it is away, slow, asked twice, or too late."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Batch, Entry
from connectbot.errors import JavaServiceUnavailable
from connectbot.java.circuit_breaker import State
from connectbot.matching.contract import MatchingRequest, MatchingResult
from connectbot.settings import Settings
from connectbot.testing.matching_service import MatchingService
from tasks import matching
from tasks.batch_run import BatchRun
from tasks.matching_deadline import known_deadline_of
from tasks.work import Work
from tests import markers
from tests.integration.test_java_client import SWITCHES, patience
from tests.support import ROOT, Worker, wait_until

IMPATIENT: dict[str, Any] = {
    "breaker_minimum_number_of_calls": 4,
    "breaker_sliding_window_size": 10,
    "breaker_wait_duration_seconds": 0.5,
    "breaker_permitted_calls_in_half_open": 3,
    "java_max_concurrent": 4,
    "java_rate": 100.0,
}


@pytest.fixture
def service() -> Iterator[MatchingService]:
    with MatchingService() as service:
        yield service


@pytest.fixture
def settings(redis_url: str, service: MatchingService) -> Settings:
    return Settings(
        redis_url=redis_url, java_service_url=service.url, java_service_token=markers.TOKEN,
        java_service_timeout_seconds=2, **IMPATIENT,
    )  # fmt: skip


def asked(number: int) -> dict[str, Any]:
    """The data of a request of its own people."""
    users = [number * 10 + at for at in range(4)]
    employees = [markers.person(id_, department=f"d{id_ % 2}") for id_ in users]
    return {"users": users, "employees": employees, "request_id": f"r{number}"}


def ask(ours: Clients, number: int, **changes: Any) -> None:
    """Publish a request of its own people, unless ``changes`` say otherwise."""
    data = {**asked(number), **changes}
    assert ours.publisher.publish_microservice_event("matching", "matching.request", data)


def told(ours: Clients, event_type: str) -> list[dict[str, Any]]:
    """The data of all events of a type that the stream holds, oldest first."""
    rows = ours.redis.xrange(ours.settings.keys.events)
    return [json.loads(row[b"event"])["data"] for _, row in rows if row.get(b"type") == event_type.encode()]


def completed(ours: Clients) -> list[str]:
    return [data["request_id"] for data in told(ours, "matching.completed")]


class InlineLane:
    """The lane java, worked on in this process, entry by entry."""

    def __init__(self, ours: Clients) -> None:
        self._clients = ours
        ours.stream.register("java", "here", lease_seconds=60)

    def run(self) -> None:
        """Work on all that is there now."""
        self._work_on(self._clients.stream.read("java", "here", limit=1000, wait_seconds=0.01))

    def inherit(self) -> None:
        """Work on what others have left."""
        self._work_on(self._clients.stream.take_over("java", "here", limit=1000).entries)

    def _work_on(self, entries: Sequence[Entry]) -> None:
        types = ("matching.request",)
        mine = [entry for entry in entries if entry.type in types]
        self._clients.stream.commit("java", "here", [entry.id for entry in entries if entry not in mine], Effects())
        for entry in mine:
            batch = Batch("java", "here", types, entry.id, entry.id, 1, (entry.id,))
            work = Work(matching.answer_request, matching.announce_failure, True, known_deadline_of)
            BatchRun(self._clients, batch, work).run()


@pytest.fixture
def lane(ours: Clients) -> InlineLane:
    return InlineLane(ours)


# --- which answer means what: from the switch to the event ----------------------------------------------------------


@contextmanager
def java_stand_in() -> Iterator[str]:
    if not shutil.which("java"):
        pytest.skip("needs java")
    source = ROOT / "examples" / "matching-service" / "MatchingService.java"
    running = subprocess.Popen(["java", str(source), "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        yield running.stdout.readline().split()[-1]
    finally:
        running.kill()
        running.communicate()


@pytest.fixture(scope="module", params=["python", "java"])
def stand_in(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of a stand-in that is told over HTTP to misbehave."""
    if request.param == "java":
        with java_stand_in() as url:
            yield url
    else:
        with MatchingService() as service:
            yield service.url


def switch(url: str, switches: dict[str, Any]) -> None:
    for method, path, body in (("DELETE", "/__switches", None), ("DELETE", "/__calls", None), ("PUT", "", switches)):
        text = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url + (path or "/__switches"), data=text, method=method)
        urllib.request.urlopen(request).close()


@pytest.mark.parametrize(("switches", "verdict", "reason", "retry_after_seconds"), SWITCHES, ids=lambda one: str(one))
def test_each_answer_of_both_stand_ins_has_its_event(
    redis_url: str,
    stand_in: str,
    switches: dict[str, Any],
    verdict: str,
    reason: str,
    retry_after_seconds: float | None,
) -> None:
    switch(stand_in, switches)
    settings = Settings(
        redis_url=redis_url,
        java_service_url=stand_in,
        java_service_timeout_seconds=patience(reason),
        java_service_token="t0ken",
    )
    ours = Clients.open(settings)
    ours.stream.ensure_lanes(["java"])
    lane = InlineLane(ours)
    ask(ours, 1)
    lane.run()
    switch(stand_in, {})  # whoever hangs is let go
    delayed = ours.redis.zrange(settings.keys.delayed("java"), 0, -1, withscores=True)
    dead = [row for _, row in ours.redis.xrange(settings.keys.dead)]
    failed = [data["reason"] for data in told(ours, "matching.failed")]
    assert (len(completed(ours)), len(delayed), len(dead)) == {
        "done": (1, 0, 0), "later": (0, 1, 0), "never": (0, 0, 1),
    }[verdict]  # fmt: skip
    assert failed == ([reason] if verdict == "never" else [])
    assert [row[b"reason"].decode() for row in dead] == failed
    if retry_after_seconds:
        assert delayed[0][1] - time.time() > retry_after_seconds - 2
    ours.redis.close()
    ours.java.close()


# --- away -----------------------------------------------------------------------------------------------------------


def test_while_the_service_is_away_jobs_are_parked_and_afterwards_the_oldest_goes_first(
    ours: Clients, settings: Settings, tmp_path: Path
) -> None:
    with MatchingService() as gone:
        port = int(gone.url.rpartition(":")[2])
    settings = replace(settings, java_service_url=gone.url)
    jobs = 60
    with Worker(settings, tmp_path, lanes=["java"], arguments=["--concurrency=2"]) as worker:
        worker.wait_ready()
        for number in range(jobs):
            ask(ours, number)
        keys = settings.keys
        aside = lambda: ours.redis.zcard(keys.parked("java")) + ours.redis.zcard(keys.delayed("java"))  # noqa: E731
        wait_until(lambda: aside() == jobs, deadline_seconds=20, what="all jobs put aside")
        untried = []
        for key in ours.redis.scan_iter(f"{settings.namespace}:parked:java:0*"):
            attempts, tries, event = ours.redis.hmget(key, "attempts", "tries", "event")
            assert attempts == b"0"
            if tries == b"0":
                untried.append(json.loads(event)["data"]["request_id"])
        with MatchingService(port=port, latency_ms=10) as back:
            wait_until(lambda: len(completed(ours)) == jobs, deadline_seconds=25, what="every job done")
            seen = back.calls.shown()
    assert seen["most_in_flight"] <= settings.java_max_concurrent
    order = [int(call["request_id"][1:]) for call in seen["calls"] if call["request_id"] in untried]
    places = {number: at for at, number in enumerate(sorted(order))}
    assert len(order) >= jobs / 2
    assert max(abs(places[number] - at) for at, number in enumerate(order)) <= 12, "the oldest first"
    assert sorted(completed(ours)) == sorted({f"r{number}" for number in range(jobs)})
    assert ours.redis.xlen(keys.dead) == 0
    assert ours.java_gate.breaker.status().opened >= 1
    assert list(ours.redis.scan_iter(f"{settings.namespace}:parked:*")) == []


def test_a_breaker_that_is_open_counts_no_attempt_and_asks_nothing(
    ours: Clients, lane: InlineLane, service: MatchingService
) -> None:
    ours.java_gate.breaker.turn(State.FORCED_OPEN)
    for number in range(20):
        ask(ours, number)
    lane.run()
    assert service.calls.shown()["requests"] == 0
    assert ours.redis.zcard(ours.settings.keys.parked("java")) == 20
    ours.java_gate.breaker.turn(State.HALF_OPEN)
    for _ in range(50):
        ours.java_gate.breaker.tend(probe_seconds=1)
        lane.run()
    wait_until(lambda: drained(ours, lane), deadline_seconds=10, what="the parked jobs")
    assert [call["request_id"] for call in service.calls.shown()["calls"]] == [f"r{number}" for number in range(20)]


def drained(ours: Clients, lane: InlineLane) -> bool:
    ours.java_gate.breaker.tend(probe_seconds=1)
    lane.run()
    return len(completed(ours)) == 20


def test_an_outage_counts_no_attempt_before_the_breaker_opens_either(
    ours: Clients, lane: InlineLane, service: MatchingService
) -> None:
    service.switch(status=502)
    for number in range(3):
        ask(ours, number)
    lane.run()
    delayed = list(ours.redis.scan_iter("connectbot:delayed:java:*"))
    assert [ours.redis.hmget(key, "attempts", "tries") for key in delayed] == [[b"0", b"1"]] * 3
    service.switch(status=500)
    ask(ours, 3)
    lane.run()
    assert ours.java_gate.breaker.status().state == "open"


def test_calls_that_try_whether_the_service_is_back_are_no_attempts(
    ours: Clients, lane: InlineLane, service: MatchingService
) -> None:
    service.switch(status=500)
    ours.java_gate.breaker.turn(State.HALF_OPEN)
    for number in range(4):
        ask(ours, number)
    lane.run()
    assert service.calls.shown()["requests"] == 3
    assert ours.java_gate.breaker.status().state == "open"
    aside = [*ours.redis.scan_iter("connectbot:delayed:java:*"), *ours.redis.scan_iter("connectbot:parked:java:0*")]
    assert [ours.redis.hget(key, "attempts") for key in aside] == [b"0"] * 4
    assert ours.redis.zcard(ours.settings.keys.delayed("java")) == 2, "they make room for others to be tried"


def test_requests_that_always_fail_let_the_others_pass_and_die_in_the_end(
    ours: Clients, lane: InlineLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = ours.java.match

    def fail_on_the_oldest(request: MatchingRequest, **options: Any) -> MatchingResult:
        if request.request_id in ("r0", "r1", "r2", "r3"):
            raise JavaServiceUnavailable("server_error", "it failed")
        return match(request, **options)

    monkeypatch.setattr(ours.java, "match", fail_on_the_oldest)
    ours.java_gate.breaker.turn(State.FORCED_OPEN)
    for number in range(10):
        ask(ours, number)
    lane.run()
    ours.java_gate.breaker.turn(State.OPEN)
    numbers = count(10)

    def are_dead() -> bool:
        for _ in range(3):
            ask(ours, next(numbers))
        let_time_pass(ours, lane)
        return len(told(ours, "matching.failed")) == 4

    wait_until(are_dead, deadline_seconds=30, what="the end of those that always fail")
    assert {data["request_id"] for data in told(ours, "matching.failed")} == {"r0", "r1", "r2", "r3"}
    assert {f"r{number}" for number in range(4, 10)} <= set(completed(ours))


def let_time_pass(ours: Clients, lane: InlineLane) -> None:
    """Until all that is delayed is due, the wait of an open breaker is over, and the ramp goes as steep as it can."""
    keys, breaker = ours.settings.keys, ours.java_gate.breaker
    for member in ours.redis.zrange(keys.delayed("java"), 0, -1):
        ours.redis.zadd(keys.delayed("java"), {member: 0})
    ours.stream.release_delayed("java", limit=100)
    lane.run()
    ours.redis.hset(keys.java_breaker, mapping={"since_ms": 0, "ramp_ms": 0})
    if breaker.tend(probe_seconds=1).probe_due:
        breaker.probed(well=True)
        breaker.tend(probe_seconds=1)
    lane.run()


def test_a_service_that_asks_for_no_delay_is_asked_less_and_less_often(
    ours: Clients, lane: InlineLane, service: MatchingService
) -> None:
    delayed = ours.settings.keys.delayed("java")
    service.switch(status=429, retry_after="0")
    ask(ours, 1)
    lane.run()
    for usual_seconds in (1, 2, 4, 8):
        ((_, due),) = ours.redis.zrange(delayed, 0, -1, withscores=True)
        assert usual_seconds * 0.5 < due - time.time() + 0.4
        let_time_pass(ours, lane)
    assert service.calls.shown()["requests"] == 5


# --- asked twice ----------------------------------------------------------------------------------------------------


def test_a_request_published_twice_is_answered_once(ours: Clients, lane: InlineLane, service: MatchingService) -> None:
    for _ in range(3):
        ask(ours, 1)
    lane.run()
    ask(ours, 1)
    lane.run()
    assert completed(ours) == ["r1"]
    assert service.calls.shown()["requests"] == 1


def test_a_request_for_people_whose_matching_is_in_flight_gets_the_same_answer(
    ours: Clients, lane: InlineLane, service: MatchingService
) -> None:
    service.switch(status=503, retry_after="1")
    ask(ours, 1)
    again = [markers.person(id_, department=f"d{id_ % 2}") for id_ in (12, 13, 10, 11)]
    ask(ours, 1, request_id="again", users=[13, 12, 11, 10], employees=again)
    ask(ours, 1, request_id=None)
    ask(ours, 1, request_id="other type", type="lunch")
    lane.run()
    assert service.calls.shown()["requests"] == 2
    service.switch(status=0)
    heard = ours.redis.pubsub(ignore_subscribe_messages=True)
    heard.psubscribe("connectbot:user:*")

    def settled() -> bool:
        ours.stream.release_delayed("java", limit=100)
        lane.run()
        return len(completed(ours)) == 3

    wait_until(settled, deadline_seconds=10, what="three answers")
    assert sorted(completed(ours)) == ["again", "other type", "r1"]
    assert service.calls.shown()["requests"] == 4
    first, same = (ours.temp_data.get("matching_results", one) for one in ("r1", "again"))
    assert isinstance(first, dict)
    assert same == {**first, "request_id": "again", "same_as": "r1"}
    heard.get_message(timeout=0.1)
    told_users = 0
    while heard.get_message(timeout=0.1):
        told_users += 1
    assert told_users in (7, 8), "each of four people hears of both matchings, and of none twice"
    heard.close()
    ours.java_gate.breaker.turn(State.CLOSED)
    ask(ours, 1, request_id="much later")
    lane.run()
    assert service.calls.shown()["requests"] == 5, "nothing is in flight any more: this is a new wish"


@pytest.mark.parametrize(("age_seconds", "longest_seconds"), [(10, 6), (3600, 60)])
def test_a_twin_looks_the_less_often_the_longer_it_has_waited(
    ours: Clients, lane: InlineLane, service: MatchingService, age_seconds: int, longest_seconds: int
) -> None:
    service.switch(status=503, retry_after="900")
    ask(ours, 1)
    lane.run()
    event = {"id": "e", "type": "matching.request", "data": {**asked(1), "request_id": "twin"}}
    origin = f"{(time.time() - age_seconds) * 1000:.0f}-0"
    fields = {"type": event["type"], "event": json.dumps(event), "origin": origin}
    ours.redis.xadd(ours.settings.keys.events, fields)
    lane.run()
    ((_, due), _) = ours.redis.zrange(ours.settings.keys.delayed("java"), 0, -1, withscores=True)
    assert longest_seconds - 2 < due - time.time() <= longest_seconds


@pytest.mark.parametrize(
    "changes", [{"employees": [{"id": 10, "excluded_partners": [11]}]}, {"algorithm_params": {"seed": 2}}]
)
def test_a_request_that_asks_something_else_of_the_same_people_gets_an_answer_of_its_own(
    ours: Clients, lane: InlineLane, service: MatchingService, changes: dict[str, Any]
) -> None:
    service.switch(status=503, retry_after="60")
    ask(ours, 1)
    lane.run()
    service.switch(status=0)
    ask(ours, 1, request_id="other", **changes)
    lane.run()
    assert completed(ours) == ["other"]
    assert "same_as" not in told(ours, "matching.completed")[0]


def test_a_request_whose_result_was_removed_is_asked_anew(
    ours: Clients, lane: InlineLane, service: MatchingService
) -> None:
    for _ in range(2):
        ask(ours, 1)
        lane.run()
        assert ours.temp_data.get("matching_results", "r1")
        ours.temp_data.delete("matching_results", "r1")
    ask(ours, 1)
    ask(ours, 1)
    lane.run()
    assert completed(ours) == ["r1"] * 3


def test_a_request_that_failed_may_be_asked_again(ours: Clients, lane: InlineLane, service: MatchingService) -> None:
    service.switch(status=422)
    ask(ours, 1)
    lane.run()
    assert [data["reason"] for data in told(ours, "matching.failed")] == ["unprocessable"]
    assert ours.temp_data.get("matching_failures", "r1") == {"request_id": "r1", "reason": "unprocessable"}
    service.switch(status=0)
    ask(ours, 1)
    lane.run()
    assert completed(ours) == ["r1"]


def test_a_malformed_repeat_says_nothing_of_the_request_in_flight(
    ours: Clients, lane: InlineLane, service: MatchingService
) -> None:
    service.switch(status=503, retry_after="60")
    ask(ours, 1)
    ask(ours, 1, users=None)
    lane.run()
    assert [row[b"reason"] for _, row in ours.redis.xrange(ours.settings.keys.dead)] == [b"malformed"]
    assert told(ours, "matching.failed") == []
    service.switch(status=0)
    ask(ours, 1)
    lane.run()
    assert completed(ours) == [], "the first one still has its claim"


@pytest.mark.parametrize(
    ("changes", "heard"),
    [
        ({"user_id": "abc"}, ["r1"]),
        ({"data": {"request_id": "r1", "users": [1] * 600_000}}, ["r1"]),
        ({"data": [{"request_id": "r1"}]}, []),
        ({"data": {"request_id": ["r1"]}, "user_id": "abc"}, []),
    ],
    ids=["shape", "too large", "data is a list", "no id"],
)
def test_of_a_request_that_cannot_be_read_is_told_what_can_be(
    ours: Clients, lane: InlineLane, changes: dict[str, Any], heard: list[str]
) -> None:
    event = {"id": "e", "type": "matching.request", "data": {"request_id": "r1", "users": [1, 2]}, **changes}
    ours.redis.xadd(ours.settings.keys.events, {"type": event["type"], "event": json.dumps(event)})
    lane.run()
    assert [row[b"reason"] for _, row in ours.redis.xrange(ours.settings.keys.dead)] == [b"malformed"]
    assert told(ours, "matching.failed") == [{"request_id": one, "reason": "malformed"} for one in heard]


# --- too late -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "deadline",
    [
        time.time() - 1,
        (time.time() - 1) * 1000,
        (datetime.now(UTC) - timedelta(seconds=1)).isoformat(),
        datetime.now().isoformat(),  # noqa: DTZ005 - as v21 writes it
        "2020-01-01T00:00:00Z",
    ],
    ids=["seconds", "milliseconds", "iso", "naive", "java"],
)
def test_past_its_deadline_a_request_fails_with_that_reason(
    ours: Clients, lane: InlineLane, service: MatchingService, deadline: Any
) -> None:
    ask(ours, 1, deadline=deadline)
    lane.run()
    assert [data["reason"] for data in told(ours, "matching.failed")] == ["deadline"]
    assert service.calls.shown()["requests"] == 0
    assert ours.redis.xlen(ours.settings.keys.dead) == 0


@pytest.mark.parametrize("deadline", ["soon", True, -1, [], "nan"])
def test_a_deadline_that_nobody_understands_makes_the_request_malformed(
    ours: Clients, lane: InlineLane, deadline: Any
) -> None:
    ask(ours, 1, deadline=deadline)
    lane.run()
    ((_, letter),) = ours.redis.xrange(ours.settings.keys.dead)
    assert letter[b"reason"] == b"malformed"
    assert b"deadline" in letter[b"error"]
    assert [data["reason"] for data in told(ours, "matching.failed")] == ["malformed"]


@pytest.fixture
def patient(settings: Settings) -> Iterator[Clients]:
    """The clients of an installation where a call may take long."""
    clients = Clients.open(replace(settings, java_service_timeout_seconds=60))
    clients.stream.ensure_lanes(["java"])
    yield clients
    clients.redis.close()
    clients.java.close()


def test_a_call_gets_no_more_time_than_is_left(patient: Clients, service: MatchingService) -> None:
    ours, lane = patient, InlineLane(patient)
    service.switch(latency_ms=30_000)
    ask(ours, 1, deadline=time.time() + 0.3)
    begun = time.monotonic()
    lane.run()
    assert time.monotonic() - begun < 10
    assert ours.java_gate.breaker.status().calls == 0, "that says nothing of the service"

    def failed() -> list[dict[str, Any]]:
        ours.stream.release_delayed("java", limit=10)
        lane.run()
        return told(ours, "matching.failed")

    wait_until(failed, deadline_seconds=5, what="matching.failed")
    assert failed()[0]["reason"] == "deadline"


def test_past_its_deadline_nobody_asks_who_has_waited_for_a_permit(
    ours: Clients, lane: InlineLane, service: MatchingService
) -> None:
    for at in range(ours.settings.java_max_concurrent):
        ours.java_gate.breaker.admit(f"another {at}", lapses_seconds=0.5, parked="")
    ask(ours, 1, deadline=time.time() + 0.2)
    lane.run()
    assert service.calls.shown()["requests"] == 0


@pytest.mark.parametrize("fallback", ["none", "local"])
def test_a_parked_request_is_answered_at_its_deadline(
    ours: Clients, settings: Settings, tmp_path: Path, fallback: str
) -> None:
    ours.java_gate.breaker.turn(State.FORCED_OPEN)
    settings = replace(settings, matching_fallback=fallback)
    with Worker(settings, tmp_path, lanes=["java"]) as worker:
        worker.wait_ready()
        due = time.time() + 1.5
        ask(ours, 1, deadline=due)
        ask(ours, 2)
        wanted = "matching.completed" if fallback == "local" else "matching.failed"
        wait_until(lambda: told(ours, wanted), deadline_seconds=10, what=wanted)
    rows = ours.redis.xrange(settings.keys.events)
    (told_at,) = (id_ for id_, row in rows if row.get(b"type") == wanted.encode())
    assert 0 <= int(told_at.partition(b"-")[0]) / 1000 - due < 2
    (answer,) = told(ours, wanted)
    assert answer["request_id"] == "r1"
    if fallback == "local":
        assert answer["algorithm"] == "local_fallback"
        people = {number: number % 2 for number in (10, 11, 12, 13)}
        pairs = [tuple(pair.values()) for pair in answer["pairs"]]
        assert sorted(one for pair in pairs for one in pair) == sorted(people)
        assert all(people[one] != people[other] for one, other in pairs)
    else:
        assert answer["reason"] == "deadline"


# --- killed in the middle -------------------------------------------------------------------------------------------


def test_killed_workers_leave_each_request_answered_once(
    ours: Clients, settings: Settings, service: MatchingService, tmp_path: Path
) -> None:
    jobs, kills = 120, 3
    settings = replace(settings, java_max_concurrent=10, lease_seconds=1.0, java_service_timeout_seconds=1.0)
    service.switch(latency_ms=30)
    workers = [Worker(settings, tmp_path, lanes=["java"], name=f"w{at}") for at in range(2)]
    with workers[0], workers[1]:
        for worker in workers:
            worker.wait_ready()
        for number in range(jobs):
            ask(ours, number)
        for kill in range(kills):
            reached = jobs * (kill + 1) // (kills + 2)
            wait_until(lambda: len(completed(ours)) >= reached, deadline_seconds=30, what=f"{reached} answers")  # noqa: B023
            victim = workers[kill % 2]
            victim.kill()
            victim.start()
        wait_until(lambda: len(completed(ours)) >= jobs, deadline_seconds=40, what="all answers")
    assert sorted(completed(ours)) == sorted(f"r{number}" for number in range(jobs))
    calls = service.calls.shown()["calls"]
    assert len(calls) == jobs, "repeated calls bear the same key"
    assert all(ours.temp_data.get("matching_results", f"r{number}") for number in range(jobs))
