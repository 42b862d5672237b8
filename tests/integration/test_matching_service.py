"""Both stand-ins for the Java service keep the contract, and misbehave as they are told."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import urllib3

from connectbot.testing.matching_rules import Asked, pair
from connectbot.testing.matching_switches import Switches
from tests.support import ROOT, wait_until

EXAMPLES = ROOT / "examples" / "matching-service"
COMMANDS = {
    "python": [sys.executable, "-m", "connectbot.testing.matching_service"],
    "java": ["java", str(EXAMPLES / "MatchingService.java")],
}

HEALTH = "/api/v1/matching/health"
SECRET_COFFEE = "/api/v1/matching/match/secret-coffee"
FROM_API = "/api/v1/matching/match/secret-coffee/from-api"
SIMPLE = "/api/matching/coffee/simple"
INTEREST = "/api/matching/coffee/interest"


def available(stand_in: str) -> list[str]:
    """The command of a stand-in. Without Java, its tests are skipped on a laptop and fail in CI."""
    command = COMMANDS[stand_in]
    if shutil.which(command[0]) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{command[0]} is not installed here: install Java 17 to run the Java stand-in too")
    return command


@contextmanager
def running(command: list[str], *options: str) -> Iterator[str]:
    """Run a stand-in in a process of its own, on any free port. Yields its address."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, "--port", "0", *options], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        try:
            line = process.stdout.readline()
            assert line.startswith("matching service on http://127.0.0.1:"), f"it said {line!r}"
            yield line.split()[-1]
        finally:
            process.kill()


class Caller:
    """A plain HTTP client, so that the stand-ins are not judged by the client that they are to judge."""

    def __init__(self, url: str) -> None:
        self.http = urllib3.PoolManager(retries=False, timeout=5)
        self.url = url

    def __call__(
        self, method: str, path: str, body: Any = None, *, text: bytes | None = None, timeout: float = 5, **headers: str
    ) -> tuple[int, Any]:
        response = self.http.request(
            method,
            self.url + path,
            body=text if text is not None or body is None else json.dumps(body).encode(),
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            timeout=timeout,
        )
        self.headers = response.headers
        return response.status, json.loads(response.data)

    def switch(self, **switches: Any) -> Any:
        status, shown = self("PUT", "/__switches", switches)
        assert status == 200, shown
        return shown

    def calls(self) -> Any:
        return self("GET", "/__calls")[1]


def employees(*ids_and_departments: tuple[int, str], **of_all: Any) -> list[dict[str, Any]]:
    return [{"id": id_, "department": department, **of_all} for id_, department in ids_and_departments]


def asking(people: list[dict[str, Any]]) -> dict[str, Any]:
    return {"requestId": "r-1", "algorithmParams": {"type": "coffee"}, "employees": people}


FOUR = asking(employees((1, "A"), (2, "A"), (3, "B"), (4, "B")))


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    with running(available(request.param)) as url:
        yield url


@pytest.fixture
def call(address: str) -> Iterator[Caller]:
    caller = Caller(address)
    caller("DELETE", "/__switches")
    wait_until(lambda: caller.calls()["in_flight"] == 0, deadline_seconds=10, what="earlier calls ended")
    caller("DELETE", "/__calls")
    yield caller
    caller.http.clear()


# --- the contract, on each stand-in -----------------------------------------------------------------------------


def test_health_is_ok_or_degraded(call: Caller) -> None:
    assert call("GET", HEALTH) == (200, {"status": "OK"})
    call.switch(degraded=True)
    assert call("GET", HEALTH) == (503, {"status": "DEGRADED"})
    call.switch(degraded=False, status=502)
    assert call("GET", HEALTH) == (503, {"status": "DEGRADED"})


def test_people_are_paired_across_departments(call: Caller) -> None:
    status, answer = call("POST", SECRET_COFFEE, FOUR)
    assert status == 200
    assert answer.pop("meta") is not None
    assert answer == {
        "requestId": "r-1", "status": "ok", "error": None, "algorithm": "cross_department",
        "pairs": [{"employee1_id": 1, "employee2_id": 3}, {"employee1_id": 2, "employee2_id": 4}],
        "unmatched_employees": [],
    }  # fmt: skip


