"""Enqueueing a task through the stream, for callers who may lose none: docs/enqueueing.md says when.

The module has another name than the function, because ``connectbot.enqueue`` is the function.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

from connectbot.events import JAVA_TASKS, ConnectBotEvents, new_event
from connectbot.integration.site import default_site, generation
from connectbot.publisher import EventPublisher
from connectbot.redis_client import connect
from connectbot.settings import Settings
from connectbot.tracing.trace import Tracer


class NamedTask(Protocol):
    """A Celery task, as far as it matters here."""

    @property
    def name(self) -> str:
        """The name by which Celery knows it."""


def enqueue(task: str | NamedTask, /, *args: Any, **kwargs: Any) -> str:
    """Have a task of the worker run, once or more, whatever happens to workers and brokers meanwhile.

    ``task`` is a Celery task or its name, such as ``"menus.rebuild"``; ``args`` and ``kwargs`` are its arguments, of
    values that JSON has. Answers the id of the event that stands for it; the task sees it as its task id.

    When this returns, the task is in the stream. Raises `BacklogFull`, `RedisUnavailable` or `MalformedEvent`; it is
    not there then, except that after `RedisUnavailable` it may be.
    """
    settings, publisher = _opened(generation())
    name = task if isinstance(task, str) else task.name
    event = new_event(
        ConnectBotEvents.JAVA_TASK_ENQUEUED if name.startswith(JAVA_TASKS) else ConnectBotEvents.TASK_ENQUEUED,
        {"task": name, "args": args, "kwargs": kwargs},
        channel=settings.keys.service_channel("tasks"),
    )
    publisher.publish(event)
    return event.id


@lru_cache(maxsize=1)
def _opened(_generation: tuple[int, int]) -> tuple[Settings, EventPublisher]:
    """What this process publishes with: a child never uses its parent's connections."""
    settings = default_site.settings()
    tracer = Tracer(settings.keys, settings.trace_share)
    return settings, EventPublisher(
        connect(settings.redis_url),
        keys=settings.keys,
        room=settings.room,
        largest_bytes=settings.max_event_bytes,
        tracer=tracer,
    )
