"""The client of the Java service, against the stand-in with every switch, and against answers that no service gives."""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from connectbot.errors import JavaServiceError, JavaServiceRefused, JavaServiceUnavailable
from connectbot.java.answers import ANSWERS, LARGEST_ANSWER_BYTES
from connectbot.java_service import CONNECT_TIMEOUT_SECONDS, Employee, JavaService, MatchingRequest, Pair
from connectbot.testing.matching_service import MatchingService
from tests.tls import Authority

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FOUR = MatchingRequest(
    request_id="r-1",
    users=(1, 2, 3, 4, 5),
    employees=(
        *(Employee(id=id_, department="AB"[id_ % 2]) for id_ in (1, 2, 3, 4)),
        Employee(id=5, excluded_partners=(1, 2, 3, 4)),
    ),
)
Clients = Callable[..., JavaService]


@pytest.fixture
def service() -> Iterator[MatchingService]:
    with MatchingService() as service:
        yield service


@pytest.fixture
def clients() -> Iterator[Clients]:
    """Makes clients, and closes them after the test."""
    made = []

    def make(url: str, *, timeout_seconds: float = 5, **options: Any) -> JavaService:
        made.append(JavaService(url, timeout_seconds=timeout_seconds, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def match(client: JavaService, request: MatchingRequest = FOUR, **options: Any) -> Any:
    """The result, or the error where there is none."""
    try:
        return client.match(request, idempotency_key="k-1", **options)
    except JavaServiceError as error:
        return error


def reason_of(outcome: Any) -> str:
    assert isinstance(outcome, JavaServiceError), outcome
    return outcome.reason


# --- the table ----------------------------------------------------------------------------------------------------

DONE, LATER, NEVER = "done", "later", "never"
SWITCHES: list[tuple[dict[str, Any], str, str, float | None]] = [
    # switches, what the client is to say, its reason, the service's Retry-After
    ({}, DONE, "", None),
    ({"latency_ms": 20}, DONE, "", None),
    ({"pair_shape": "objects"}, DONE, "", None),
    ({"list_unmatched": False}, DONE, "", None),
    ({"pair_shape": "objects", "list_unmatched": False}, DONE, "", None),
    ({"token": "t0ken"}, DONE, "", None),
    ({"error_rate": 0.5}, DONE, "", None),  # the second call is the one that fails
    ({"error_rate": 1}, LATER, "server_error", None),
    ({"status": 429, "retry_after": "3"}, LATER, "too_many_requests", 3.0),
    ({"status": 503, "retry_after": "120"}, LATER, "unavailable", 120.0),
    ({"status": 503, "retry_after": "Thu, 01 Jan 2015 00:00:00 GMT"}, LATER, "unavailable", 0.0),
    ({"status": 503, "retry_after": "soon"}, LATER, "unavailable", None),
    *(({"status": row}, ANSWERS[row].verdict, ANSWERS[row].reason, None) for row in ANSWERS
      if isinstance(row, int) and row != 200),
    ({"status": 418}, NEVER, "bad_request", None),
    ({"status": 507}, LATER, "server_error", None),
    ({"latency_ms": 1500}, LATER, "timeout", None),
    ({"hang": True}, LATER, "timeout", None),
    ({"half": True}, LATER, "incomplete_answer", None),
    ({"wrong_json": True}, NEVER, "nonsense", None),
    ({"error": "data_api_failed"}, LATER, "data_api_failed", None),
    ({"error": "not_enough_employees"}, NEVER, "not_enough_employees", None),
    ({"error": "Ivan Petrov is on leave"}, NEVER, "service_error", None),
    ({"token": "another"}, NEVER, "unauthorized", None),
]  # fmt: skip


def patience(reason: str) -> float:
    """Seconds that a call may take which is to end for this reason."""
    return 0.5 if reason == "timeout" else 20


@pytest.mark.parametrize(("switches", "verdict", "reason", "retry_after_seconds"), SWITCHES, ids=lambda one: str(one))
def test_each_switch_is_answered_as_the_table_says(
    service: MatchingService,
    clients: Clients,
    switches: dict[str, Any],
    verdict: str,
    reason: str,
    retry_after_seconds: float | None,
) -> None:
    service.switch(**switches)
    outcome = match(clients(service.url, token="t0ken", timeout_seconds=patience(reason)))
    if verdict == DONE:
        assert outcome.unmatched == (5,)
        assert {frozenset(pair) for pair in outcome.pairs} == {frozenset({1, 2}), frozenset({3, 4})}
    elif verdict == LATER:
        assert type(outcome) is JavaServiceUnavailable
        assert (outcome.reason, outcome.retry_after_seconds) == (reason, retry_after_seconds)
    else:
        assert type(outcome) is JavaServiceRefused
        assert outcome.reason == reason


@pytest.mark.parametrize("switches", [{"status": 503}, {"hang": True}, {"half": True}, {"error": "data_api_failed"}])
def test_after_a_later_the_same_call_may_succeed(
    service: MatchingService, clients: Clients, switches: dict[str, Any]
) -> None:
    client = clients(service.url, timeout_seconds=2)
    service.switch(**switches)
    assert isinstance(match(client), JavaServiceUnavailable)
    service.reset()
    assert match(client).algorithm == "cross_department"
    (call,) = service.calls.shown()["calls"]
    assert (call["key"], call["count"]) == ("k-1", 2)


# --- what is sent -------------------------------------------------------------------------------------------------


def test_employees_are_sent_where_they_are_known(service: MatchingService, clients: Clients) -> None:
    client = clients(service.url, token="t")
    result = client.match(FOUR, idempotency_key="k-1", traceparent=TRACEPARENT)
    assert result.request_id == "r-1"
    (call,) = service.calls.shown()["calls"]
    assert (call["key"], call["path"]) == ("k-1", "/api/v1/matching/match/secret-coffee")
    assert call["request_id"] == "r-1"
    assert call["headers"] == {
        "content-type": "application/json",
        "x-request-id": "r-1",
        "traceparent": TRACEPARENT,
        "authorization": "Service",
    }


def test_nobody_is_left_out_of_whom_nothing_is_known(service: MatchingService, clients: Clients) -> None:
    request = MatchingRequest(request_id="r-1", users=(1, 2, 3, 4), employees=(Employee(id=1), Employee(id=2)))
    result = clients(service.url).match(request, idempotency_key="k")
    assert sorted(one for pair in result.pairs for one in pair) == [1, 2, 3, 4]
    assert result.unmatched == ()


@pytest.mark.parametrize("employees", [None, (), (Employee(id=9),)])
def test_else_the_service_fetches_them_itself(
    service: MatchingService, clients: Clients, employees: tuple[Employee, ...] | None
) -> None:
    request = MatchingRequest(request_id="r-1", users=(8, 7, 8), employees=employees)
    result = clients(service.url).match(request, idempotency_key="k")
    assert sorted(result.pairs[0]) == [7, 8]
    assert service.calls.shown()["calls"][0]["path"] == "/api/v1/matching/match/secret-coffee/from-api"


def test_the_answers_people_are_checked_against_the_request(service: MatchingService, clients: Clients) -> None:
    client = clients(service.url)
    match(client)  # its key now has an answer: the stand-in gives it again to whatever comes under that key
    other = MatchingRequest(request_id="r-2", users=(1, 2))
    assert reason_of(match(client, other)) == "invalid_result"


@pytest.mark.parametrize(
    ("operation", "payload", "path"),
    [
        ("secret_coffee", {"employees": [{"id": 1}, {"id": 2}]}, "/api/v1/matching/match/secret-coffee"),
        ("secret_coffee_from_api", {"employeeIds": [1, 2]}, "/api/v1/matching/match/secret-coffee/from-api"),
        ("coffee_simple", [{"id": 1}, {"id": 2}], "/api/matching/coffee/simple"),
        ("coffee_simple", {"employees": [{"id": 1}, {"id": 2}]}, "/api/matching/coffee/simple"),
        (
            "coffee_interest",
            {
                "interest": "го & #шахматы?",
                "employees": [{"id": id_, "interests": ["го & #шахматы?"]} for id_ in (1, 2)],
            },
            "/api/matching/coffee/interest",
        ),
    ],
)
def test_each_operation_reaches_its_endpoint(
    service: MatchingService, clients: Clients, operation: str, payload: Any, path: str
) -> None:
    answer = clients(service.url + "/").forward(operation, payload, idempotency_key="k")
    assert sorted(answer["pairs"][0].values()) == [1, 2]
    (call,) = service.calls.shown()["calls"]
    assert (call["path"], call["headers"]["x-request-id"]) == (path, "k")


@pytest.mark.parametrize("operation", ["tournament_bracket", "teams_generate"])
def test_what_v21_only_plans_is_not_found(service: MatchingService, clients: Clients, operation: str) -> None:
    with pytest.raises(JavaServiceRefused) as caught:
        clients(service.url).forward(operation, {}, idempotency_key="k")
    assert caught.value.reason == "not_found"


def test_ids_that_no_header_can_carry_are_hashed_the_same_each_time(service: MatchingService, clients: Clients) -> None:
    client = clients(service.url)
    for key in ("a\r\nX-Evil: 1", "a\r\nX-Evil: 1", "ключ", "k" * 201, "k" * 202, "with space"):
        client.forward("coffee_simple", [{"id": 1}], idempotency_key=key, request_id=key, traceparent="a\r\nb")
    calls = service.calls.shown()["calls"]
    assert [call["count"] for call in calls] == [2, 1, 1, 1, 1]
    assert all(len(call["key"]) == 64 and call["key"] == call["headers"]["x-request-id"] for call in calls)
    assert not any("traceparent" in call["headers"] for call in calls)


def test_a_token_file_is_read_again_when_it_changes(service: MatchingService, clients: Clients, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    client = clients(service.url, token="unused", token_file=str(file))
    service.switch(token="first")
    assert client.forward("coffee_simple", [{"id": 1}], idempotency_key="k")
    new = tmp_path / "new"
    new.write_text("other\n")
    os.utime(new, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    new.replace(file)  # as Kubernetes does it: another file of the same size, here even of the same age
    service.switch(token="other")
    assert client.forward("coffee_simple", [{"id": 1}], idempotency_key="k")
    file.unlink()
    assert reason_of(match(client)) == "token_unreadable"


# --- health -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switches", "well", "reason"),
    [
        ({}, True, "ok"),
        ({"token": "another"}, True, "ok"),
        ({"degraded": True}, False, "unavailable"),
        ({"status": 502}, False, "unavailable"),
        ({"hang": True}, False, "timeout"),
    ],
)
def test_health_tells_and_never_raises(
    service: MatchingService, clients: Clients, switches: dict[str, Any], well: bool, reason: str
) -> None:
    service.switch(**switches)
    health = clients(service.url, timeout_seconds=patience(reason)).health()
    assert (bool(health), health.reason) == (well, reason)
    assert service.calls.shown()["requests"] == 0


def test_health_says_when_nobody_listens(clients: Clients) -> None:
    with MatchingService() as gone:
        client = clients(gone.url)
        assert client.health()
    assert client.health().reason == "connection_error"
    assert reason_of(match(client)) == "connection_error"


def test_health_is_not_ok_unless_it_says_so(clients: Clients) -> None:
    with answering(http(b'{"status": "DEGRADED"}')) as url:
        assert clients(url).health().reason == "degraded"


# --- answers that no service gives --------------------------------------------------------------------------------


@contextmanager
def answering(
    *chunks: bytes, hold: bool = False, pause_seconds: float = 0, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """A server that answers each connection with the same bytes and closes it.

    ``hold`` keeps it open in silence instead; ``pause_seconds`` pass after each of ``chunks``.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with tls.wrap_socket(connection, server_side=True) if tls else connection as connection:
                    _take_request(connection)
                    try:
                        for chunk in chunks:
                            connection.sendall(chunk)
                            ended.wait(pause_seconds)
                    except OSError:
                        continue  # the client had enough
                    if hold:
                        ended.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _take_request(connection: socket.socket) -> None:
    """Read the whole request: closing with something left to read would cut our answer short."""
    taken, length = b"", 1
    while length and taken[:1] in (b"", b"G", b"P"):  # a TLS client begins otherwise
        taken += connection.recv(65536)
        head, end, body = taken.partition(b"\r\n\r\n")
        announced = re.search(rb"(?i)content-length: (\d+)", head)
        length = (int(announced[1]) if announced else 0) - len(body) if end else 1


def http(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    head = [b"HTTP/1.1 " + status, *(headers or (b"Content-Length: %d" % len(body),)), b"", b""]
    return b"\r\n".join(head) + body


GOOD = b'{"status": "ok", "pairs": []}'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "connection_error"),
        (b"SSH-2.0-OpenSSH\r\n", "connection_error"),
        (http(GOOD, b"Content-Length: 500"), "incomplete_answer"),
        (http(b"5\r\n{\"sta", b"Transfer-Encoding: chunked"), "incomplete_answer"),
        (http(b"x\r\n", b"Transfer-Encoding: chunked"), "incomplete_answer"),
        (http(GOOD[:9], b"Connection: close"), "nonsense"),
        (http(b"", status=b"204 No Content"), "nonsense"),
        (http(b"[]"), "nonsense"),
        (http(b"\xff" * 50), "nonsense"),
        (http(b"[" * 100_000), "nonsense"),
        (http(b"junk", b"Content-Encoding: gzip", b"Content-Length: 4"), "nonsense"),
        (http(GOOD, status=b"700 Odd"), "nonsense"),
        (http(b"", b"Upgrade: h2c", status=b"101 Switching Protocols"), "nonsense"),
        (http(GOOD, status=b"302 Found"), "redirected"),
        (http(b" " * (LARGEST_ANSWER_BYTES + 1)), "answer_too_large"),
        (http(b" " * (LARGEST_ANSWER_BYTES + 1), b"Connection: close"), "answer_too_large"),
        (http(b" " * (LARGEST_ANSWER_BYTES + 1), status=b"503 Away"), "unavailable"),
    ],
    ids=lambda one: str(one[:60]),
)  # fmt: skip
def test_each_broken_answer_is_told_apart(clients: Clients, answer: bytes, reason: str) -> None:
    with answering(answer) as url:
        client = clients(url, max_connections=1)
        assert reason_of(match(client)) == reason
        # The pool's only connection is there again; that the server has closed it may be seen before or after sending.
        assert reason_of(match(client)) in (reason, "connection_error")


def test_a_large_answer_is_read(clients: Clients) -> None:
    padding = b'{"status": "ok", "meta": "%s"}' % (b"x" * 10_000_000)
    with answering(http(padding)) as url:
        answer = clients(url).forward("secret_coffee", {}, idempotency_key="k")
    assert len(answer["meta"]) == 10_000_000


def test_an_answer_may_be_chunked_or_end_with_the_connection(clients: Clients) -> None:
    chunked = b"5\r\n" + GOOD[:5] + b"\r\n%x\r\n" % (len(GOOD) - 5) + GOOD[5:] + b"\r\n0\r\n\r\n"
    for answer in (http(chunked, b"Transfer-Encoding: chunked"), http(GOOD, b"Connection: close")):
        with answering(answer) as url:
            assert clients(url).forward("secret_coffee", {}, idempotency_key="k") == {"status": "ok", "pairs": []}


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_an_interim_answer_is_passed_over_for_the_one_that_follows(clients: Clients, status: bytes) -> None:
    interim = http(b"", b"Link: </x>; rel=preload", status=status)
    with answering(interim + interim, interim, http(GOOD), pause_seconds=0.02) as url:
        answer = clients(url).forward("secret_coffee", {}, idempotency_key="k")
    assert answer == {"status": "ok", "pairs": []}


def test_a_connection_is_not_used_again_for_which_the_service_has_changed_the_protocol(clients: Clients) -> None:
    with answering(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", hold=True) as url:
        client = clients(url)
        assert reason_of(match(client)) == "nonsense"
        assert client._pool.pool.queue[-1].is_closed  # type: ignore[union-attr]


def test_an_answer_that_stops_in_the_middle_is_not_waited_for(clients: Clients) -> None:
    with answering(http(GOOD, b"Content-Length: 500"), hold=True) as url:
        assert reason_of(match(clients(url, timeout_seconds=0.3))) == "timeout"


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"HTTP/1.1 200 ", b"O"),
        (b"HTTP/1.1 200 OK\r\nX-Odd: ", b"x"),
        (b"HTTP/1.1 100 Continue\r\n", b"X: x\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (http(b"", b"Content-Length: 500"), b" "),
        (http(b"", b"Content-Length: 500", status=b"503 Away"), b" "),
        (http(b"", b"Transfer-Encoding: chunked"), b"0"),
        (http(b"", b"Connection: close"), b" "),
    ],
    ids=lambda one: str(one),
)
def test_an_answer_that_trickles_in_is_not_waited_for(clients: Clients, begin: bytes, drop: bytes) -> None:
    with answering(begin, *([drop] * 500), pause_seconds=0.02) as url:
        seconds, reason = (1.5, "unavailable") if b"503" in begin else (0.3, "timeout")
        begun = time.monotonic()
        assert reason_of(match(clients(url, timeout_seconds=seconds))) == reason
        assert time.monotonic() - begun < 3, "urllib3 alone waits anew after each drop, ten seconds in all"


def test_over_tls_an_answer_that_trickles_in_is_not_waited_for_either(
    clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("java")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(identity.certificate, identity.key)
    with answering(http(GOOD), tls=tls) as url:
        assert clients(url).forward("secret_coffee", {}, idempotency_key="k") == {"status": "ok", "pairs": []}
    with answering(b"HTTP/1.1 200 ", *([b"O"] * 500), pause_seconds=0.02, tls=tls) as url:
        begun = time.monotonic()
        assert reason_of(match(clients(url, timeout_seconds=0.3))) == "timeout"
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize("how", [b"Content-Length: 500", b"Connection: close"])
def test_an_answer_that_began_late_gets_no_time_of_its_own(clients: Clients, how: bytes) -> None:
    head = http(b"", how)
    with answering(head[:9], head[9:] + b" ", hold=True, pause_seconds=1.7) as url:
        begun = time.monotonic()
        assert reason_of(match(clients(url, timeout_seconds=2))) == "timeout"
        assert time.monotonic() - begun < 3, "urllib3 alone waits for two seconds after the part that came last"


def test_a_redirect_is_not_followed(service: MatchingService, clients: Clients) -> None:
    elsewhere = b"Location: " + service.url.encode() + b"/api/v1/matching/match/secret-coffee"
    with answering(http(b"", elsewhere, b"Content-Length: 0", status=b"307 Temporary Redirect")) as url:
        assert reason_of(match(clients(url, token="t"))) == "redirected"
    assert service.calls.shown()["requests"] == 0


def test_a_service_without_tls_is_not_trusted(clients: Clients) -> None:
    with answering(http(GOOD)) as url:
        assert reason_of(match(clients(url.replace("http:", "https:")))) == "tls_error"


@contextmanager
def taking_no_connection(host: str, port: int = 0) -> Iterator[int]:
    """A port that is there and lets everybody wait."""
    with socket.create_server((host, port), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex((host, port))
        try:
            yield port
        finally:
            for one in waiting:
                one.close()


def resolve(monkeypatch: pytest.MonkeyPatch, name: str, *addresses: str) -> None:
    """Give a name of a host these addresses."""
    real = socket.getaddrinfo

    def found(host: str, *options: Any, **more: Any) -> Any:
        return [row for one in (addresses if host == name else [host]) for row in real(one, *options, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def test_a_host_that_takes_no_connection_is_not_waited_for(clients: Clients) -> None:
    with taking_no_connection("127.0.0.1") as port:
        assert reason_of(match(clients(f"http://127.0.0.1:{port}", timeout_seconds=0.3))) == "connect_timeout"


def test_a_host_of_many_addresses_is_waited_for_no_longer(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "many.test", *(f"127.0.0.{last}" for last in range(1, 9)))
    with taking_no_connection("0.0.0.0") as port:
        begun = time.monotonic()
        assert reason_of(match(clients(f"http://many.test:{port}", timeout_seconds=0.4))) == "connect_timeout"
        assert time.monotonic() - begun < 1.6, "urllib3 alone waits for 0.4 seconds at each of eight addresses"


def test_an_address_that_takes_no_connection_leaves_time_for_the_next(
    service: MatchingService, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, "two.test", "127.0.0.2", "127.0.0.1")
    with taking_no_connection("127.0.0.2", port := int(service.url.rpartition(":")[2])):
        assert match(clients(f"http://two.test:{port}", timeout_seconds=1)).algorithm == "cross_department"


def test_a_name_that_nobody_knows_is_no_connection(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason_of(match(clients("http://two..dots:80"))) == "connection_error"
    monkeypatch.setattr(socket, "getaddrinfo", Mock(side_effect=socket.gaierror))
    assert reason_of(match(clients("http://nobody.test:80"))) == "connection_error"


def test_a_service_that_does_not_read_is_not_waited_for(clients: Clients) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = clients(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout_seconds=0.3)
        with pytest.raises(JavaServiceUnavailable):
            client.forward("secret_coffee", {"more than any buffer takes": "x" * 30_000_000}, idempotency_key="k-1")


def test_connecting_may_take_less_than_a_call(clients: Clients) -> None:
    timeout = clients("http://127.0.0.1:1", timeout_seconds=15)._http.connection_pool_kw["timeout"]
    assert (timeout.connect_timeout, timeout.total) == (CONNECT_TIMEOUT_SECONDS, 15)


def test_a_pool_that_stays_in_use_is_told_apart(service: MatchingService, clients: Clients) -> None:
    client = clients(service.url, timeout_seconds=2, max_connections=1)
    pool = client._http.connection_from_url(service.url)
    taken = pool._get_conn()
    assert reason_of(match(client)) == "pool_timeout"
    pool._put_conn(taken)
    assert match(client).algorithm == "cross_department"


NOT_SENT = {"unknown_operation", "bad_payload", "nobody_asked", "no_idempotency_key", "token_unreadable"}


def test_no_row_of_the_table_is_left_out_here() -> None:
    shown = {"redirected", "answer_too_large", "connection_error", "tls_error", "connect_timeout", "pool_timeout", "ok"}
    shown |= {reason for _, _, reason, _ in SWITCHES} | NOT_SENT  # tests/unit/test_java_service.py
    assert {meaning.reason for meaning in ANSWERS.values()} - shown == set()


# --- threads and connections --------------------------------------------------------------------------------------


def test_threads_share_a_client_and_its_connections(service: MatchingService, clients: Clients) -> None:
    service.switch(latency_ms=5)
    client = clients(service.url, max_connections=8)

    def one(number: int) -> bool:
        return bool(client.match(FOUR, idempotency_key=str(number)).pairs)

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(one, range(200)))
    calls = service.calls.shown()
    assert (calls["requests"], calls["repeated"]) == (200, 0)
    assert calls["most_in_flight"] <= 8
    assert client._http.connection_from_url(service.url).num_connections <= 8


@pytest.mark.parametrize("status", [0, 400, 503])
def test_a_connection_is_used_again_whatever_was_answered(
    service: MatchingService, clients: Clients, status: int
) -> None:
    service.switch(status=status)
    client = clients(service.url)
    pool: Any = client._http.connection_from_url(service.url).pool
    ports = set()
    for _ in range(5):
        match(client)
        ports.add(pool.queue[-1].sock.getsockname())
    assert len(ports) == 1


def test_a_service_that_was_started_again_is_reached_again(clients: Clients) -> None:
    with MatchingService() as first:
        client = clients(first.url)
        assert match(client).pairs
        port = int(first.url.rpartition(":")[2])
    assert isinstance(match(client), JavaServiceUnavailable)
    with MatchingService(port=port):
        assert match(client).pairs == (Pair(2, 1), Pair(4, 3))


# --- nothing private leaves ---------------------------------------------------------------------------------------

MARKERS = ("MARKER_TOKEN", "MARKER DEPARTMENT", "MARKER INTEREST", "MARKER PREFERENCE", "MARKER ERROR")


@pytest.mark.parametrize(
    "switches", [switches for switches, *_ in SWITCHES] + [{"error": "MARKER ERROR of N. N."}], ids=str
)
def test_no_token_and_nothing_about_an_employee_is_logged_or_told(
    service: MatchingService, clients: Clients, caplog: pytest.LogCaptureFixture, switches: dict[str, Any]
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "urllib3.connectionpool")  # whatever a site has set
    service.switch(**switches)
    private = Employee(
        id=1, department="MARKER DEPARTMENT", interests=("MARKER INTEREST",), preferences={"a": "MARKER PREFERENCE"}
    )
    request = MatchingRequest(request_id="r-1", users=(1, 2), employees=(private, Employee(id=2)))
    outcome = match(clients(service.url, token="MARKER_TOKEN", timeout_seconds=0.3), request)
    errors = []
    while isinstance(outcome, BaseException):
        errors += [str(outcome), repr(outcome)]
        outcome = outcome.__cause__ or outcome.__context__
    told = "\n".join([caplog.text, *errors, repr(request)])
    assert [marker for marker in MARKERS if marker in told] == []
    assert "r-1" in told


def test_an_interest_in_an_address_is_not_logged_and_the_lines_of_others_stay(
    service: MatchingService, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    http = logging.getLogger("urllib3.connectionpool")
    caplog.set_level(logging.DEBUG, http.name)
    people = [{"id": id_, "interests": ["MARKER INTEREST"]} for id_ in (1, 2)]
    payload = {"interest": "MARKER INTEREST", "employees": people}
    clients(service.url).forward("coffee_interest", payload, idempotency_key="k-1")
    http.debug('%s://%s:%s "%s %s"', "http", "example.com", 80, "GET", "/")
    assert http.level == logging.DEBUG
    assert [record.getMessage() for record in caplog.records if record.name == http.name] == [
        'http://example.com:80 "GET /"'
    ]
