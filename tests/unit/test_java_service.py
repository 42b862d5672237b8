"""What answers of the matching service mean, and which results are believed: no network here."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectbot.errors import JavaServiceError, JavaServiceRefused, JavaServiceUnavailable, SettingsError
from connectbot.java.answers import ANSWERS, LONGEST_RETRY_AFTER_SECONDS, check_status, explained, read_answer
from connectbot.java_service import OPERATIONS, Employee, JavaService, MatchingRequest, Pair
from connectbot.matching.contract import MatchingResult, read_result
from connectbot.settings import Settings

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def request(*users: int, employees: tuple[Employee, ...] | None = None) -> MatchingRequest:
    return MatchingRequest(request_id="r-1", users=users, employees=employees)


def answer(*pairs: Any, **fields: Any) -> dict[str, Any]:
    return {"requestId": "r-1", "status": "ok", "error": None, "algorithm": "a", "pairs": list(pairs), **fields}


def ids(one: Any, other: Any) -> dict[str, Any]:
    return {"employee1_id": one, "employee2_id": other}


def objects(one: Any, other: Any) -> dict[str, Any]:
    return {"employee1": {"id": one, "name": "N. N."}, "employee2": {"id": other}}


# --- results that are believed --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [ids, objects])
def test_both_shapes_of_a_pair_are_read(shape: Any) -> None:
    result = read_result(answer(shape(1, 2), shape(4, 3)), request(1, 2, 3, 4))
    assert result == MatchingResult(request_id="r-1", pairs=(Pair(1, 2), Pair(4, 3)), unmatched=(), algorithm="a")


def test_a_pair_may_carry_both_shapes_and_nulls_in_the_one_that_is_not_used() -> None:
    both = {**ids(1, 2), **objects(1, 2)}
    with_nulls = {**ids(None, None), **objects(3, 4)}
    assert read_result(answer(both, with_nulls), request(1, 2, 3, 4)).pairs == (Pair(1, 2), Pair(3, 4))


@pytest.mark.parametrize("listed", [{}, {"unmatched_employees": None}, {"unmatched_employees": [3]},
                                    {"unmatched_employees": [{"id": 3}, 5]}])  # fmt: skip
def test_people_missing_from_the_pairs_are_unmatched_whether_listed_or_not(listed: dict[str, Any]) -> None:
    assert read_result(answer(ids(1, 2), **listed), request(5, 1, 2, 3)).unmatched == (5, 3)


def test_a_missing_algorithm_and_unknown_fields_do_not_matter() -> None:
    given_answer = answer(ids(1, 2), algorithm=None, meta={"x": 1}, news=True)
    assert read_result(given_answer, request(1, 2)).algorithm == ""


# --- results that are not -------------------------------------------------------------------------------------

EXCLUDING = (Employee(id=1, excluded_partners=(2,)), Employee(id=2), Employee(id=3))


@pytest.mark.parametrize(
    ("given_answer", "says"),
    [
        (answer(ids(1, 2), ids(2, 3)), "for the second time"),
        (answer(ids(3, 3)), "for the second time"),
        (answer(ids(1, 3), unmatched_employees=[1]), "for the second time"),
        (answer(unmatched_employees=[1, 1]), "for the second time"),
        (answer(ids(1, 4)), "who was not asked for"),
        (answer(unmatched_employees=[{"id": 4}]), "who was not asked for"),
        (answer(ids(1, 2)), "excluded"),
        (answer(ids(2, 1)), "excluded"),
        (answer({"employee1_id": 1}), "does not say clearly"),
        (answer(ids(1, None)), "does not say clearly"),
        (answer({**ids(1, 3), **objects(1, 2)}), "does not say clearly"),
        (answer(ids("1", 3)), "wrong shape"),
        (answer(ids(True, 3)), "wrong shape"),
        (answer(ids(1.0, 3)), "wrong shape"),
        (answer([1, 3]), "wrong shape"),
        (answer(pairs=None), "wrong shape"),
        (answer(pairs="[]"), "wrong shape"),
        (answer(unmatched_employees=["1"]), "wrong shape"),
        (answer(status=None), "wrong shape"),
        (answer(status="pending"), "neither ok nor error"),
        ({"status": "ok"}, "wrong shape"),
        ({}, "wrong shape"),
    ],
)
def test_an_impossible_result_is_refused_with_its_fault(given_answer: dict[str, Any], says: str) -> None:
    with pytest.raises(JavaServiceRefused, match=says) as caught:
        read_result(given_answer, request(1, 2, 3, employees=EXCLUDING))
    assert caught.value.reason == "invalid_result"


people = st.integers(1, 6)
shapes = st.one_of(
    st.builds(ids, people, people),
    st.builds(objects, people, people),
    st.builds(lambda a, b, c, d: {**ids(a, b), **objects(c, d)}, people, people, people, people),
    st.builds(ids, people, st.none()),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 7) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["pairs", "status", "id"]), inner),
    max_leaves=8,
)
likely_answers = st.fixed_dictionaries(
    {"status": st.sampled_from(["ok", "OK", "error", 1]), "pairs": st.lists(shapes, max_size=4)},
    optional={
        "unmatched_employees": st.none() | st.lists(people | st.builds(lambda one: {"id": one}, people), max_size=3),
        "algorithm": st.none() | st.text(max_size=3) | st.integers(),
    },
)
employees = st.lists(
    st.builds(lambda one, others: Employee(id=one, excluded_partners=tuple(others)), people, st.lists(people)),
    max_size=5,
)


@given(likely_answers | anything, st.lists(people, max_size=6), employees)
@example(answer(ids(1, 2)), [1, 1, 2], [])
def test_no_answer_whatever_leads_to_an_impossible_result(
    given_answer: Any, users: list[int], known: list[Employee]
) -> None:
    asked = request(*users, employees=tuple(known))
    try:
        result = read_result(given_answer, asked)
    except JavaServiceRefused as fault:
        assert fault.reason == "invalid_result"  # noqa: PT017 - either way out is right
        return
    named = [*(one for pair in result.pairs for one in pair), *result.unmatched]
    assert sorted(named) == sorted(set(users or [employee.id for employee in known])), "everybody exactly once"
    excluded = {(employee.id, other) for employee in known for other in employee.excluded_partners}
    assert not any(tuple(pair) in excluded or tuple(pair)[::-1] in excluded for pair in result.pairs)


@given(st.permutations(range(1, 8)), st.integers(0, 3), st.sampled_from([ids, objects]), st.booleans())
def test_every_possible_result_is_read_as_it_was_meant(
    order: list[int], count: int, shape: Any, list_unmatched: bool
) -> None:
    pairs = [(order[2 * at], order[2 * at + 1]) for at in range(count)]
    left = order[2 * count :]
    listed = {"unmatched_employees": left} if list_unmatched else {}
    result = read_result(json.loads(json.dumps(answer(*(shape(*pair) for pair in pairs), **listed))), request(*order))
    assert [tuple(pair) for pair in result.pairs] == pairs
    assert result.unmatched == tuple(left)


# --- requests -------------------------------------------------------------------------------------------------


def test_users_say_who_is_asked_for_and_employees_what_is_known_of_them() -> None:
    asked = request(3, 1, 3, employees=(Employee(id=1), Employee(id=2), Employee(id=1, grade="LEAD")))
    assert asked.people == (3, 1)
    assert asked.known_people == (Employee(id=1, grade="LEAD"), Employee(id=3)), "nobody who was asked for is left out"
    assert request(3, 1, employees=(Employee(id=2),)).known_people == ()


def test_without_users_everybody_in_employees_is_asked_for() -> None:
    assert request(employees=EXCLUDING).people == (1, 2, 3)


def test_an_employee_is_read_from_little_and_written_as_the_contract_names_it() -> None:
    read = msgspec.convert({"id": 1, "department": None, "name": "N. N.", "excluded_partners": [2]}, Employee)
    assert msgspec.json.encode(read) == b'{"id":1,"excluded_partners":[2]}'


def test_an_employee_shows_nothing_but_the_id() -> None:
    assert repr(Employee(id=1, department="Legal", interests=("chess",))) == "Employee(id=1)"


def test_a_result_is_written_as_the_contract_names_it() -> None:
    result = read_result(answer(ids(1, 2)), request(1, 2, 3))
    assert json.loads(msgspec.json.encode(result)) == {
        "request_id": "r-1", "pairs": [{"employee1_id": 1, "employee2_id": 2}], "unmatched": [3], "algorithm": "a",
    }  # fmt: skip


# --- what an answer means -------------------------------------------------------------------------------------


def outcome(status: int = 200, body: bytes = b'{"status":"ok"}', **headers: str) -> JavaServiceError | None:
    try:
        with explained("a call"):
            check_status(status, {name.replace("_", "-"): value for name, value in headers.items()}, now=NOW)
            read_answer(body)
    except JavaServiceError as error:
        return error
    return None


@pytest.mark.parametrize("status", [row for row in ANSWERS if isinstance(row, int)])
def test_each_listed_status_means_what_the_table_says(status: int) -> None:
    error = outcome(status)
    kinds = {"done": type(None), "later": JavaServiceUnavailable, "never": JavaServiceRefused}
    assert type(error) is kinds[ANSWERS[status].verdict]
    if error:
        assert error.reason == ANSWERS[status].reason
        assert f"a call: HTTP {status}, " in str(error)


@pytest.mark.parametrize(
    ("status", "row"),
    [(201, 200), (302, 300), (418, 400), (451, 400), (507, 500), (100, "nonsense"), (999, "nonsense")],
)
def test_a_status_that_is_not_listed_means_what_its_hundred_means(status: int, row: int | str) -> None:
    error = outcome(status)
    assert (error.reason if error else "ok") == ANSWERS[row].reason


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 2026 12:01:30 GMT", 90.0),
        ("Thu, 01 Jan 2026 12:01:30 -0000", 90.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("999999999", LONGEST_RETRY_AFTER_SECONDS),
        ("Fri, 01 Jan 2100 00:00:00 GMT", LONGEST_RETRY_AFTER_SECONDS),
        ("-7", None),
        ("soon", None),
        ("1e9", None),
        ("٧", None),
        ("9" * 5000, None),
        ("Thu, 01 Jan 2026 00:00:00 +99999999999999999999", None),
        ("Thu, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    error = outcome(503, Retry_After=text)
    assert isinstance(error, JavaServiceUnavailable)
    assert error.retry_after_seconds == seconds


@given(st.text(st.characters(codec="latin-1"), max_size=40))
def test_no_retry_after_does_harm(text: str) -> None:
    error = outcome(503, Retry_After=text)
    assert isinstance(error, JavaServiceUnavailable)
    assert error.retry_after_seconds is None or 0 <= error.retry_after_seconds <= LONGEST_RETRY_AFTER_SECONDS


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'"ok"', b"{", b'{"a":1}x', b"<html>", b"\xff\xfe", b'{"a":"\xff"}', b"[" * 100_000],
)
def test_what_is_no_json_object_is_nonsense(body: bytes) -> None:
    error = outcome(200, body)
    assert isinstance(error, JavaServiceRefused)
    assert error.reason == "nonsense"


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("data_api_failed", JavaServiceUnavailable, "data_api_failed"),
        ("DATA_API_FAILED", JavaServiceUnavailable, "data_api_failed"),
        ("data_api_failed: connection refused", JavaServiceUnavailable, "data_api_failed"),
        ("not_enough_employees", JavaServiceRefused, "not_enough_employees"),
        # Words that the table uses for other things mean nothing here.
        ("timeout", JavaServiceRefused, "timeout"),
        ("error", JavaServiceRefused, "error"),
        ("Ivan Petrov <ivan@example.org> is on leave", JavaServiceRefused, "service_error"),
        ("a" * 65, JavaServiceRefused, "service_error"),
        ("two\nlines", JavaServiceRefused, "service_error"),
        ("", JavaServiceRefused, "service_error"),
        (None, JavaServiceRefused, "service_error"),
        ({"code": 1}, JavaServiceRefused, "service_error"),
    ],
)
def test_status_error_in_http_200_is_a_failure(text: Any, kind: type[JavaServiceError], reason: str) -> None:
    for status in ("error", "ERROR"):
        error = outcome(200, json.dumps({"status": status, "error": text, "pairs": []}).encode())
        assert type(error) is kind
        assert error.reason == reason
        assert "Ivan" not in str(error)


@pytest.mark.parametrize(
    ("verdict", "rows"),
    [
        ("later", [429, 502, 503, 504, "timeout", "connect_timeout", "connection_error", "error data_api_failed"]),
        ("later", [408, 425, 500, "incomplete_answer", "pool_timeout", "tls_error", "token_unreadable"]),
        ("never", [400, 401, 403, 404, 409, 422, 501, "error", "nonsense", "answer_too_large"]),
        ("never", ["unknown_operation", "bad_payload", "nobody_asked", "no_idempotency_key", 300]),
        ("done", [200]),
    ],
)
def test_the_table_decides_as_was_agreed(verdict: str, rows: list[int | str]) -> None:
    """Written down twice on purpose: a row that changes its verdict changes what happens to people's requests."""
    assert {row: ANSWERS[row].verdict for row in rows} == dict.fromkeys(rows, verdict)


