"""Asking for a matching and waiting for it: ``connectbot.request_matching([1, 2, 3], wait=10)``.

One thread of the process listens to the channel on which answers are told, however many callers wait; nobody asks again
and again. A caller is heard before its request is published, so that no answer can come too early.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TimedOut
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import msgspec

from connectbot.asynchronous import awaitable
from connectbot.cache_keys import MATCHING_FAILURES, MATCHING_RESULTS
from connectbot.clients import Clients
from connectbot.errors import MatchingFailed, MatchingUnanswered, RedisUnavailable, UnreadableValue
from connectbot.events import ConnectBotEvents
from connectbot.integration.site import default_site, generation
from connectbot.listener import Listener
from connectbot.matching.asking import SERVICE, request_event
from connectbot.matching.contract import Employee, MatchingResult, Pair

LISTEN_SECONDS: Final = 0.5
PAUSE_SECONDS: Final = 0.5
SUBSCRIBE_SECONDS: Final = 5.0
SHORTEST_SUBSCRIBE_SECONDS: Final = 1.0
"""Even who does not want to wait gives the thread so long to listen, where Redis neither answers nor refuses."""
_IGNORES_NOTHING: Final = b"\0"

_logger = logging.getLogger(__name__)

People = Iterable[Employee | Mapping[str, Any]]


def request_matching(
    users: Iterable[int],
    *,
    wait: float = 10.0,
    type: str = "coffee",  # noqa: A002 - contract v21
    employees: People | None = None,
    request_id: str | None = None,
    deadline: float | None = None,
) -> MatchingResult:
    """Have users paired, and wait up to ``wait`` seconds for the result.

    ``employees`` is what is known of them; without it, the service fetches that itself. Asking again with the same
    ``request_id`` asks nothing new: it is the way to go on waiting. ``deadline`` (epoch seconds) is until when the
    request is of use.

    Raises `MatchingFailed` with a reason; `MatchingUnanswered` when time is up, although the request lives on and its
    result will be kept; `BacklogFull` or `RedisUnavailable` when it was not even published.
    """
    caller, asked = _current(), _question(users, type, employees, request_id, deadline)
    answer: Future[MatchingResult] = Future()
    try:
        caller.ask(asked, answer, wait)
        return answer.result(wait)
    except TimedOut:
        return caller.look_again(asked, wait)
    finally:
        caller.forget(asked, answer)


async def request_matching_async(
    users: Iterable[int],
    *,
    wait: float = 10.0,
    type: str = "coffee",  # noqa: A002 - contract v21
    employees: People | None = None,
    request_id: str | None = None,
    deadline: float | None = None,
) -> MatchingResult:
    """`request_matching` for coroutines: any number of them may wait, and none keeps a thread."""
    caller, asked = _current(), _question(users, type, employees, request_id, deadline)
    answer: Future[MatchingResult] = Future()
    try:
        await awaitable(caller.ask, asked, answer, wait)
        return await asyncio.wait_for(asyncio.wrap_future(answer), wait)
    except TimeoutError:
        return await awaitable(caller.look_again, asked, wait)
    finally:
        caller.forget(asked, answer)


class _Told(msgspec.Struct):
    """What an event or a stored result says that a caller may wait for."""

    request_id: str | None = None
    pairs: tuple[Pair, ...] = ()
    unmatched: tuple[int, ...] = ()
    algorithm: str = ""
    reason: str = ""


class _Event(msgspec.Struct):
    type: str
    data: _Told


class MatchingCaller:
    """The waiting callers of one process.

    ``is_current`` tells whether more of them may come; if not, the thread ends with the last one that waits.
    """

    def __init__(self, ours: Clients, is_current: Callable[[], bool] = lambda: True) -> None:
        self._clients = ours
        self._is_current = is_current
        self._keys = ours.settings.keys
        self._decoder = msgspec.json.Decoder(_Event)
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Future[MatchingResult]]] = {}
        self._subscription: Future[None] = Future()
        self._thread: threading.Thread | None = None

    def ask(self, asked: dict[str, Any], answer: Future[MatchingResult], wait: float) -> None:
        """Publish a request; ``answer`` will hold its result. `forget` it in the end.

        Raises `RedisUnavailable` as soon as it is known that nobody can listen, at the latest after ``wait`` seconds.
        """
        self._have_heard(asked["request_id"], wait)
        # What is kept of an earlier failure is no answer to who asks again.
        self._clients.temp_data.delete(MATCHING_FAILURES, asked["request_id"])
        self._expect(asked["request_id"], answer)
        stored = self._stored(asked["request_id"])
        if stored is not None:
            self._tell(asked["request_id"], stored)
            return
        self._clients.publisher.publish(request_event(self._keys, **asked))

    def look_again(self, asked: dict[str, Any], wait: float) -> MatchingResult:
        """The result where it is there although nobody told.

        Else raises `MatchingFailed` where that was not heard either, or `MatchingUnanswered`.
        """
        kept = self._kept(asked["request_id"])
        if isinstance(kept, MatchingFailed):
            raise kept
        if kept is None:
            raise MatchingUnanswered(
                f"matching request {asked['request_id']} has no answer after {wait:g} s: ask again with the same "
                "request_id to go on waiting; is a worker for the lane java running?"
            )
        return kept

    def forget(self, asked: dict[str, Any], answer: Future[MatchingResult]) -> None:
        """Wait no longer."""
        with self._lock:
            others = [one for one in self._waiting.pop(asked["request_id"], []) if one is not answer]
            if others:
                self._waiting[asked["request_id"]] = others

    # --- inside ---------------------------------------------------------------------------------------

    def _have_heard(self, request_id: str, wait: float) -> None:
        """Have the thread listen, for a request that nobody may wait for yet."""
        with self._lock:
            self._waiting.setdefault(request_id, [])
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="matching-caller", daemon=True)
                thread.start()
                self._thread = thread  # only now: there may be no room for it, and the next caller tries again
            subscription = self._subscription
        try:
            subscription.result(min(max(wait, SHORTEST_SUBSCRIBE_SECONDS), SUBSCRIBE_SECONDS))
        except (TimedOut, RedisUnavailable) as error:
            raise RedisUnavailable(
                "nobody could listen for the answer: the matching request was not published"
            ) from error

    def _expect(self, request_id: str, answer: Future[MatchingResult]) -> None:
        with self._lock:
            self._waiting.setdefault(request_id, []).append(answer)

    def _kept(self, request_id: str) -> MatchingResult | MatchingFailed | None:
        """The result of a request, or why it has failed, as far as either is kept."""
        stored = self._stored(request_id)
        if stored is not None:
            return stored
        found = self._clients.temp_data.get(MATCHING_FAILURES, request_id)
        if not isinstance(found, dict):
            return None
        return _failure(msgspec.convert({**found, "request_id": request_id}, _Told))

    def _stored(self, request_id: str) -> MatchingResult | None:
        found = self._clients.temp_data.get(MATCHING_RESULTS, request_id)
        return _result(msgspec.convert({**found, "request_id": request_id}, _Told)) if isinstance(found, dict) else None

    def _run(self) -> None:
        while not self._has_ended():
            try:
                self._listen()
            except RedisUnavailable as error:
                self._give_up(error)
            except Exception as error:  # the thread must go on: nobody else would hear an answer
                _logger.exception("listening for the answers to matching requests failed; it is tried again")
                self._give_up(RedisUnavailable(type(error).__qualname__))
            threading.Event().wait(PAUSE_SECONDS)
        self._clients.redis.close()

    def _give_up(self, error: RedisUnavailable) -> None:
        """Tell those who wait for the subscription that there is none; who comes now waits for the next one."""
        with self._lock:
            failed, self._subscription = self._subscription, Future()
        if not failed.done():
            failed.set_exception(error)

    def _has_ended(self) -> bool:
        """Asked by the thread: whether it is to end, after which it counts as gone."""
        with self._lock:
            if self._is_needed():
                return False
            self._thread = None  # who comes all the same starts another
            return True

    def _is_needed(self) -> bool:
        return bool(self._waiting) or self._is_current()

    def _listen(self) -> None:
        channel = self._keys.service_channel(SERVICE)
        with Listener(self._clients.redis, channels=[channel], ignoring=_IGNORES_NOTHING) as listener:
            self._subscription.set_result(None)
            self._look_for_all()
            while self._goes_on():
                for message in listener.hear(wait_seconds=LISTEN_SECONDS).messages:
                    if self._waiting:
                        self._hear(message.text)

    def _goes_on(self) -> bool:
        """Asked by the thread: whether it is to listen on. Who comes after a no waits until it listens again."""
        with self._lock:
            if not self._is_needed():
                self._subscription = Future()
            return self._is_needed()

    def _look_for_all(self) -> None:
        """What was told while nobody listened is kept."""
        with self._lock:
            waiting = [request_id for request_id, answers in self._waiting.items() if answers]
        for request_id in waiting:
            with suppress(UnreadableValue, msgspec.ValidationError):  # its caller sees it when time is up
                kept = self._kept(request_id)
                if kept is not None:
                    self._tell(request_id, kept)

    def _hear(self, text: bytes) -> None:
        try:
            event = self._decoder.decode(text)
        except msgspec.DecodeError:
            return  # somebody else's message on a channel that is open to all
        request_id = event.data.request_id or ""
        if event.type == ConnectBotEvents.MATCHING_COMPLETED:
            self._tell(request_id, _result(event.data))
        elif event.type == ConnectBotEvents.MATCHING_FAILED:
            self._tell(request_id, _failure(event.data))

    def _tell(self, request_id: str, answer: MatchingResult | MatchingFailed) -> None:
        with self._lock:
            waiting = list(self._waiting.get(request_id, ()))
        for one in waiting:
            with suppress(Exception):  # it was told before, or does not wait any more
                if isinstance(answer, MatchingFailed):
                    one.set_exception(answer)
                else:
                    one.set_result(answer)


def _current() -> MatchingCaller:
    """The one for whoever asks now. One thread opens it, others that come meanwhile wait."""
    with _locks.setdefault(os.getpid(), threading.Lock()):
        return _caller(generation())


_locks: dict[int, threading.Lock] = {}
"""Process → what is held while its caller is opened. A forked child must not wait for a thread of its parent."""


@lru_cache(maxsize=1)
def _caller(opened_in: tuple[int, int]) -> MatchingCaller:
    """The one of this process: a forked child listens anew, and so does a process whose settings were changed."""
    return MatchingCaller(Clients.open(default_site.settings()), lambda: opened_in == generation())


def _question(
    users: Iterable[int], type_: str, employees: People | None, request_id: str | None, deadline: float | None
) -> dict[str, Any]:
    return {
        "users": list(users),
        "type": type_,
        "employees": None if employees is None else [msgspec.to_builtins(one) for one in employees],
        "request_id": request_id or str(uuid.uuid4()),
        "deadline": deadline,
    }


def _result(told: _Told) -> MatchingResult:
    return MatchingResult(
        request_id=told.request_id or "", pairs=told.pairs, unmatched=told.unmatched, algorithm=told.algorithm
    )


def _failure(told: _Told) -> MatchingFailed:
    return MatchingFailed(told.reason, f"matching request {told.request_id} has failed")
