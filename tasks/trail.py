"""What the trace will say of one batch: added to the effects of its events, so that both come or neither."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Self

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Batch, Entry
from connectbot.events import Event
from connectbot.tracing.trace import Ending, calls_collected


class Trail:
    """The trail of one batch, from when it reaches its process. The threads that work on the batch share it."""

    def __init__(self, ours: Clients, batch: Batch) -> None:
        self._tracer = ours.tracer
        self._stream = ours.stream
        self._batch = batch
        self._begun = time.monotonic()
        self._deliveries: dict[str, int] | None = None

    @classmethod
    def of(cls, ours: Clients, batch: Batch) -> Self | None:
        """The trail of a batch; None when nothing is traced (CONNECTBOT_TRACE)."""
        return cls(ours, batch) if ours.tracer else None

    def add(self, effects: Effects, worked_on: Iterable[tuple[Entry, Event]], end: Ending, **facts: Any) -> None:
        """Say how work on some events ends, of those that are traced. ``facts`` are fields of `trace.Worked`.

        The HTTP calls are those of this thread since `trace.collect_calls`. Raises `RedisUnavailable`.
        """
        now = time.monotonic()
        for entry, event in worked_on:
            if self._tracer.follows(event.id):
                told = {
                    "consumer": self._batch.consumer,
                    "seconds": round(now - self._begun, 6),
                    "deliveries": self._delivered(entry),
                    "calls": calls_collected(now),
                    **facts,
                }
                effects.add_if_it_can_be(*self._tracer.working(event.id, entry, lane=self._batch.lane, end=end, **told))

    def _delivered(self, entry: Entry) -> int:
        """How often the entry was delivered. Only a batch that names its entries was handed out before."""
        if not self._batch.ids:
            return 1
        if self._deliveries is None:
            self._deliveries = self._stream.deliveries(self._batch)
        return self._deliveries.get(entry.id, 1)
