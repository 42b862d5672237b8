"""Publishing what a transaction did, once it is sure to have been done."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from django.db import transaction


def publish_on_commit(publish: Callable[..., Any], *arguments: Any, using: str | None = None, **keywords: Any) -> None:
    """Call ``publish(*arguments, **keywords)`` when the transaction commits; never, when it is rolled back.

    ``publish`` is any of v21's calls that publish, such as ``redis_integration.events.publish_user_event`` or
    ``publish_user_created``; ``using`` names the database, by default Django's. Outside of a transaction it is
    called at once. What it answers is lost, for nobody waits for it; what it raises is logged, and the calls that
    wait for the same commit still come. A process killed between the commit and the call publishes nothing.

    Raises `TypeError` for a coroutine function, which nobody would await.
    """
    if inspect.iscoroutinefunction(publish):
        raise TypeError("publish_on_commit would never await a coroutine: give it the call without `aio`")

    # A function and not a partial: Django logs the __qualname__ of a callback that raised.
    def publish_now() -> None:
        publish(*arguments, **keywords)

    transaction.on_commit(publish_now, using=using, robust=True)
