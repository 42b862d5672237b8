"""The threads in which a process makes its calls. They live as long as the process, and so outlive a task.

A task returns when its last call has begun, not when the slowest has ended: a call that hangs until its time is up
costs its own thread and none of the others. What is still under way then is looked after by the consumer of the lane
(worker/stragglers.py), for a process that dies can tell nobody.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from threading import BoundedSemaphore

from celery.signals import worker_process_shutdown

logger = logging.getLogger(__name__)


class Callers:
    """A pool of ``at_once`` threads."""

    def __init__(self, at_once: int) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="caller")
        self._free = BoundedSemaphore(at_once)

    def work(self, jobs: Sequence[Callable[[], None]], *, to_the_end: bool) -> None:
        """Begin each of the jobs, in their order, as soon as a thread is free; and wait for them, ``to_the_end``.

        Raises what the first of them raises, if it does so by then, and begins no more of them.
        """
        begun, errors = [], list[BaseException]()
        for job in jobs:
            self._free.acquire()
            if errors:
                self._free.release()
                break
            begun.append(self._threads.submit(self._do, job, errors))
        if to_the_end:
            wait(begun)
        if errors:
            raise errors[0]

    def finish(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown()

    def _do(self, job: Callable[[], None], errors: list[BaseException]) -> None:
        try:
            job()
        except BaseException as error:  # nor may who asks to end the process (SystemExit) leave an event behind
            logger.warning("an event is left to be handed out again: %s", type(error).__qualname__)
            errors.append(error)
        finally:
            self._free.release()


def callers(at_once: int) -> Callers:
    """Those of the running process."""
    return _callers(os.getpid(), at_once)


@lru_cache(maxsize=1)
def _callers(_pid: int, at_once: int) -> Callers:
    made = Callers(at_once)
    worker_process_shutdown.connect(lambda **_: made.finish(), weak=False)
    return made