def test_rows_are_told_apart_by_their_reasons() -> None:
    reasons = [meaning.reason for meaning in ANSWERS.values()]
    assert len(set(reasons)) == len(reasons)


# --- calls that are never made --------------------------------------------------------------------------------


@pytest.fixture
def nowhere() -> JavaService:
    """A client that fails with another reason as soon as it opens a connection."""
    return JavaService("http://127.0.0.1:1", timeout_seconds=1)


@pytest.mark.parametrize("name", ["", "http://elsewhere/", "../admin", "secret_coffee/../..", "Secret_Coffee"])
def test_an_event_cannot_name_an_address(nowhere: JavaService, name: str) -> None:
    with pytest.raises(JavaServiceRefused) as caught:
        nowhere.forward(name, {}, idempotency_key="k")
    assert caught.value.reason == "unknown_operation"


@pytest.mark.parametrize(
    ("operation", "payload"),
    [
        ("coffee_simple", {}),
        ("coffee_simple", "people"),
        ("coffee_simple", {"employees": {"id": 1}}),
        ("coffee_interest", {"employees": []}),
        ("coffee_interest", {"employees": [], "interest": ""}),
        ("coffee_interest", {"employees": [], "interest": ["chess"]}),
        ("coffee_interest", [{"id": 1}]),
        ("secret_coffee", {"when": object()}),
    ],
)
def test_a_payload_that_lacks_something_is_not_sent(nowhere: JavaService, operation: str, payload: Any) -> None:
    with pytest.raises(JavaServiceRefused) as caught:
        nowhere.forward(operation, payload, idempotency_key="k")
    assert caught.value.reason == "bad_payload"


