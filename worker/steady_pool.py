"""Celery's pool of processes, made to keep its place in what they tell.

What a process tells of a failed task, with its traceback, may be more than a pipe hands over at once. Celery reads it
bit by bit, by a generator that its event loop holds; and when the broker is lost, Celery empties the loop. The rest was
then read as if something new began there: the task seemed to go on until its time limit, so did what its process did
next, and some day what was read so was no pickle, which ended the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import GEN_CLOSED, getgeneratorstate
from typing import Any
from weakref import WeakKeyDictionary

from celery.concurrency.asynpool import AsynPool, ResultHandler
from celery.concurrency.prefork import TaskPool


class _Results(ResultHandler):
    """Reads what the processes tell."""

    fileno_to_outq: dict[int, Any]

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

    def process_flush_queues(self, proc: Any) -> None:
        """Read what a process has told before it was gone."""
        if self._result_handler.drain(proc):
            super().process_flush_queues(proc)


class SteadyPool(TaskPool):
    """What a worker's tasks run in (Celery: ``worker_pool``)."""

    Pool = _Processes
