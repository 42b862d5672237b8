"""Redis is away: noticed once, by the first call that fails; from then on nobody waits for it in vain.

While it is away, calls fail at once; while it only refuses to write, such as with a full disk, those that write.
One thread alone looks whether it is back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Final

from connectbot.errors import RedisUnavailable

PAUSES_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 3.0)
"""Between two looks at a Redis that is away; the last one again and again."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Absence:
    """One time in which Redis was away; ``began_at`` is in epoch seconds, ``seconds`` None while it lasts.

    ``refuses_writes`` tells that what only reads is answered.
    """

    cause: str
    began_at: float
    refuses_writes: bool = False
    seconds: float | None = None


class Outage:
    """What the threads of this process know together of Redis being away.

    ``recover`` is called by a thread of its own: it raises `RedisUnavailable` as long as Redis cannot serve, then
    does what has waited for that, and answers whether all of it is done.
    """

    def __init__(self, recover: Callable[[], bool]) -> None:
        self._recover = recover
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked = 0
        self._closed = threading.Event()
        self._began = 0.0  # monotonic
        self._now: Absence | None = None
        self._last: Absence | None = None
        self._guards = {writes: _Guard(self, writes=writes) for writes in (True, False)}

    @property
    def now(self) -> Absence | None:
        """What is known of Redis being away; None while it serves."""
        return self._now

    @property
    def last(self) -> Absence | None:
        """The last time that Redis was away and came back."""
        return self._last

    @property
    def reads(self) -> bool:
        """Whether what only reads is answered."""
        now = self._now
        return now is None or now.refuses_writes

    def guarding(self, *, writes: bool = True) -> AbstractContextManager[None]:
        """Around what needs Redis: raises `RedisUnavailable` at once while it is away, and notices when it goes.

        ``writes`` tells whether it does more than read.
        """
        return self._guards[writes]

    def require(self, *, writes: bool) -> None:
        """Raise `RedisUnavailable` while Redis is away, or only refuses to write and that is what ``writes`` wants."""
        if (now := self._now) is not None:
            if self._thread is None:
                self.look_after()  # there was no room for a thread when Redis went
            if writes or not now.refuses_writes:
                raise RedisUnavailable(now.cause, refuses_writes=now.refuses_writes)

    def begin(self, error: RedisUnavailable) -> None:
        """Redis is away, or away in another way, as somebody has just seen."""
        with self._lock:
            now = self._now
            is_news = now is None or now.refuses_writes != error.refuses_writes
            if is_news:
                if now is None:
                    self._began = time.monotonic()
                began_at = time.time() if now is None else now.began_at
                self._now = Absence(str(error), began_at, refuses_writes=error.refuses_writes)
        self.look_after()
        if is_news:  # told without the lock: a handler of the log may come back to here
            what = "writing to Redis until it takes that" if error.refuses_writes else "Redis until it is back"
            _logger.warning("going on without %s: %s", what, error)

    def end(self) -> None:
        """Redis is back, as somebody has just seen."""
        with self._lock:
            if (now := self._now) is None:
                return
            seconds = time.monotonic() - self._began
            self._last, self._now = replace(now, seconds=seconds), None
        _logger.info("Redis is back after %.1f s", seconds)

    def look_after(self) -> None:
        """See to it that a thread looks after Redis, and after what waits for it, until both are well."""
        with self._lock:
            self._asked += 1
            if self._thread is None and not self._closed.is_set():
                thread = threading.Thread(target=self._watch, name="connectbot-outage", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # the interpreter is about to end, or may have no more threads: who asks next tries again
                self._thread = thread

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def finish(self, *, wait_seconds: float) -> None:
        """Let the thread finish what it is at, unless Redis is away."""
        thread = self._thread
        if thread is not None and self._now is None:
            thread.join(wait_seconds)

    # --- the thread -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        pauses = chain(PAUSES_SECONDS, repeat(PAUSES_SECONDS[-1]))
        while not self._closed.is_set():
            asked = self._asked
            if not self._recovered():
                self._closed.wait(next(pauses))
            elif self._leave(asked):
                return

    def _recovered(self) -> bool:
        try:
            return self._recover()
        except RedisUnavailable as error:
            self.begin(error)
        except Exception:  # the thread must go on: nobody else would see that Redis is back
            _logger.exception("looking after Redis failed; it is tried again")
        return False

    def _leave(self, asked: int) -> bool:
        """End the thread, unless it was asked for again since it looked. Who asks after that starts another."""
        with self._lock:
            if asked == self._asked:
                self._thread = None
            return self._thread is None


class _Guard:
    """A context manager without a state, around each call: made as a generator it would take three times as long."""

    def __init__(self, outage: Outage, *, writes: bool) -> None:
        self._outage = outage
        self._writes = writes

    def __enter__(self) -> None:
        self._outage.require(writes=self._writes)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RedisUnavailable):
            self._outage.begin(error)