def test_a_call_without_a_key_is_not_made(nowhere: JavaService) -> None:
    with pytest.raises(JavaServiceRefused) as caught:
        nowhere.forward("secret_coffee", {}, idempotency_key="")
    assert caught.value.reason == "no_idempotency_key"


def test_a_request_that_names_nobody_is_not_made(nowhere: JavaService) -> None:
    with pytest.raises(JavaServiceRefused) as caught:
        nowhere.match(request(), idempotency_key="k")
    assert caught.value.reason == "nobody_asked"


def test_all_operations_of_v21_are_known() -> None:
    assert set(OPERATIONS) == {
        "secret_coffee", "secret_coffee_from_api", "coffee_simple", "coffee_interest", "health",
        "tournament_bracket", "teams_generate",
    }  # fmt: skip
    assert len({operation.path for operation in OPERATIONS.values()}) == len(OPERATIONS)


# --- settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080", "ftp://host", "http://", "http://user:secret@host", "http://host/?a=b", "http://[", "/x"],
)
def test_an_address_that_cannot_be_used_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(SettingsError, match="JAVA_SERVICE_URL must be like") as caught:
        JavaService(url, timeout_seconds=1)
    assert "secret" not in str(caught.value)


def test_a_token_that_no_header_can_carry_is_refused_without_quoting_it() -> None:
    with pytest.raises(SettingsError, match="JAVA_SERVICE_TOKEN must be") as caught:
        JavaService("http://localhost", timeout_seconds=1, token="two\r\nlines")
    assert "lines" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xff\xff"])
def test_a_token_file_without_a_token_is_tried_again_later(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    client = JavaService("http://127.0.0.1:1", timeout_seconds=1, token="unused", token_file=str(file))
    with pytest.raises(JavaServiceUnavailable) as caught:
        client.forward("secret_coffee", {}, idempotency_key="k")
    assert caught.value.reason == "token_unreadable"
    assert "lines" not in str(caught.value)


def test_the_client_is_made_from_settings() -> None:
    client = JavaService.from_settings(Settings(java_service_url="http://127.0.0.1:1/base/", java_calls_per_process=3))
    with pytest.raises(JavaServiceUnavailable, match=r"at http://127\.0\.0\.1:1/base, X-Request-ID k: no connection"):
        client.forward("secret_coffee", {}, idempotency_key="k")
    assert not client.health()
    client.close()
