"""Listening to v21's pub/sub channels, cheaply: most of what is said there, the stream has already.

It uses a connection of redis-py by itself and not its ``PubSub``: that one subscribes again without a word after a
break, which would hide that something may have been missed, and costs two and a half times as much a message.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from connectbot.errors import RedisUnavailable
from connectbot.redis_client import RedisClient, translated_errors

MOST_AT_ONCE: Final = 1000
PING_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 3.0
"""A connection on which no PING was answered for so long is taken to be dead, whatever TCP says."""

_MESSAGES: Final = (b"pmessage", b"message")
"""Both end with the channel and the text."""
_SUBSCRIBED: Final = (b"psubscribe", b"subscribe")


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody published on a channel."""

    channel: bytes
    text: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """What one look brought; ``ignored`` counts the messages that were left out."""

    messages: Sequence[Message]
    ignored: int


class Listener:
    """One subscription; a context manager. It does not outlive its connection: make another one after an error.

    ``patterns`` are those of PSUBSCRIBE, ``channels`` the names of SUBSCRIBE: a role in Redis (ACL) that may hear all
    channels of a pattern may subscribe to any of their names, but to no narrower pattern. Messages that end with
    ``ignoring`` are left out.
    Entering it, and every method, raises `RedisUnavailable`.
    """

    def __init__(
        self, client: RedisClient, *, patterns: Sequence[str] = (), channels: Sequence[str] = (), ignoring: bytes
    ) -> None:
        self._pool = client.connection_pool
        self._wanted = {"PSUBSCRIBE": patterns, "SUBSCRIBE": channels}
        self._ignoring = ignoring
        self._connection: Any = None
        self._early: list[Message] = []
        self._broken: RedisUnavailable | None = None
        self._next_ping = 0.0
        self._unanswered_since: float | None = None

    def __enter__(self) -> Self:
        with translated_errors():
            self._connection = self._pool.get_connection()
        try:
            for command, names in self._wanted.items():
                if names:
                    self._subscribe(command, names)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def listen_to(self, *channels: str) -> None:
        """Hear further channels, too, from now on, and miss nothing of the others meanwhile."""
        self._subscribe("SUBSCRIBE", channels)

    def hear(self, *, wait_seconds: float) -> Heard:
        """What has been published since the last call; waits for the first of it. At most MOST_AT_ONCE messages."""
        if self._broken is not None:
            raise self._broken
        with translated_errors():
            self._ping_if_due()
            if self._early or self._connection.can_read(wait_seconds):
                self._unanswered_since = None
                return self._drain()
        self._mind_silence()
        return Heard((), 0)

    def close(self) -> None:
        """Give the connection back, closed: it is of no use for anything else."""
        with suppress(Exception):
            self._connection.disconnect()
        self._pool.release(self._connection)

    # --- inside ---------------------------------------------------------------------------------------

    def _subscribe(self, command: str, names: Sequence[str]) -> None:
        """Send it and wait until it is done; what is published meanwhile is for the next look."""
        with translated_errors():
            self._send(command, *names)
            missing = len(names)
            while missing:
                reply = self._connection.read_response()
                if reply[0] not in _MESSAGES:
                    missing -= reply[0] in _SUBSCRIBED
                elif not reply[-1].endswith(self._ignoring):
                    self._early.append(Message(reply[-2], reply[-1]))

    def _drain(self) -> Heard:
        messages, self._early = self._early, []
        ignored = 0
        read, ready, ignoring = self._connection.read_response, self._connection.can_read, self._ignoring
        try:
            with translated_errors():
                while ignored + len(messages) < MOST_AT_ONCE and ready(0):
                    reply = read()
                    if reply[0] not in _MESSAGES:
                        continue  # the answer to a PING
                    if reply[-1].endswith(ignoring):
                        ignored += 1
                    else:
                        messages.append(Message(reply[-2], reply[-1]))
        except RedisUnavailable as error:
            self._broken = error  # is told by the next call: what came before the end is heard
        return Heard(messages, ignored)

    def _ping_if_due(self) -> None:
        now = time.monotonic()
        if now < self._next_ping:
            return
        self._next_ping = now + PING_SECONDS
        if self._unanswered_since is None:
            self._unanswered_since = now
        self._send("PING")

    def _mind_silence(self) -> None:
        if self._unanswered_since is not None and time.monotonic() - self._unanswered_since > SILENCE_SECONDS:
            raise RedisUnavailable(f"the subscription to v21's channels has been silent for {SILENCE_SECONDS:g} s")

    def _send(self, *words: str) -> None:
        # redis-py's own health check would take a message for the answer to its PING.
        self._connection.send_command(*words, check_health=False)
