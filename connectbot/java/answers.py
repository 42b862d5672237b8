"""What each answer of the Java matching service means: done, later or never (contract v21).

The table `ANSWERS` decides; the rest of this file finds the row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

import msgspec
from urllib3 import exceptions

from connectbot.errors import JavaServiceError, JavaServiceRefused, JavaServiceUnavailable

LARGEST_ANSWER_BYTES: Final = 16 * 1024 * 1024
LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Meaning:
    """What is to be done after an answer: keep it, ask again, or give up; and why, in a word and in a sentence.

    ``away``: the reason lies with the service, so that asking in vain is no attempt (CONNECTBOT_MAX_ATTEMPTS).
    """

    verdict: Literal["done", "later", "never"]
    reason: str
    sentence: str
    away: bool = False


ANSWERS: Final[Mapping[int | str, Meaning]] = {
    # HTTP statuses. One that is not listed means what its hundred means.
    # "Later" is after the usual backoff, and not before a Retry-After.
    200: Meaning("done", "ok", "it answered"),
    300: Meaning("never", "redirected", "it points elsewhere: is JAVA_SERVICE_URL its own address?"),
    400: Meaning("never", "bad_request", "it does not accept the request"),
    401: Meaning("never", "unauthorized", "it wants another token: see JAVA_SERVICE_TOKEN, JAVA_SERVICE_TOKEN_FILE"),
    403: Meaning("never", "forbidden", "the token does not allow this call"),
    404: Meaning("never", "not_found", "it has no such call: is JAVA_SERVICE_URL right?"),
    408: Meaning("later", "request_timeout", "the request reached it too slowly"),
    409: Meaning("never", "conflict", "the request contradicts what it knows"),
    422: Meaning("never", "unprocessable", "it cannot fulfil the request"),
    425: Meaning("later", "too_early", "it asks to be asked again"),
    429: Meaning("later", "too_many_requests", "it asks for fewer calls", away=True),
    # A fault in its code looks like its database being away for a moment. Attempts are counted: try.
    500: Meaning("later", "server_error", "it failed"),
    501: Meaning("never", "not_implemented", "it has no such call"),
    502: Meaning("later", "bad_gateway", "what it depends on failed", away=True),
    503: Meaning("later", "unavailable", "it cannot serve now", away=True),
    504: Meaning("later", "gateway_timeout", "what it depends on did not answer in time", away=True),
    # HTTP 200 with status "error": by its error text, where that is listed here.
    "error data_api_failed": Meaning("later", "data_api_failed", "its source of employees failed", away=True),
    "error": Meaning("never", "service_error", "it answered with status error: its own log has more"),
    # No answer, or none that can be read. What a readable result may say is checked in `matching.read_result`.
    "connection_error": Meaning("later", "connection_error", "no connection: is it running?", away=True),
    "connect_timeout": Meaning("later", "connect_timeout", "no connection in time: is it running?", away=True),
    "tls_error": Meaning("later", "tls_error", "no connection that can be trusted: see its certificate", away=True),
    "pool_timeout": Meaning(
        "later", "pool_timeout", "all connections stay in use: see CONNECTBOT_JAVA_CALLS", away=True
    ),
    "timeout": Meaning("later", "timeout", "no answer in time: see JAVA_SERVICE_TIMEOUT"),
    "incomplete_answer": Meaning("later", "incomplete_answer", "the connection ended within the answer"),
    "answer_too_large": Meaning("never", "answer_too_large", f"its answer has more than {LARGEST_ANSWER_BYTES} bytes"),
    "nonsense": Meaning("never", "nonsense", "its answer is not a JSON object"),
    # Not even asked.
    "token_unreadable": Meaning(
        "later", "token_unreadable", "JAVA_SERVICE_TOKEN_FILE does not hold a readable token", away=True
    ),
    "unknown_operation": Meaning("never", "unknown_operation", "connectbot.java_service.OPERATIONS has no such call"),
    "bad_payload": Meaning("never", "bad_payload", "the payload lacks what this call needs"),
    "nobody_asked": Meaning("never", "nobody_asked", "the request names nobody"),
    "no_idempotency_key": Meaning("never", "no_idempotency_key", "a call needs a key that is not empty"),
}
"""What came back → what it means."""

_ERRORS: Final[tuple[tuple[type[exceptions.HTTPError], str], ...]] = (
    # The first that fits counts.
    (exceptions.EmptyPoolError, "pool_timeout"),
    (exceptions.NewConnectionError, "connection_error"),
    (exceptions.ConnectTimeoutError, "connect_timeout"),
    (exceptions.TimeoutError, "timeout"),
    (exceptions.SSLError, "tls_error"),
    (exceptions.DecodeError, "nonsense"),
    (exceptions.HTTPError, "connection_error"),
)


class Failed(Exception):
    """A row of `ANSWERS` that is not "done", on its way to `explained`."""

    def __init__(self, meaning: Meaning, *, detail: str = "", retry_after_seconds: float | None = None) -> None:
        super().__init__(meaning.reason)
        self.meaning = meaning
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Raise `JavaServiceUnavailable` or `JavaServiceRefused` in place of `Failed` and of urllib3's errors.

    ``where`` names the call for whoever reads the message.
    """
    try:
        yield
    except Failed as failed:
        raise _public(failed, where) from failed.__cause__
    except exceptions.HTTPError as error:
        row = next(row for kind, row in _ERRORS if isinstance(error, kind))
        raise _public(Failed(ANSWERS[row]), where) from error


