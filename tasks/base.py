"""What makes a Celery task of a handler of events.

A handler is a plain function ``handle(clients, received) -> Effects``. It cannot forget to acknowledge: its effects
and the acknowledgement are committed together. Instead of effects it may raise `Later` or `Never`; anything else
that it raises is a failure, tried again with a growing delay. A handler that fails on many events at once is called
again on halves of them, until the one that it cannot stand is alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from celery import shared_task
from celery.exceptions import Ignore
from celery.utils.log import get_task_logger

from connectbot.entries import Batch
from connectbot.errors import FenceLost
from connectbot.events import Event, reader
from connectbot.log import about
from tasks.batch_run import BatchRun
from tasks.process import clients_for
from tasks.work import Deadline, Farewell, Handler, Work
from tasks.work import Received as Received

logger = get_task_logger(__name__)


def event_task(
    name: str,
    *,
    reads: type[Event] = Event,
    farewell: Farewell | None = None,
    one_by_one: bool = False,
    deadline: Deadline | None = None,
) -> Callable[[Handler], Any]:
    """Make a Celery task of a handler. Its only argument is the order for a `Batch`, which the consumer gives.

    ``reads`` is what the handler's events are read as: a subclass of `Event` may say what it wants of their data, so
    that nothing else of it is looked at, and what does not fit becomes a dead letter (``malformed``). ``farewell`` has
    further effects for an event that becomes a dead letter. ``one_by_one``: the handler gets each event alone, several
    at once in threads. ``deadline`` tells until when, in epoch seconds, an event that was put aside must come back.

    The consumer finds the `Work` as the task's attribute ``work``.
    """

    def decorate(handle: Handler) -> Any:
        work = Work(handle, farewell, one_by_one, deadline, read=reader(reads))
        attributes: dict[str, Any] = {"work": work}

        @shared_task(name=name, ignore_result=True, acks_late=True, **attributes)
        def run(**order: Any) -> int:
            batch = msgspec.convert(order, Batch)
            ours = clients_for(batch.lane, batch.consumer)
            with about(task_id=run.request.id, lane=batch.lane):
                try:
                    return BatchRun(ours, batch, work).run()
                except FenceLost as lost:
                    logger.warning("batch given up: %s", lost)
                    # Not done: where only one entry has found another owner, the consumer hands out again what is left.
                    raise Ignore from lost
                except MemoryError:
                    # Where a task raises that, Celery ends the whole worker.
                    raise RuntimeError("the process has run out of memory") from None

        return run

    return decorate