def test_excluded_partners_do_not_meet_whoever_excludes_whom(call: Caller) -> None:
    one, two, three, four = FOUR["employees"]
    people = [{**one, "excluded_partners": [3]}, two, three, {**four, "excluded_partners": [2]}]
    _, answer = call("POST", SECRET_COFFEE, asking(people))
    assert answer["pairs"] == [{"employee1_id": 1, "employee2_id": 4}, {"employee1_id": 2, "employee2_id": 3}]


def test_the_odd_one_and_those_who_may_meet_nobody_stay_unmatched(call: Caller) -> None:
    people = [{"id": 9, "excluded_partners": [1, 2, 3]}, *employees((3, "A"), (2, "A"), (1, "A"))]
    _, answer = call("POST", SECRET_COFFEE, asking(people))
    assert answer["pairs"] == [{"employee1_id": 1, "employee2_id": 2}]
    assert answer["unmatched_employees"] == [3, 9]


def test_fields_that_are_optional_or_unknown_do_not_matter(call: Caller) -> None:
    people = [{"id": 1, "name": "Ж", "department": None, "excluded_partners": None}, {"id": 2, "preferences": {"a": 1}}]
    status, answer = call("POST", SECRET_COFFEE, {"employees": people, "more": [{}]}, X_Request_ID="r-2")
    assert (status, answer["requestId"]) == (200, "r-2")
    assert answer["pairs"] == [{"employee1_id": 1, "employee2_id": 2}]


@pytest.mark.parametrize(
    ("asked", "meet"),
    [
        ({"employeeIds": [7, 8]}, {7, 8}),
        ({"users": [8, 7]}, {7, 8}),
        ({"employeeIds": []}, {1, 2, 3, 4, 5, 6}),
        ({"anything": True}, {1, 2, 3, 4, 5, 6}),
    ],
)
def test_from_api_the_service_fetches_the_employees_itself(call: Caller, asked: Any, meet: set[int]) -> None:
    status, answer = call("POST", FROM_API, asked)
    assert status == 200
    assert {one for both in answer["pairs"] for one in both.values()} == meet


def test_the_older_calls_take_a_bare_list(call: Caller) -> None:
    people = employees((1, "A"), (2, "A"), (3, "B"))
    status, answer = call("POST", SIMPLE, people)
    assert (status, answer["pairs"], answer["unmatched_employees"]) == (200, [ids(1, 2)], [3])


def test_the_older_call_by_interest_pairs_those_who_share_it(call: Caller) -> None:
    people = [{"id": 1, "interests": ["го & шахматы"]}, {"id": 2}, {"id": 3, "interests": ["x", "го & шахматы"]}]
    path = INTEREST + "?interest=%D0%B3%D0%BE+%26%20%D1%88%D0%B0%D1%85%D0%BC%D0%B0%D1%82%D1%8B&more=1"
    status, answer = call("POST", path, people)
    assert (status, answer["pairs"], answer["unmatched_employees"]) == (200, [ids(1, 3)], [2])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (SECRET_COFFEE, b'{"employees": []}'),
        (SECRET_COFFEE, b"{}"),
        (SECRET_COFFEE, b"[]"),
        (SECRET_COFFEE, b""),
        (SECRET_COFFEE, b"{"),
        (SECRET_COFFEE, b'{"employees": [{"id": 1}]} x'),
        (SECRET_COFFEE, b'{"employees": [{"id": "1"}]}'),
        (SECRET_COFFEE, b'{"employees": [1]}'),
        (SECRET_COFFEE, b'{"employees": [{"id": 1, "excluded_partners": 2}]}'),
        (SECRET_COFFEE, b"[" * 100_000),
        (FROM_API, b"[]"),
        (FROM_API, b'{"employeeIds": ["a"]}'),
        (SIMPLE, b"[]"),
        (SIMPLE, b'{"employees": [{"id": 1}]}'),
        (INTEREST, b'[{"id": 1}]'),
    ],
)
def test_a_request_that_cannot_be_used_is_a_bad_request(call: Caller, path: str, text: bytes) -> None:
    status, answer = call("POST", path, text=text)
    assert (status, answer["status"], answer["error"].partition(":")[0]) == (400, "error", "bad_request")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [("GET", "/", 404), ("POST", "/api/v1/matching/tournament", 404), ("GET", SIMPLE, 405), ("POST", HEALTH, 405)],
)
def test_other_calls_do_not_exist(call: Caller, method: str, path: str, expected: int) -> None:
    status, answer = call(method, path, {} if method == "POST" else None)
    assert (status, answer["status"]) == (expected, "error")


