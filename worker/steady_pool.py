"""Celery's pool of processes, made to keep its place in what they tell, and to replace at once whoever has ended.

What a process tells of a failed task, with its traceback, may be more than a pipe hands over at once. Celery reads it
bit by bit, by a generator that its event loop holds; and when the broker is lost, Celery empties the loop. The rest was
then read as if something new began there: the task seemed to go on until its time limit, so did what its process did
next, and some day what was read so was no pickle, which ended the worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from inspect import GEN_CLOSED, getgeneratorstate
from typing import Any, Final
from weakref import WeakKeyDictionary

from celery.concurrency.asynpool import AsynPool, ResultHandler
from celery.concurrency.prefork import TaskPool

MOMENT_SECONDS: Final = 0.5


class _Results(ResultHandler):
    """Reads what the processes tell."""

    _hub: Any
    fileno_to_outq: dict[int, Any]
    on_state_change: Callable[..., Any]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._half_read: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # process: the generator that reads

    def drain(self, process: Any) -> bool:
        """Read what a process that is gone was telling. Answers whether its pipe is where something new begins."""
        reading = self._half_read.pop(process, ())
        try:
            return not any(True for _ in reading)  # the first time that it has to wait, it waits for ever
        except (OSError, EOFError):
            return False

    def _finish_partial_read(self, fd: int, proc: Any) -> Any:
        """Asked for when the worker ends, of what the loop is reading: put that there, for it may have been emptied."""
        if self._hub and proc in self._half_read:
            add_reader = self._hub.add_reader
            add_reader(fd, self._recv_message(add_reader, fd, self.on_state_change))
        return super()._finish_partial_read(fd, proc)  # type: ignore[misc] # its stub has few methods

    def _recv_message(self, add_reader: Callable[..., Any], fd: int, callback: Callable[..., Any]) -> Iterator[None]:
        process = self.fileno_to_outq[fd]
        reading = self._half_read.get(process)
        if reading is None:
            reading = super()._recv_message(add_reader, fd, callback)  # type: ignore[misc] # its stub has few methods
        self._half_read[process] = reading
        try:
            for _ in reading:  # not `yield from`: this generator goes with the loop, and would take that one along
                yield
        finally:
            if getgeneratorstate(reading) == GEN_CLOSED:
                self._half_read.pop(process, None)


class _Processes(AsynPool):
    ResultHandler = _Results
    _result_handler: _Results

    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        """One has ended. Its pipe closes a moment before it can be joined; Celery tries once, and again 5 s later."""
        until = time.monotonic() + MOMENT_SECONDS
        while proc.exitcode is None and time.monotonic() < until:
            time.sleep(0.001)
        super()._event_process_exit(hub, proc)  # type: ignore[misc]

    def process_flush_queues(self, proc: Any) -> None:
        """Read what a process has told before it was gone."""
        if self._result_handler.drain(proc):
            super().process_flush_queues(proc)


class SteadyPool(TaskPool):
    """What a worker's tasks run in (Celery: ``worker_pool``)."""

    Pool = _Processes
