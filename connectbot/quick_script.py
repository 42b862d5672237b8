"""A Lua script that is called often: for publishing an event, for a permit, or for the next part of a batch.

Around each command redis-py 8 takes a connection from its pool and gives it back, counts both, keeps a count of retries
and measures the call, which takes longer than the event itself. Here one connection stays at hand; threads that come
at the same time as another take theirs from the pool. Of a pool with a small ``max_connections`` none stays at hand:
the others would not have it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar

from redis import exceptions

from connectbot.redis_client import RedisClient
from connectbot.scripts import text_of
from connectbot.spin_wait import SpinWait

T = TypeVar("T")
Call: TypeAlias = tuple[Sequence[Any], Sequence[Any]]
"""The keys and the arguments of one call."""

ROOMY: Final = 100
"""Connections of a pool that can spare one: as many as redis-py allows when the URL sets no ``max_connections``."""


class QuickScript:
    """A script of the folder ``lua``, by its files' names. Threads may share it, and it may be made before a fork.

    It raises what redis-py raises, and never sends a call twice: of one that was broken off nobody knows whether Redis
    has run the script. ``is_brief`` tells that Redis is done with a call sooner than this process would be awake again.
    """

    def __init__(self, client: RedisClient, *names: str, is_brief: bool = False) -> None:
        self._redis = client
        self._text = text_of(*names)
        self._sha = client.register_script(self._text).sha
        self._spin = SpinWait() if is_brief else None
        self._at_hand: tuple[int, deque[Any]] = (os.getpid(), deque())

    def __call__(self, *, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Run the script; answers what it returns."""
        connection = self._connection()
        try:
            self._make_ready(connection)
            connection.send_packed_command(self._packed(connection, keys, args))
            if self._spin:
                self._spin.wait(connection.is_worth_reading)
            return self._answer(connection, keys, args)
        except exceptions.ResponseError:
            raise
        except BaseException:  # an answer may be on its way, and would be taken for that to the next call
            connection.disconnect()
            raise
        finally:
            self._release(connection)

    def each(self, calls: Iterable[Call]) -> Iterator[Any]:
        """Run the script for each of the calls, in their order; answers what each returns.

        While Redis is at one call, ``calls`` is asked for the next, which is sent when the answer has been read.
        """
        connection = self._connection()
        try:
            coming = ((self._packed(connection, keys, args), keys, args) for keys, args in calls)
            call = next(coming, None)
            while call:
                packed, keys, args = call
                self._make_ready(connection)
                connection.send_packed_command(packed)
                following = _tried(coming)
                yield self._answer(connection, keys, args)
                call = following()
        except BaseException:  # as above; or the caller has had enough
            connection.disconnect()
            raise
        finally:
            self._release(connection)

    def ahead(self, calls: Iterable[Call]) -> Iterator[Any]:
        """The same, but each call is sent while Redis is at the one before, so that it never waits for the next.

        What follows on a call that has failed may be done all the same, once.
        """
        connection, sent = self._connection(), 0
        try:
            self._make_ready(connection)
            for keys, args in calls:
                # The first one brings the script along: an answer that it is unknown would come too late.
                how = ("EVAL", self._text) if not sent else ("EVALSHA", self._sha)
                connection.send_packed_command(connection.pack_command(*how, len(keys), *keys, *args))
                sent += 1
                if sent > 1:
                    yield connection.read_response()
            if sent:
                yield connection.read_response()
        except BaseException:  # as above
            connection.disconnect()
            raise
        finally:
            self._release(connection)

    def distrust(self) -> None:
        """Close the connection at hand, unless it is in use: it may be half-open."""
        ours = self._ours()
        with suppress(IndexError):
            while True:
                connection = ours.pop()
                connection.disconnect()
                self._redis.connection_pool.release(connection)

    def _packed(self, connection: Any, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        return connection.pack_command("EVALSHA", self._sha, len(keys), *keys, *args)

    def _answer(self, connection: Any, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        try:
            return connection.read_response()
        except exceptions.NoScriptError:  # not run: Redis was started anew or flushed, or has never seen it
            connection.send_packed_command(connection.pack_command("EVAL", self._text, len(keys), *keys, *args))
            return connection.read_response()

    def _connection(self) -> Any:
        try:
            return self._ours().pop()
        except IndexError:
            return self._redis.connection_pool.get_connection()

    def _ours(self) -> deque[Any]:
        """What is at hand in this process: what a parent holds is not for its child."""
        process, at_hand = self._at_hand
        if process != os.getpid():
            at_hand = deque()
            self._at_hand = os.getpid(), at_hand  # in one: who sees our id never sees the parent's
        return at_hand

    def _make_ready(self, connection: Any) -> None:
        """What the pool does, too, before it gives a connection away."""
        try:
            if connection.is_connected and connection.has_news():  # nothing was asked: it is out of step
                connection.disconnect()
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError):  # closed by Redis
            connection.disconnect()
        if not connection.is_connected:
            connection.connect()  # behind sentinels to whoever is master now

    def _release(self, connection: Any) -> None:
        ours, pool = self._ours(), self._redis.connection_pool
        if ours or pool.max_connections < ROOMY:
            pool.release(connection)
        else:
            ours.append(connection)


def _tried(coming: Iterator[T]) -> Callable[[], T | None]:
    """Ask for the next one now, and get it, or the error, when there is time for it; None when there is no more."""
    try:
        found = next(coming, None)
    except Exception as error:
        failed = error
    else:
        return lambda: found

    def fail() -> T | None:
        raise failed

    return fail
