"""Asking for a matching and waiting for it, as a Django view or a bot handler does."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import connectbot
from connectbot import request_matching, request_matching_async
from connectbot.clients import Clients
from connectbot.errors import MatchingFailed, MatchingUnanswered, RedisUnavailable
from connectbot.integration.site import default_site
from connectbot.java.circuit_breaker import State
from connectbot.java_service import Employee
from connectbot.listener import Listener
from connectbot.matching.caller import MatchingCaller
from connectbot.matching.contract import MatchingResult
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from connectbot.testing.matching_service import MatchingService
from tasks import matching
from tests.support import Worker, environment, wait_until
from worker.commands.java import java


@pytest.fixture
def service() -> Iterator[MatchingService]:
    with MatchingService() as service:
        yield service


@pytest.fixture
def settings(redis_url: str, service: MatchingService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The settings of this process too: `request_matching` reads the environment."""
    settings = Settings(redis_url=redis_url, java_service_url=service.url)
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    default_site.close()
    yield settings
    default_site.close()


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Worker]:
    with Worker(settings, tmp_path, lanes=["java"]) as worker:
        worker.wait_ready()
        yield worker


def test_a_caller_gets_the_typed_result(worker: Worker, service: MatchingService) -> None:
    alone = {"id": 3, "excluded_partners": [1, 2]}
    people = [Employee(id=1, department="a"), {"id": 2, "department": "b", "name": "N. N."}, alone]
    result = request_matching([1, 2, 3], employees=people, wait=10)
    assert [set(pair) for pair in result.pairs] == [{1, 2}]
    assert (result.unmatched, result.algorithm) == ((3,), "cross_department")
    again = request_matching([1, 2, 3], request_id=result.request_id, wait=5)
    assert again == result
    assert service.calls.shown()["requests"] == 1


def test_a_failure_has_its_reason(worker: Worker, service: MatchingService) -> None:
    service.switch(status=422)
    with pytest.raises(MatchingFailed) as failed:
        request_matching([1, 2], wait=10)
    assert failed.value.reason == "unprocessable"


def test_time_is_up_but_the_request_lives_on(worker: Worker, service: MatchingService) -> None:
    service.switch(latency_ms=1500)
    with pytest.raises(MatchingUnanswered, match="ask again with the same"):
        request_matching([1, 2], wait=0.2, request_id="r")
    assert issubclass(MatchingUnanswered, TimeoutError)
    assert request_matching([1, 2], wait=10, request_id="r").request_id == "r"
    assert service.calls.shown()["requests"] == 1


def asked(request_id: str) -> dict[str, Any]:
    return {"users": [1, 2], "type": "coffee", "employees": None, "request_id": request_id, "deadline": None}


def test_the_task_and_a_caller_publish_the_same_event(ours: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "clients", lambda: ours)
    caller = MatchingCaller(ours)
    caller.ask(asked("r"), answer := Future(), 10)
    caller.forget(asked("r"), answer)
    matching.request.run([1, 2], request_id="r")
    first, second = (json.loads(row[b"event"]) for _, row in ours.redis.xrange(ours.settings.keys.events))
    del first["timestamp"], second["timestamp"]
    assert first == second


def test_what_is_kept_in_another_form_does_not_keep_others_from_their_answers(
    ours: Clients, client: RedisClient
) -> None:
    caller, lonely, other = MatchingCaller(ours), Future[MatchingResult](), Future[MatchingResult]()
    caller.ask(asked("lonely"), lonely, 10)
    ours.temp_data.store("matching_results", "lonely", {"pairs": 5}, now=time.time())
    client.client_kill_filter(_type="pubsub")
    caller.ask(asked("other"), other, 10)
    completed = {"request_id": "other", "pairs": [], "unmatched": [1, 2], "algorithm": "none"}

    def answered() -> bool:
        ours.publisher.publish_microservice_event("matching", "matching.completed", completed)
        return other.done()

    wait_until(answered, deadline_seconds=10, what="the answer to the other")
    assert other.result().unmatched == (1, 2)
    assert not lonely.done()