def test_the_same_key_gets_the_same_answer_again(call: Caller) -> None:
    first = call("POST", SECRET_COFFEE, FOUR, Idempotency_Key="k-1")
    call.switch(pair_shape="objects")
    assert call("POST", SECRET_COFFEE, FOUR, Idempotency_Key="k-1") == first
    assert call("POST", SECRET_COFFEE, FOUR, Idempotency_Key="k-2") != first
    calls = call.calls()
    assert [(known["key"], known["count"], known["answered"]) for known in calls["calls"]] == [
        ("k-1", 2, True),
        ("k-2", 1, True),
    ]
    assert (calls["requests"], calls["repeated"], calls["in_flight"]) == (3, 1, 0)


def test_calls_without_a_key_have_nothing_in_common(call: Caller) -> None:
    assert call("POST", SECRET_COFFEE, FOUR)[1]["algorithm"] == "cross_department"
    assert call("POST", SIMPLE, FOUR["employees"])[1]["algorithm"] == "simple"
    assert call.calls()["repeated"] == 0


def test_a_failure_is_not_remembered_as_the_answer(call: Caller) -> None:
    call.switch(status=500)
    assert call("POST", SECRET_COFFEE, FOUR, Idempotency_Key="k")[0] == 500
    assert not call.calls()["calls"][0]["answered"]
    call.switch(status=0)
    assert call("POST", SECRET_COFFEE, FOUR, Idempotency_Key="k")[0] == 200


def test_it_tells_what_came_but_not_the_token(call: Caller) -> None:
    call.switch(token="t0p-secret")
    call("POST", SECRET_COFFEE, FOUR, Idempotency_Key="k", X_Request_ID="x-1", traceparent="00-ab-cd-01",
         Authorization="Service t0p-secret")  # fmt: skip
    (known,) = call.calls()["calls"]
    assert known.pop("first_at") > 1_700_000_000
    assert known == {
        "key": "k", "count": 1, "path": SECRET_COFFEE, "request_id": "r-1", "answered": True,
        "headers": {"x-request-id": "x-1", "traceparent": "00-ab-cd-01", "authorization": "Service"},
    }  # fmt: skip
    assert "t0p-secret" not in json.dumps([call.calls(), call("GET", "/__switches")])


def test_a_required_token_is_required(call: Caller) -> None:
    call.switch(token="t")
    assert call("POST", SECRET_COFFEE, FOUR)[0] == 401
    assert call("POST", SECRET_COFFEE, FOUR, Authorization="Bearer t")[0] == 401
    assert call("POST", SECRET_COFFEE, FOUR, Authorization="Service t")[0] == 200
    assert call("GET", HEALTH)[0] == 200


# --- switches, on each stand-in ---------------------------------------------------------------------------------


def test_pairs_come_in_both_shapes_and_the_unmatched_may_be_missing(call: Caller) -> None:
    call.switch(pair_shape="objects", list_unmatched=False)
    _, answer = call("POST", SECRET_COFFEE, asking(employees((1, "A"), (2, "B"), (3, "B"))))
    (both,) = answer["pairs"]
    assert (both["employee1"]["id"], both["employee2"]["id"]) == (2, 1)
    assert "unmatched_employees" not in answer


@pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 502, 503, 504])
def test_a_status_is_answered_with_its_retry_after(call: Caller, status: int) -> None:
    call.switch(status=status, retry_after="7")
    assert call("POST", SECRET_COFFEE, FOUR)[0] == status
    assert call.headers["Retry-After"] == "7"


def test_an_error_rate_is_spread_evenly(call: Caller) -> None:
    call.switch(error_rate=0.25)
    statuses = [call("POST", SECRET_COFFEE, FOUR)[0] for _ in range(8)]
    assert statuses == [200, 200, 200, 500] * 2
    call.switch(error_rate=1, status=502)
    assert call("POST", SECRET_COFFEE, FOUR)[0] == 502


def test_it_hangs_until_it_is_told_not_to(call: Caller) -> None:
    call.switch(hang=True)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        call("POST", SECRET_COFFEE, FOUR, timeout=0.2)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        call("GET", HEALTH, timeout=0.2)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(call, "POST", SECRET_COFFEE, FOUR)
        wait_until(lambda: call.calls()["in_flight"] >= 2, deadline_seconds=5, what="two calls that hang")
        call.switch(hang=False)
        with pytest.raises(urllib3.exceptions.ProtocolError):
            waiting.result()
    assert call("POST", SECRET_COFFEE, FOUR)[0] == 200


def test_half_an_answer_ends_with_the_connection(call: Caller) -> None:
    call.switch(half=True)
    with pytest.raises(urllib3.exceptions.ProtocolError, match="IncompleteRead"):
        call("POST", SECRET_COFFEE, FOUR)


def test_wrong_json_is_not_json(call: Caller) -> None:
    call.switch(wrong_json=True)
    with pytest.raises(json.JSONDecodeError):
        call("POST", SECRET_COFFEE, FOUR)


def test_an_error_may_come_with_http_200(call: Caller) -> None:
    call.switch(error="data_api_failed")
    status, answer = call("POST", SECRET_COFFEE, FOUR)
    assert (status, answer["status"], answer["error"], answer["requestId"]) == (200, "error", "data_api_failed", "r-1")


def test_latency_is_waited_for(call: Caller) -> None:
    call.switch(latency_ms=1000)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        call("POST", SECRET_COFFEE, FOUR, timeout=0.1)
    call.switch(latency_ms=1)
    assert call("POST", SECRET_COFFEE, FOUR)[0] == 200


@pytest.mark.parametrize(
    "switches",
    [{"speed": 1}, {"hang": 1}, {"status": "503"}, {"status": None}, {"status": 1.5}, {"pair_shape": "circle"}, [], 5],
)
def test_a_switch_that_does_not_exist_or_fit_is_refused(call: Caller, switches: Any) -> None:
    before = call("GET", "/__switches")
    status, answer = call("PUT", "/__switches", switches)
    assert (status, answer["status"]) == (400, "error")
    assert call("GET", "/__switches") == before


@pytest.mark.parametrize("stand_in", sorted(COMMANDS))
def test_switches_are_options_too_and_a_reset_returns_to_them(stand_in: str) -> None:
    options = ["--latency-ms", "1", "--error-rate=0.5", "--pair-shape", "objects", "--no-list-unmatched", "--degraded"]
    with running(available(stand_in), *options, "--token", "a=b") as url:
        call = Caller(url)
        status, shown = call("GET", "/__switches")
        assert status == 200
        assert shown == {
            "latency_ms": 1, "status": 0, "error_rate": 0.5, "retry_after": "", "hang": False, "half": False,
            "wrong_json": False, "error": "", "pair_shape": "objects", "list_unmatched": False, "degraded": True,
            "token": "***",
        }  # fmt: skip
        assert call.switch(error_rate=0, status=503)["status"] == 503
        assert call("DELETE", "/__switches") == (status, shown)
        assert call("POST", SECRET_COFFEE, FOUR, Authorization="Service a=b")[0] == 200
        call.http.clear()


