"""The client of the Java matching service (contract v21)."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlencode

import msgspec
import urllib3
from urllib3.util import Timeout, parse_url

from connectbot.errors import JavaServiceError, SettingsError
from connectbot.java.answers import ANSWERS, LARGEST_ANSWER_BYTES, Failed, check_status, explained, read_answer
from connectbot.java.service_token import ServiceToken
from connectbot.java.timely import CONNECTIONS
from connectbot.matching.contract import Employee, MatchingRequest, MatchingResult, Pair, read_result
from connectbot.settings import Settings
from connectbot.tracing.trace import noting

__all__ = ["OPERATIONS", "Employee", "Health", "JavaService", "MatchingRequest", "MatchingResult", "Operation", "Pair"]

CONNECT_TIMEOUT_SECONDS: Final = 3.0
_CHUNK_BYTES: Final = 64 * 1024
_PLAIN: Final = re.compile(r"[\x21-\x7e]{1,200}")
_TRACEPARENT: Final = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Operation:
    """One call that the service offers.

    ``employees_only``: its body is the payload's ``employees``, a bare list. ``query``: names of the payload that
    become parameters of the address.
    """

    path: str
    method: Literal["GET", "POST"] = "POST"
    employees_only: bool = False
    query: tuple[str, ...] = ()


OPERATIONS: Final[Mapping[str, Operation]] = {
    "secret_coffee": Operation("/api/v1/matching/match/secret-coffee"),
    "secret_coffee_from_api": Operation("/api/v1/matching/match/secret-coffee/from-api"),
    "coffee_simple": Operation("/api/matching/coffee/simple", employees_only=True),
    "coffee_interest": Operation("/api/matching/coffee/interest", employees_only=True, query=("interest",)),
    "health": Operation("/api/v1/matching/health", "GET"),
    # v21 only plans these two, and names no path: these are ours. Until its service has them, it answers 404.
    "tournament_bracket": Operation("/api/v1/matching/tournament/bracket"),
    "teams_generate": Operation("/api/v1/matching/teams/generate"),
}
"""Name → call. An event names one of these, never an address."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the service says that it is well; true or false as a whole. ``reason`` is a word for machines."""

    well: bool
    reason: str

    def __bool__(self) -> bool:
        return self.well


