"""How many tasks wait in Celery's queues: lists in the broker's Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from connectbot.redis_client import RedisClient, translated_errors

_PRIORITIES: Final = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""kombu keeps messages of other priorities than 0 in lists of their own (``priority_steps``)."""


def tasks_waiting(client: RedisClient, queues: Sequence[str]) -> Mapping[str, int]:
    """Queue → tasks that wait in it. ``client`` is one of the broker's Redis. Raises `RedisUnavailable`."""
    with translated_errors(), client.pipeline(transaction=False) as pipe:
        for queue in queues:
            for suffix in _PRIORITIES:
                pipe.llen(queue + suffix)
        found = pipe.execute()
    each = len(_PRIORITIES)
    return {queue: sum(found[nth * each : (nth + 1) * each]) for nth, queue in enumerate(queues)}