def said_when_it_ended(stand_in: str, *options: str) -> tuple[int, str]:
    command, environment = available(stand_in), {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([*command, *options], capture_output=True, text=True, env=environment, check=False)
    assert "Traceback" not in ended.stderr
    assert "\tat " not in ended.stderr  # a trace of Java's
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("stand_in", sorted(COMMANDS))
@pytest.mark.parametrize("options", ["--speed 1", "--pair-shape circle", "--latency-ms soon", "--error"])
def test_options_that_cannot_be_used_end_it_at_once(stand_in: str, options: str) -> None:
    assert said_when_it_ended(stand_in, *options.split())[0] == 2


@pytest.mark.parametrize("stand_in", sorted(COMMANDS))
def test_an_address_in_use_ends_it_at_once(stand_in: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, said = said_when_it_ended(stand_in, "--port", str(taken.getsockname()[1]))
    assert status == 1
    assert "choose another --port" in said


def test_the_readme_explains_each_switch() -> None:
    named = re.findall(r"^\| `(\w+)` \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert named == [field.name for field in dataclasses.fields(Switches)]


def test_the_example_for_machines_without_java_runs() -> None:
    with running([sys.executable, str(EXAMPLES / "matching_service.py")]) as url:
        call = Caller(url)
        assert call("GET", HEALTH)[0] == 200
        call.http.clear()


# --- under load, on each stand-in -------------------------------------------------------------------------------


def test_a_connection_serves_many_calls(call: Caller) -> None:
    pool: Any = call.http.connection_from_url(call.url).pool
    ports = set()
    for status in (0, 503, 400, 0):
        call.switch(status=status)
        call("POST", SECRET_COFFEE, FOUR)
        call("GET", "/nowhere")
        ports.add(pool.queue[-1].sock.getsockname())
    assert len(ports) == 1


def test_many_connections_are_served_at_once(call: Caller) -> None:
    call.switch(latency_ms=50)
    gate = threading.Barrier(40)

    def one(number: int) -> list[int]:
        gate.wait()
        return [call("POST", SECRET_COFFEE, FOUR, Idempotency_Key=f"{number}-{at}")[0] for at in range(3)]

    call.http = urllib3.PoolManager(retries=False, timeout=30, maxsize=40)
    with ThreadPoolExecutor(40) as threads:
        assert list(threads.map(one, range(40))) == [[200] * 3] * 40
    calls = call.calls()
    assert (calls["requests"], calls["repeated"], calls["in_flight"]) == (120, 0, 0)
    assert 8 < calls["most_in_flight"] <= 40


def test_both_stand_ins_pair_alike_and_rightly(call: Caller) -> None:
    chance = random.Random(21)
    for size in (1, 2, 3, 5, 8, 13, 40, 300):
        people: list[dict[str, Any]] = [
            {
                "id": id_,
                "department": chance.choice(["A", "B", "Ж", ""]),
                "excluded_partners": chance.sample(range(size), chance.randrange(min(4, size))),
            }
            for id_ in chance.sample(range(size), size)
        ]
        expected = pair(Asked(people, []))
        _, answer = call("POST", SECRET_COFFEE, asking(people))
        assert answer["pairs"] == [ids(one["id"], other["id"]) for one, other in expected.pairs]
        assert answer["unmatched_employees"] == [one["id"] for one in expected.unmatched]
        named = [one for both in answer["pairs"] for one in both.values()] + answer["unmatched_employees"]
        assert sorted(named) == list(range(size))
        excluded = {(one["id"], other) for one in people for other in one["excluded_partners"]}
        assert not any(tuple(both.values()) in excluded for both in answer["pairs"])
        assert not any(tuple(both.values())[::-1] in excluded for both in answer["pairs"])


def ids(one: int, other: int) -> dict[str, int]:
    return {"employee1_id": one, "employee2_id": other}