class _Discreet(logging.Filter):
    """At DEBUG, urllib3 tells the address of each call: the query of ours may name an interest of an employee."""

    hosts: ClassVar[set[str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or self.hosts.isdisjoint(map(str, record.args or ()))


_discreet = _Discreet()


class JavaService:
    """The matching service at one address.

    Threads may share it, up to ``max_connections`` calling at once. Connections are opened on first use and kept:
    make it after a fork, not before. ``timeout_seconds`` is for a whole call, to the last byte of its answer, and
    connecting has at most `CONNECT_TIMEOUT_SECONDS` of it. ``token_file`` wins over ``token``, and is read again when
    it changes.

    Nothing is repeated here: who calls decides when. No redirect is followed: the token is for this address only.
    """

    def __init__(
        self, url: str, *, timeout_seconds: float, token: str = "", token_file: str = "", max_connections: int = 8
    ) -> None:
        self._url = _checked_address(url)
        self._token = ServiceToken(token, token_file)
        self._timeout_seconds = timeout_seconds
        self._http = urllib3.PoolManager(
            num_pools=1,
            maxsize=max_connections,
            block=True,
            retries=False,  # and no redirects
            timeout=_timeout(timeout_seconds),
        )
        # Asked for once: finding it anew costs a fifth of a call. It opens no connection yet.
        self._pool = self._http.connection_from_url(self._url)
        self._pool.ConnectionCls = CONNECTIONS[self._pool.scheme]
        self._path = parse_url(self._url).path or ""
        _discreet.hosts.add(self._pool.host)
        logging.getLogger("urllib3.connectionpool").addFilter(_discreet)

    @classmethod
    def from_settings(cls, settings: Settings) -> JavaService:
        """The service that the settings name."""
        return cls(
            settings.java_service_url,
            timeout_seconds=settings.java_service_timeout_seconds,
            token=settings.java_service_token,
            token_file=settings.java_service_token_file,
            max_connections=settings.java_calls_per_process,
        )

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._http.clear()

    def match(
        self,
        request: MatchingRequest,
        *,
        idempotency_key: str,
        traceparent: str | None = None,
        timeout_seconds: float | None = None,
    ) -> MatchingResult:
        """Have people paired. Raises what `forward` and `matching.read_result` raise."""
        body: dict[str, Any] = {
            "requestId": request.request_id,
            "algorithmParams": {"type": request.type, **request.algorithm_params},
        }
        if request.known_people:
            operation, body["employees"] = "secret_coffee", request.known_people
        else:
            operation, body["employeeIds"] = "secret_coffee_from_api", request.people
        with self._explained(operation, request.request_id):
            if not request.people:
                raise Failed(ANSWERS["nobody_asked"])
        answer = self.forward(
            operation,
            body,
            idempotency_key=idempotency_key,
            request_id=request.request_id,
            traceparent=traceparent,
            timeout_seconds=timeout_seconds,
        )
        return read_result(answer, request)

    def forward(
        self,
        operation: str,
        payload: Any,
        *,
        idempotency_key: str,
        request_id: str | None = None,
        traceparent: str | None = None,
        timeout_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Make one call. Answers the object that the service answered.

        ``operation`` is a name of `OPERATIONS`; ``payload`` becomes its body. ``idempotency_key`` must be the same
        on every attempt. ``request_id`` is for finding the call in the service's log, and defaults to the key.
        ``traceparent`` is passed on when it has the form of W3C Trace Context. ``timeout_seconds`` gives this call less
        time than the client's own, never more.

        Raises `JavaServiceUnavailable` (later) or `JavaServiceRefused` (never): `connectbot.java.answers.ANSWERS`.
        """
        request_id = request_id or idempotency_key
        headers = {"Idempotency-Key": _header_text(idempotency_key), "X-Request-ID": _header_text(request_id)}
        if traceparent and _TRACEPARENT.fullmatch(traceparent):
            headers["traceparent"] = traceparent
        with self._explained(operation, request_id):
            if not idempotency_key:
                raise Failed(ANSWERS["no_idempotency_key"])
            return self._call(operation, payload, headers, timeout_seconds)

    def health(self, *, timeout_seconds: float | None = None) -> Health:
        """Ask the service whether it is well. Never raises because it is not."""
        try:
            with self._explained("health", ""):
                well = self._call("health", None, {}, timeout_seconds).get("status") == "OK"
        except JavaServiceError as fault:
            return Health(False, fault.reason)
        return Health(well, "ok" if well else "degraded")

    # --- inside ---------------------------------------------------------------------------------------

    def _explained(self, operation: str, request_id: str) -> Any:
        named = f", X-Request-ID {_header_text(request_id)}" if request_id else ""
        return explained(f"{operation[:50]!r} of the matching service at {self._url}{named}")

    def _call(
        self, name: str, payload: Any, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> dict[str, Any]:
        if name not in OPERATIONS:
            raise Failed(ANSWERS["unknown_operation"])
        operation = OPERATIONS[name]
        seconds = min(timeout_seconds or self._timeout_seconds, self._timeout_seconds)
        with noting(name) as call, self._asked(operation, payload, headers, seconds) as response:
            call.status = response.status
            try:
                check_status(response.status, response.headers)
            except Failed:
                with suppress(Failed, urllib3.exceptions.HTTPError):
                    _read(response, limit=_CHUNK_BYTES)  # so that the connection can be used again
                raise
            return read_answer(_read(response, limit=LARGEST_ANSWER_BYTES))

    @contextmanager
    def _asked(
        self, operation: Operation, payload: Any, headers: Mapping[str, str], seconds: float
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        response = self._pool.urlopen(
            operation.method,
            self._path + operation.path + _query(operation, payload),
            body=None if operation.method == "GET" else _body(operation, payload),
            headers={
                "Accept": "application/json",
                "Content-Type": "application/json",
                "User-Agent": "connectbot-worker",
                **self._token.header(),
                **headers,
            },
            retries=False,
            preload_content=False,
            timeout=_timeout(seconds),
            pool_timeout=seconds,  # type: ignore[arg-type]
        )
        try:
            yield response
        finally:
            response.close()  # a connection with something left to read is of no more use
            response.release_conn()


def _timeout(seconds: float) -> Timeout:
    return Timeout(connect=min(CONNECT_TIMEOUT_SECONDS, seconds), read=seconds, total=seconds)


def _checked_address(url: str) -> str:
    try:
        parts = parse_url(url)
    except urllib3.exceptions.LocationParseError:
        parts = parse_url("")
    if parts.scheme not in ("http", "https") or not parts.host or parts.auth or parts.query or parts.fragment:
        raise SettingsError("JAVA_SERVICE_URL must be like http://host:8080, without a user, a password or a query")
    return url.rstrip("/")


def _header_text(text: str) -> str:
    """The text where a header can carry it; else, as it comes from anywhere, a hash that is always the same."""
    if _PLAIN.fullmatch(text):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _query(operation: Operation, payload: Any) -> str:
    if not operation.query:
        return ""
    values = {name: payload.get(name) if isinstance(payload, Mapping) else None for name in operation.query}
    for name, value in values.items():
        if not isinstance(value, str) or not value:
            raise Failed(ANSWERS["bad_payload"], detail=f"no text {name}, ")
    return "?" + urlencode(values)


def _body(operation: Operation, payload: Any) -> bytes:
    body = payload
    if operation.employees_only:
        body = payload.get("employees") if isinstance(payload, Mapping) else payload
        if not isinstance(body, (list, tuple)):
            raise Failed(ANSWERS["bad_payload"], detail="no list employees, ")
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError, RecursionError):
        raise Failed(ANSWERS["bad_payload"], detail="it cannot be written as JSON, ") from None


def _read(response: urllib3.BaseHTTPResponse, *, limit: int) -> bytearray:
    """The body, of up to ``limit`` bytes."""
    body = bytearray()
    try:
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > limit:
                raise Failed(ANSWERS["answer_too_large"])
    except urllib3.exceptions.ProtocolError as error:
        raise Failed(ANSWERS["incomplete_answer"]) from error
    return body
