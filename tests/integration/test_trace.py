"""The way of an event, as `connectbot events trace` tells it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connectbot.admission import Admission, Candidate
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.embedded import EmbeddedRedis
from connectbot.entries import Batch, Entry
from connectbot.errors import FenceLost, Later, Never
from connectbot.events import Event, encode, new_event
from connectbot.integration.site import Site
from connectbot.java.circuit_breaker import State
from connectbot.listener import Message
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from connectbot.testing.matching_service import MatchingService
from connectbot.tracing.trace import BUCKETS, STEPS_A_BUCKET, Tracer
from tasks.batch_run import BatchRun
from tasks.work import Handler, Work
from tests.redis_acl import with_role
from tests.support import ROOT, Worker, environment, wait_until
from worker.cli import connectbot

IMPATIENT: dict[str, Any] = {
    "breaker_minimum_number_of_calls": 100,
    "breaker_wait_duration_seconds": 0.5,
    "java_service_timeout_seconds": 2,
}


@pytest.fixture
def service() -> Iterator[MatchingService]:
    with MatchingService() as service:
        yield service


@pytest.fixture
def settings(redis_url: str, service: MatchingService) -> Settings:
    return Settings(redis_url=redis_url, java_service_url=service.url, trace="1", **IMPATIENT)


@pytest.fixture(autouse=True)
def the_command_uses_this_redis(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def told(id_: str) -> dict[str, Any]:
    """What the command says of an event."""
    done = CliRunner().invoke(connectbot, ["events", "trace", id_, "--json"])
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.output)
    return answer


def whats(id_: str) -> list[str]:
    return [step["what"] for step in told(id_)["steps"]]


def login(user_id: int = 7, *, event_id: str | None = None) -> Event:
    channel = f"connectbot:user:{user_id}"
    return new_event("user.login", {"user": {"id": user_id}}, channel=channel, user_id=user_id, event_id=event_id)


class InlineLane:
    """The lane default, worked on in this process by a handler."""

    def __init__(self, ours: Clients, *, name: str = "here") -> None:
        self._ours = ours
        self.name = name
        ours.stream.register("default", name, lease_seconds=60)

    def read(self) -> list[Entry]:
        return self._ours.stream.read("default", self.name, limit=100, wait_seconds=0.01)

    def run(self, handle: Handler) -> None:
        if entries := self.read():
            types = tuple({entry.type for entry in entries})
            batch = Batch("default", self.name, types, entries[0].id, entries[-1].id, len(entries))
            BatchRun(self._ours, batch, Work(handle)).run()


@pytest.fixture
def lane(ours: Clients) -> InlineLane:
    return InlineLane(ours)


def nothing_to_do(ours: Clients, received: Any) -> Effects:
    return Effects()


# --- the whole way --------------------------------------------------------------------------------------


def command(settings: Settings, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", "events", "trace", *arguments],
        env={**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_event_delayed_twice_parked_retried_and_done_shows_all_of_it(
    ours: Clients, settings: Settings, service: MatchingService, embedded_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    employees = [{"id": id_, "department": f"d{id_ % 2}", "email": "secret-marker"} for id_ in (1, 2)]
    asked = new_event(
        "matching.request",
        {"users": [1, 2], "employees": employees, "request_id": "r1"},
        channel="connectbot:service:matching",
        event_id="the-event",
    )
    service.switch(status=503, retry_after="1")
    keys, breaker = settings.keys, ours.java_gate.breaker
    with Worker(settings, tmp_path, lanes=["java"]) as worker:
        worker.wait_ready()
        ours.publisher.publish(asked)
        wait_until(lambda: service.calls.shown()["requests"] == 2, deadline_seconds=20, what="two calls")
        wait_until(lambda: ours.redis.zcard(keys.delayed("java")), deadline_seconds=10, what="the second delay")
        breaker.turn(State.FORCED_OPEN)
        assert [place["where"] for place in told("the-event")["now"]][-1] == "delayed"
        wait_until(lambda: ours.redis.zcard(keys.parked("java")), deadline_seconds=10, what="the event parked")
        assert [place["where"] for place in told("the-event")["now"]][-1] == "parked"
        service.switch(status=0)
        breaker.turn(State.HALF_OPEN)
        results = lambda: ours.temp_data.get("matching_results", "r1")  # noqa: E731
        wait_until(results, deadline_seconds=20, what="the answer")

    operator = replace(settings, redis_url=with_role(embedded_redis.url, "operator"))
    readable, shown = command(operator, "the-event"), json.loads(command(operator, "the-event", "--json"))
    print(readable)
    steps = shown["steps"]
    assert [step["what"] for step in steps] == [
        "published", "entered", "delivered", "called", "delayed",
        "released", "delivered", "called", "delayed",
        "released", "delivered", "parked",
        "released", "delivered", "called", "done",
    ]  # fmt: skip
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)
    published, entered = steps[:2]
    assert (published["channel"], published["source"]) == ("connectbot:service:matching", "django-connectbot")
    assert published["by"].endswith(f":{os.getpid()}")
    calls = [step for step in steps if step["what"] == "called"]
    assert [(call["operation"], call["status"], call["try"]) for call in calls] == [
        ("secret_coffee", 503, 1), ("secret_coffee", 503, 2), ("secret_coffee", 200, 4),
    ]  # fmt: skip
    assert all(0 < call["seconds"] < 2 for call in calls)
    delays = [step for step in steps if step["what"] == "delayed"]
    assert [delay["error"] for delay in delays] == ["unavailable", "unavailable"]
    assert all(delay["until"] > delay["at"] for delay in delays)
    (parked,) = (step for step in steps if step["what"] == "parked")
    assert parked["error"] == "circuit_open"
    assert [step["after"] for step in steps if step["what"] == "released"] == ["delayed", "delayed", "parked"]
    deliveries = [step for step in steps if step["what"] == "delivered"]
    assert [one["deliveries"] for one in deliveries] == [1, 1, 1, 1]
    assert {one["consumer"].partition("@")[0] for one in deliveries} == {"java.worker"}
    assert len({one["entry"] for one in deliveries}) == 4
    assert {place["where"] for place in shown["now"]} <= {"finished", "waiting"}
    assert shown["note"] == ""

    for what in ("published", "entered", "delivered", "called", "delayed", "parked", "released", "done"):
        assert f"  {what} " in readable
    assert readable.count("HTTP 503") == 2
    assert "circuit_open" in readable
    assert "secret-marker" not in readable + json.dumps(shown)
    by_entries = [json.loads(command(operator, id_, "--json")) for id_ in (entered["entry"], deliveries[-1]["entry"])]
    assert [(one["id"], one["steps"]) for one in by_entries] == [("the-event", steps)] * 2


# --- each step on its own -------------------------------------------------------------------------------


def test_a_failure_is_delayed_with_its_kind_and_in_the_end_dead(ours: Clients, settings: Settings) -> None:
    ours = replace(ours, settings=replace(settings, max_attempts=2))
    lane = InlineLane(ours)
    ours.publisher.publish(login(event_id="bad"), login(event_id="good"))

    def fail_on_bad(_: Clients, received: Any) -> Effects:
        if any(one.event.id == "bad" for one in received):
            raise ZeroDivisionError("secret-marker")
        return Effects()

    lane.run(fail_on_bad)
    ours.stream.release_delayed("default", limit=10, ahead_seconds=60)
    lane.run(fail_on_bad)
    assert whats("good") == ["published", "entered", "delivered", "done"]
    bad = told("bad")
    assert [step["what"] for step in bad["steps"]] == [
        "published", "entered", "delivered", "delayed", "released", "delivered", "dead",
    ]  # fmt: skip
    dead = bad["steps"][-1]
    assert (dead["reason"], dead["attempts"]) == ("attempts_exhausted", 2)
    assert re.fullmatch(r"ZeroDivisionError at test_trace\.py:\d+ in fail_on_bad", dead["error"])
    (place,) = (place for place in bad["now"] if place["where"] == "dead")
    assert place["reason"] == "attempts_exhausted"
    assert told(place["letter"])["steps"] == bad["steps"], "a dead letter's id will do"
    assert "secret-marker" not in json.dumps(bad)


def test_a_dead_letter_that_is_replayed_says_so(ours: Clients, lane: InlineLane) -> None:
    ours.publisher.publish(login(event_id="bad"))

    def refuse(_: Clients, received: Any) -> Effects:
        raise Never("refused")

    lane.run(refuse)
    done = CliRunner().invoke(connectbot, ["dead", "replay", "--all"])
    assert done.exit_code == 0, done.output
    lane.run(nothing_to_do)
    assert whats("bad") == ["published", "entered", "delivered", "dead", "replayed", "delivered", "done"]


def test_an_event_that_kills_its_process_dies_with_that_reason(
    ours: Clients, settings: Settings, tmp_path: Path
) -> None:
    settings = replace(settings, batch_time_limit_seconds=2)
    data = {"user": {"id": 7}, "poison": "exit"}
    ours.publisher.publish(new_event("user.created", data, channel="connectbot:global", event_id="poison"))
    with Worker(settings, tmp_path, lanes=["default"], app="tests.poisoned_app") as worker:
        worker.wait_ready()
        wait_until(lambda: ours.redis.xlen(settings.keys.dead), deadline_seconds=60, what="the dead letter")
    shown = told("poison")
    assert [step["what"] for step in shown["steps"]] == ["published", "entered", "dead"]
    dead = shown["steps"][-1]
    assert (dead["reason"], dead["deliveries"]) == ("killed_its_process", 3)
    assert dead["consumer"].startswith("default.worker")
    assert "killed_its_process" in CliRunner().invoke(connectbot, ["events", "trace", "poison"]).output


def test_work_whose_commit_is_refused_leaves_no_step(ours: Clients, lane: InlineLane) -> None:
    ours.publisher.publish(login(event_id="one"))

    def lose_the_fence(_: Clients, received: Any) -> Effects:
        ours.redis.hdel(ours.settings.keys.fences("default"), lane.name)
        return Effects()

    with pytest.raises(FenceLost):
        lane.run(lose_the_fence)
    assert whats("one") == ["published", "entered"]


def test_what_was_taken_over_tells_how_often_it_was_delivered(ours: Clients, lane: InlineLane) -> None:
    ours.publisher.publish(login(event_id="one"))
    (entry,) = lane.read()
    (now,) = (place for place in told("one")["now"] if place["lane"] == "default")
    assert (now["where"], now["consumer"], now["deliveries"]) == ("pending", lane.name, 1)
    ours.redis.delete(ours.settings.keys.lease(lane.name))
    heir = InlineLane(ours, name="heir")
    ours.stream.take_over("default", "heir", limit=10)
    batch = Batch("default", heir.name, (entry.type,), entry.id, entry.id, 1, (entry.id,))
    BatchRun(ours, batch, Work(nothing_to_do)).run()
    (delivered,) = (step for step in told("one")["steps"] if step["what"] == "delivered")
    assert (delivered["consumer"], delivered["deliveries"]) == ("heir", 2)


def test_v21s_events_come_through_the_bridge(ours: Clients, lane: InlineLane) -> None:
    admission = Admission(ours.redis, ours.settings.keys, room=100, tracer=ours.tracer)
    texts = [encode(replace_via(login(event_id=id_))) for id_ in ("one", "two")]
    heard = [Candidate.of(Message(b"connectbot:user:7", text)) for text in [*texts, b"no JSON", texts[0]]]
    admitted = admission.admit([one for one in heard if one])
    assert (admitted.events, admitted.malformed) == (2, 1)
    lane.run(nothing_to_do)
    for id_ in ("one", "two"):
        steps = told(id_)["steps"]
        assert [step["what"] for step in steps] == ["entered", "delivered", "done"]
        assert steps[0]["through"] == "bridge"
        assert steps[0]["by"].endswith(f":{os.getpid()}")


def replace_via(event: Event) -> Event:
    """The event as v21 publishes it."""
    return Event(
        **{name: getattr(event, name) for name in event.__struct_fields__ if name not in ("via", "specversion")}
    )


def test_what_somebody_adds_to_the_stream_entered_directly(ours: Clients, lane: InlineLane) -> None:
    ours.redis.xadd(ours.settings.keys.events, {"event": encode(replace_via(login(event_id="one")))})
    assert whats("one") == ["entered"]
    lane.run(nothing_to_do)
    steps = told("one")["steps"]
    assert [step["what"] for step in steps] == ["entered", "delivered", "done"]
    assert steps[0]["through"].startswith("directly")


@pytest.mark.parametrize("spool", [False, True])
def test_the_sites_events_are_traced_with_a_spool_and_without(
    settings: Settings, embedded_redis: EmbeddedRedis, tmp_path: Path, spool: bool
) -> None:
    settings = replace(settings, redis_url=with_role(embedded_redis.url, "publisher"), max_backlog=1, stream_keep=1)
    site = Site(replace(settings, spool=str(tmp_path / "spool") if spool else ""))
    try:
        assert site.publish("it", lambda keys: login(event_id="one"))
        assert site.publish("it", lambda keys: login(event_id="two")), "a step takes no room in the stream of events"
    finally:
        site.close()
    assert whats("one")[0] == "published"


# --- off, and bounded -----------------------------------------------------------------------------------


def test_off_nothing_is_written_and_the_command_says_how_to_switch_it_on(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTBOT_TRACE", "off")
    ours = Clients.open(Settings(redis_url=redis_url))
    ours.stream.ensure_lanes(["default"])
    lane = InlineLane(ours)
    ours.publisher.publish(login(event_id="one"))

    def put_off(_: Clients, received: Any) -> Effects:
        raise Later("not_yet", delay_seconds=60)

    assert [place["where"] for place in told("one")["now"]] == ["waiting"]
    lane.run(put_off)
    assert list(ours.redis.scan_iter("connectbot:trace:*")) == []
    one = told("one")
    assert [step["what"] for step in one["steps"]] == ["entered"]
    assert one["note"].startswith("Tracing is off: ")
    assert "CONNECTBOT_TRACE" in one["note"]
    assert [place["where"] for place in one["now"]] == ["finished", "delayed"]
    assert told(one["steps"][0]["entry"]) == one
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\S+\+00:00", one["now"][1]["until"])
    unknown = CliRunner().invoke(connectbot, ["events", "trace", "nobody"])
    assert unknown.exit_code == 1
    assert "nothing is known of nobody" in unknown.output
    assert "CONNECTBOT_TRACE" in unknown.output
    ours.redis.close()


def test_every_process_follows_the_same_share_of_events(ours: Clients, lane: InlineLane) -> None:
    some = replace(ours, tracer=Tracer(ours.settings.keys, 0.25))
    lane = InlineLane(some)
    some.publisher._tracer = some.tracer
    events = [login(number, event_id=f"event-{number}") for number in range(100)]
    some.publisher.publish(*events)
    lane.run(nothing_to_do)
    followed = [event.id for event in events if Tracer(ours.settings.keys, 0.25).follows(event.id)]
    kept = [event.id for event in events if some.tracer.read(ours.redis, event.id)]
    assert kept == followed
    assert 5 < len(followed) < 50
    assert all(len(some.tracer.read(ours.redis, id_)) == 2 for id_ in followed)


def test_a_trace_is_capped_and_expires(ours: Clients, lane: InlineLane, client: RedisClient) -> None:
    ours.publisher.publish(login(event_id="one"))

    def put_off(_: Clients, received: Any) -> Effects:
        raise Later("not_yet", delay_seconds=0, counted=False)

    for _ in range(STEPS_A_BUCKET + 200):
        lane.run(put_off)
        ours.stream.release_delayed("default", limit=10, ahead_seconds=60)
    (key,) = ours.redis.scan_iter("connectbot:trace:*")
    assert STEPS_A_BUCKET <= ours.redis.xlen(key) <= STEPS_A_BUCKET + 100
    assert 0 < ours.redis.ttl(key) <= 8 * 86_400
    assert client.memory_usage(key) * BUCKETS < 100 * 2**20
    assert len(told("one")["steps"]) > STEPS_A_BUCKET


def test_a_trace_that_cannot_be_written_holds_nothing_up(ours: Clients, lane: InlineLane) -> None:
    bucket, _ = ours.tracer.admitting(login(event_id="one"))
    ours.redis.set(bucket, "no stream")
    ours.publisher.publish(login(event_id="one"))
    lane.run(nothing_to_do)
    assert ours.redis.xpending(ours.settings.keys.events, "default")["pending"] == 0


def test_an_entry_that_was_trimmed_is_found_by_its_trace(ours: Clients, lane: InlineLane) -> None:
    ours.publisher.publish(login(event_id="one"))
    lane.run(nothing_to_do)
    entry = told("one")["steps"][1]["entry"]
    ours.redis.xtrim(ours.settings.keys.events, maxlen=0)
    one = told(entry)
    assert (one["id"], one["type"], one["now"]) == ("one", "user.login", [])
    assert [step["what"] for step in one["steps"]] == ["published", "entered", "delivered", "done"]


def test_the_search_is_bounded(ours: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectbot.tracing.whereabouts.SEARCHED", 60)
    numbers = count()
    ours.publisher.publish(*[login(event_id=f"event-{next(numbers)}") for _ in range(200)])
    off = Tracer(ours.settings.keys, 0.0)
    monkeypatch.setattr("worker.commands.trace.opened", lambda: replace(ours, tracer=off))
    assert told("event-199")["id"] == "event-199"
    for key in ours.redis.scan_iter("connectbot:trace:*"):
        ours.redis.delete(key)
    assert CliRunner().invoke(connectbot, ["events", "trace", "event-0"]).exit_code == 1
