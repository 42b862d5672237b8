"""Everything that can go wrong here, as one tree.

ConnectBotError
├── Fault                   something is wrong
│   ├── SettingsError       an environment variable holds a value that cannot be used
│   ├── MalformedEvent      an entry of the stream is not an event
│   ├── UnreadableValue     a cached value is not of a form that we admit
│   ├── RedisUnavailable    Redis does not answer, or answers that it cannot serve now
│   ├── BacklogFull         the stream holds as many waiting events as it may
│   ├── SpoolUnusable       the file that keeps what waits for Redis cannot be written or read, or is full
│   ├── FenceLost           another worker has taken over the entries of this one
│   ├── EmbeddedRedisError  no Redis server could be found or started
│   ├── JavaServiceError    the matching service did not give a result
│   │   ├── JavaServiceUnavailable  it may give one later
│   │   └── JavaServiceRefused      it never will, for this request
│   ├── MatchingFailed      a matching request that somebody waited for has failed
│   └── MatchingUnanswered  … or has no answer yet
└── Answer                  not a fault: what a handler asks for instead of being done
    ├── Later               try this event again after a while
    │   └── Parked          try it again when what it needs is back
    └── Never               put this event with the dead letters
"""

from __future__ import annotations

from typing import Self


class ConnectBotError(Exception):
    """The root: catching it catches all that this package raises on purpose."""


class Fault(ConnectBotError):
    """Something is wrong."""


class SettingsError(Fault):
    """An environment variable holds a value that cannot be used."""


class MalformedEvent(Fault):
    """An entry of the stream is not an event; the message says what is wrong with it."""


class UnreadableValue(Fault):
    """A cached value is not of a form that we admit, for example a pickle that names a class."""


class RedisUnavailable(Fault):
    """Redis does not answer, or answers that it cannot serve now.

    ``refuses_writes`` tells that it has refused to write only: what reads may well be answered.
    """

    def __init__(self, message: str, *, refuses_writes: bool = False) -> None:
        super().__init__(message)
        self.refuses_writes = refuses_writes


class BacklogFull(Fault):
    """The stream holds as many waiting events as it may; nothing was published."""

    @classmethod
    def of(cls, stream: str, room: int) -> Self:
        """The error for a stream that holds ``room`` entries, with what to do."""
        return cls(
            f"the stream {stream} is full ({room} entries): `connectbot check` says who lags; "
            "start workers for a lane that does, or raise CONNECTBOT_MAX_BACKLOG"
        )


class SpoolUnusable(Fault):
    """The file that keeps what waits for Redis cannot be written or read, or is full."""


class FenceLost(Fault):
    """Another worker has taken over the entries of this one; nothing was written."""


class EmbeddedRedisError(Fault):
    """No Redis server could be found or started on this machine."""


class JavaServiceError(Fault):
    """The matching service did not give a result.

    ``reason`` is a short word for machines, such as ``"timeout"``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class JavaServiceUnavailable(JavaServiceError):
    """The service may give a result later.

    ``retry_after_seconds`` is what the service itself asked for, when it did. ``away`` tells that the reason lies with
    the service, or with what it depends on, and never with the request.
    """

    def __init__(
        self, reason: str, message: str, *, retry_after_seconds: float | None = None, away: bool = False
    ) -> None:
        super().__init__(reason, message)
        self.retry_after_seconds = retry_after_seconds
        self.away = away


class JavaServiceRefused(JavaServiceError):
    """The service will never give a result for this request."""


class MatchingFailed(Fault):
    """A matching request has failed for good; ``reason`` is a short word for machines."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{message}: {reason}")
        self.reason = reason


class MatchingUnanswered(Fault, TimeoutError):
    """A matching request has no answer yet; it lives on, and its result will be kept."""


class Answer(ConnectBotError):
    """Not a fault: what a handler asks for instead of being done."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Later(Answer):
    """Try this event again after a while.

    ``delay_seconds`` is how long at least; ``None`` takes the usual backoff, lengthened to ``asked_seconds`` where the
    target itself has asked for more. ``counted`` says whether this try counts as one of ``CONNECTBOT_MAX_ATTEMPTS``:
    not when the target is known to be down.
    """

    def __init__(
        self, reason: str, *, delay_seconds: float | None = None, asked_seconds: float = 0.0, counted: bool = True
    ) -> None:
        super().__init__(reason)
        self.delay_seconds = delay_seconds
        self.asked_seconds = asked_seconds
        self.counted = counted


class Parked(Later):
    """Try this event again when what it needs is back; it is no attempt, and nobody knows how long it takes.

    ``tried`` says that what it needs was asked in vain, not only known to be away: then others have their turn first.
    """

    def __init__(self, reason: str, *, tried: bool = False) -> None:
        super().__init__(reason, counted=False)
        self.tried = tried


class Never(Answer):
    """Put this event with the dead letters: no further try can succeed."""
