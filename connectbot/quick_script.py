"""A Lua script that is called often, for one small thing each time: for publishing an event.

Around each command redis-py 8 takes a connection from its pool and gives it back, counts both, keeps a count of retries
and measures the call, which takes longer than the event itself. Here one connection stays at hand; threads that come
at the same time as another take theirs from the pool.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from redis import exceptions

from connectbot.redis_client import RedisClient
from connectbot.scripts import text_of

T = TypeVar("T")


class QuickScript:
    """A script of the folder ``lua``, by the name of its file. Threads may share it, and it may be made before a fork.

    It raises what redis-py raises, and never sends a call twice: of one that was broken off nobody knows whether Redis
    has run the script.
    """

    def __init__(self, client: RedisClient, name: str) -> None:
        self._redis = client
        self._text = text_of(name)
        self._sha = client.register_script(self._text).sha
        self._at_hand: deque[Any] = deque()
        self._process = os.getpid()

    def __call__(self, *, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Run the script; answers what it returns."""
        connection = self._connection()
        try:
            self._make_ready(connection)
            try:
                return self._run(connection, "EVALSHA", self._sha, len(keys), *keys, *args)
            except exceptions.NoScriptError:  # not run: Redis was started anew, or has never seen it
                return self._run(connection, "EVAL", self._text, len(keys), *keys, *args)
        except exceptions.ResponseError:
            raise
        except BaseException:  # an answer may be on its way, and would be taken for that to the next call
            connection.disconnect()
            raise
        finally:
            self._release(connection)

    def each(self, calls: Iterable[tuple[Sequence[Any], Sequence[Any]]]) -> Iterator[Any]:
        """Run the script for each of the calls (keys, args), in their order; answers what each returns.

        While Redis is at one call, ``calls`` is asked for the next, which is sent when the answer has been taken.
        """
        self._redis.script_load(self._text)
        coming, connection = iter(calls), self._connection()
        try:
            self._make_ready(connection)
            call = next(coming, None)
            while call:
                keys, args = call
                connection.send_packed_command(connection.pack_command("EVALSHA", self._sha, len(keys), *keys, *args))
                following = _tried(coming)
                yield connection.read_response()
                call = following()
        except BaseException:  # as above; or the caller has had enough
            connection.disconnect()
            raise
        finally:
            self._release(connection)

    def _run(self, connection: Any, *command: Any) -> Any:
        connection.send_packed_command(connection.pack_command(*command))
        return connection.read_response()

    def _connection(self) -> Any:
        if self._process != os.getpid():  # what a parent holds is not for its child
            self._process, self._at_hand = os.getpid(), deque()
        try:
            return self._at_hand.pop()
        except IndexError:
            return self._redis.connection_pool.get_connection()

    def _make_ready(self, connection: Any) -> None:
        """What the pool does, too, before it gives a connection away."""
        try:
            if connection.is_connected and connection.can_read():  # nothing was asked: it is out of step
                connection.disconnect()
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError):  # closed by Redis
            connection.disconnect()
        if not connection.is_connected:
            connection.connect()  # behind sentinels to whoever is master now

    def _release(self, connection: Any) -> None:
        if self._at_hand:
            self._redis.connection_pool.release(connection)
        else:
            self._at_hand.append(connection)


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
