"""Awaitable forms of calls that wait for Redis: the calls themselves, in threads of their own.

There is one copy of the code, and the event loop waits neither for Redis nor for a thread to be free.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

THREADS: Final = 16
"""Calls that are under way at once; further ones wait for their turn, and the loop goes on."""

_VALUES: Final = (str, bytes, int, float, bool, type(None))


async def awaitable(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What ``call(*args, **kwargs)`` answers, called in a thread: ``await awaitable(publish_user_created, 7)``."""
    context = contextvars.copy_context()
    work = functools.partial(context.run, call, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads(os.getpid()), work)


class Awaitable:
    """The awaitable form of an object: ``await Awaitable(thing).method(...)`` is ``thing.method(...)`` in a thread.

    Objects that belong to it have that form too; plain values are as they are. Awaiting the form answers it, so that
    ``await`` is right before everything.
    """

    def __init__(self, target: object) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if inspect.isroutine(value):
            return functools.partial(awaitable, value)
        return value if isinstance(value, _VALUES) else Awaitable(value)

    def __await__(self) -> Generator[Any, None, Self]:
        yield from ()
        return self

    def __repr__(self) -> str:
        return f"<awaitable form of {self._target!r}>"


@functools.lru_cache(maxsize=1)
def _threads(_pid: int) -> ThreadPoolExecutor:
    """The threads of this process: those of a parent do not run here."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="connectbot-async")
