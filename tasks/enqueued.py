"""Tasks that came through the stream (`connectbot.enqueue`): run here, and acknowledged when they are done."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from celery import current_app

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.errors import Never
from connectbot.events import read_data
from tasks import base
from tasks.base import Received, event_task

_PACKAGE = f"{__package__}."


class _Call(msgspec.Struct):
    task: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


@event_task("events.call_task", one_by_one=True)
def call_task(ours: Clients, received: Sequence[Received]) -> Effects:
    """Call the task that the event names; with the event's id as its task id, the same at every attempt.

    What the task does is done at once and is not part of the commit: when this process dies between the two, the
    task runs again.
    """
    (one,) = received
    asked = read_data(one.event, _Call)
    task = callable_tasks().get(asked.task)
    if task is None:
        raise Never("unknown_task")
    _check_arguments(task, asked)
    task.apply(args=asked.args, kwargs=asked.kwargs, task_id=one.event.id, throw=True)
    return Effects()


def callable_tasks() -> Mapping[str, Any]:
    """The tasks that an event may name: those of this package, except the ones that take orders for a batch."""
    ours = (task for task in current_app.tasks.values() if task.__module__.startswith(_PACKAGE))
    return {task.name: task for task in ours if task.__module__ != base.__name__}  # event_task is defined there


def _check_arguments(task: Any, asked: _Call) -> None:
    try:
        inspect.signature(task.run).bind(*asked.args, **asked.kwargs)
    except TypeError as error:
        raise Never("wrong_arguments") from error