def _public(failed: Failed, where: str) -> JavaServiceError:
    meaning = failed.meaning
    message = f"{where}: {failed.detail}{meaning.sentence}"
    if meaning.verdict == "later":
        return JavaServiceUnavailable(
            meaning.reason, message, retry_after_seconds=failed.retry_after_seconds, away=meaning.away
        )
    return JavaServiceRefused(meaning.reason, message)


def check_status(status: int, headers: Mapping[str, str], *, now: datetime | None = None) -> None:
    """Raise `Failed` when the HTTP status says so. ``now`` defaults to the present; it matters for a Retry-After."""
    meaning = ANSWERS.get(status) or ANSWERS.get(status // 100 * 100, ANSWERS["nonsense"])
    if meaning.verdict != "done":
        raise Failed(
            meaning,
            detail=f"HTTP {status}, ",
            retry_after_seconds=_retry_after_seconds(headers.get("Retry-After", ""), now or datetime.now(UTC)),
        )


def _retry_after_seconds(text: str, now: datetime) -> float | None:
    """Seconds from either form that RFC 9110 allows, a number or a date; None when it is neither."""
    text = text.strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return min(float(text), LONGEST_RETRY_AFTER_SECONDS)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)) - now
    return min(max(seconds.total_seconds(), 0.0), LONGEST_RETRY_AFTER_SECONDS)


def read_answer(body: bytes | bytearray) -> dict[str, Any]:
    """The answer's object. Raises `Failed` when there is none, or when its status is ``error``."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Failed(ANSWERS["nonsense"]) from None  # the cause might quote what the service answered
    if not isinstance(answer, dict):
        raise Failed(ANSWERS["nonsense"])
    status = answer.get("status")
    if isinstance(status, str) and status.lower() == "error":
        raise _service_error(answer.get("error"))
    return answer


def _service_error(text: Any) -> Failed:
    """Only a code becomes a reason: a sentence may name an employee."""
    code = str(text).partition(":")[0].strip()
    if not re.fullmatch("[a-z][a-z0-9_]{0,63}|[A-Z][A-Z0-9_]{0,63}", code):
        return Failed(ANSWERS["error"])
    listed = ANSWERS.get(f"error {code.lower()}")
    return Failed(listed or replace(ANSWERS["error"], reason=code.lower()))