def test_a_process_that_had_no_room_for_the_thread_starts_it_later(
    ours: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    caller = MatchingCaller(ours)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            caller.ask(asked("a"), Future(), 10)
    caller.ask(asked("b"), Future(), 10)
    assert ours.redis.xlen("connectbot:events") == 1


def test_a_caller_whose_settings_are_old_serves_who_waits_and_then_ends(ours: Clients) -> None:
    current = [True]
    caller, answer = MatchingCaller(ours, lambda: bool(current)), Future[MatchingResult]()
    caller.ask(asked("a"), answer, 10)
    current.clear()

    def answered() -> bool:
        ours.publisher.publish_microservice_event("matching", "matching.completed", {"request_id": "a"})
        return answer.done()

    wait_until(answered, deadline_seconds=10, what="the answer")
    assert caller._thread is not None
    caller.forget(asked("a"), answer)
    wait_until(lambda: caller._thread is None, deadline_seconds=10, what="the end of the thread")
    caller.ask(asked("b"), late := Future(), 10)
    caller.forget(asked("b"), late)


def test_who_comes_while_the_thread_ends_is_heard_of(ours: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    current, close = [True], Listener.close
    closing, go_on = threading.Event(), threading.Event()
    caller, answer, late = (
        MatchingCaller(ours, lambda: bool(current)),
        Future[MatchingResult](),
        Future[MatchingResult](),
    )

    def close_slowly(listener: Listener) -> None:
        close(listener)
        closing.set()
        go_on.wait(10)

    monkeypatch.setattr(Listener, "close", close_slowly)
    caller.ask(asked("a"), answer, 10)
    current.clear()
    caller.forget(asked("a"), answer)
    assert closing.wait(10)
    asking = threading.Thread(target=caller.ask, args=(asked("late"), late, 10))
    asking.start()
    wait_until(lambda: "late" in caller._waiting, deadline_seconds=10, what="somebody late")
    go_on.set()
    asking.join()
    ours.publisher.publish_microservice_event("matching", "matching.failed", {"request_id": "late", "reason": "bad"})
    assert isinstance(late.exception(10), MatchingFailed)
    caller.forget(asked("late"), late)


def test_many_callers_each_get_their_own_answer_and_redis_is_not_asked_again_and_again(
    ours: Clients, worker: Worker, service: MatchingService
) -> None:
    service.switch(latency_ms=300)

    def one(number: int) -> bool:
        result = request_matching([2 * number, 2 * number + 1], wait=20)
        return [set(pair) for pair in result.pairs] == [{2 * number, 2 * number + 1}]

    def reads() -> int:
        return int(ours.redis.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"])

    before = reads()
    with ThreadPoolExecutor(30) as threads:
        assert all(threads.map(one, range(30)))
    assert reads() - before <= 30 * 3 + 30 * 3, "a caller looks once or twice; the worker's own reads come on top"


def test_coroutines_wait_without_a_thread_each(worker: Worker) -> None:
    async def all_at_once() -> list[set[int]]:
        asked = (request_matching_async([2 * number, 2 * number + 1], wait=20) for number in range(100))
        return [set(result.pairs[0]) for result in await asyncio.gather(*asked)]

    before = threads_of_ours()
    assert asyncio.run(all_at_once()) == [{2 * number, 2 * number + 1} for number in range(100)]
    assert threads_of_ours() - before < 25


def threads_of_ours() -> int:
    """All but those of the stand-in, which runs in this process and has one for each connection."""
    return sum("process_request_thread" not in thread.name for thread in threading.enumerate())


def test_a_coroutine_hears_of_failure_and_of_time_being_up(worker: Worker, service: MatchingService) -> None:
    service.switch(status=400)
    with pytest.raises(MatchingFailed):
        asyncio.run(request_matching_async([1, 2], wait=10))
    service.switch(status=0, hang=True)
    with pytest.raises(MatchingUnanswered):
        asyncio.run(request_matching_async([1, 2], wait=0.2))
    service.switch(hang=False)


def test_who_asks_while_redis_is_gone_is_told_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")  # refuses
    default_site.close()
    begun = time.monotonic()
    with pytest.raises(RedisUnavailable, match="was not published"):
        request_matching([1, 2])

    async def many() -> list[object]:
        asking = (request_matching_async([at, at + 1]) for at in range(20))
        return await asyncio.gather(*asking, return_exceptions=True)

    assert {type(one) for one in asyncio.run(many())} == {RedisUnavailable}
    assert time.monotonic() - begun < 4


def test_who_asks_while_redis_hangs_waits_no_longer_than_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        default_site.close()
        begun = time.monotonic()
        with pytest.raises(RedisUnavailable):
            request_matching([1, 2], wait=0)
        assert time.monotonic() - begun < 4


def test_an_answer_told_while_nobody_could_listen_is_found(
    ours: Clients, settings: Settings, client: RedisClient
) -> None:
    answered = threading.Event()

    def answer_behind_their_back() -> None:
        wait_until(lambda: ours.redis.xlen("connectbot:events"), deadline_seconds=10, what="the request")
        data = {"request_id": "r", "pairs": [{"employee1_id": 1, "employee2_id": 2}], "unmatched": [], "algorithm": "x"}
        ours.temp_data.store("matching_results", "r", data, now=time.time())
        client.client_kill_filter(_type="pubsub")
        answered.set()

    thread = threading.Thread(target=answer_behind_their_back)
    thread.start()
    assert request_matching([1, 2], request_id="r", wait=10).algorithm == "x"
    thread.join()
    assert answered.is_set()


def test_a_failure_told_while_nobody_could_listen_is_found(ours: Clients, client: RedisClient) -> None:
    caller, answer = MatchingCaller(ours), Future[MatchingResult]()
    failed = {"request_id": "r", "reason": "deadline"}
    ours.temp_data.store("matching_failures", "r", failed, now=time.time())
    caller.ask(asked("r"), answer, 10)
    with pytest.raises(MatchingUnanswered):  # who asks again is not told of the time before
        caller.look_again(asked("r"), 0)
    ours.temp_data.store("matching_failures", "r", failed, now=time.time())
    with pytest.raises(MatchingFailed, match="deadline"):
        caller.look_again(asked("r"), 0)
    assert not answer.done()
    client.client_kill_filter(_type="pubsub")
    assert isinstance(answer.exception(10), MatchingFailed)
    caller.forget(asked("r"), answer)


def test_the_names_are_found_where_they_are_looked_for() -> None:
    assert {"request_matching", "request_matching_async", "enqueue"} <= set(connectbot.__all__)
    with pytest.raises(AttributeError):
        _ = connectbot.no_such_name  # type: ignore[attr-defined]


# --- connectbot java ------------------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, dict[str, object]]:
    done = CliRunner().invoke(java, [*arguments, "--json"])
    assert (done.exit_code == 0) == (not done.stderr), "who fails says why, and what to do"
    return done.exit_code, json.loads(done.stdout)


def test_an_operator_sees_and_turns_the_breaker(ours: Clients, settings: Settings, service: MatchingService) -> None:
    code, seen = run("status")
    assert (code, seen["state"], seen["parked"]) == (0, "closed", 0)
    code, seen = run("park")
    assert (code, seen["state"]) == (0, "forced_open")
    assert run("status")[0] == 1
    code, seen = run("release")
    assert (code, seen["state"]) == (0, "half_open")
    assert ours.java_gate.breaker.status().state == State.HALF_OPEN.value
    assert run("probe") == (0, {"well": True, "reason": "ok", "url": service.url})
    service.switch(degraded=True)
    assert run("probe") == (1, {"well": False, "reason": "unavailable", "url": service.url})
    shown = CliRunner().invoke(java, ["status"]).output
    assert "half_open" in shown
    assert "0.0 %" in shown


def test_many_who_ask_first_share_one_thread(settings: Settings) -> None:
    default_site.close()
    before, together = set(threading.enumerate()), threading.Barrier(12)

    def ask(n: int) -> None:
        together.wait()
        with pytest.raises(MatchingUnanswered):
            request_matching([n, n + 1], wait=0.1)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(ask, range(12)))
    listening = [one for one in set(threading.enumerate()) - before if one.name == "matching-caller"]
    assert len(listening) == 1
