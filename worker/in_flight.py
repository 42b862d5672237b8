"""The orders that one consumer has handed out and not heard the end of."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from worker.orders import End, open_orders
from worker.planning import Order


@dataclass(slots=True)
class _Open:
    order: Order
    heard_of_at: float
    pid: int | None = None
    """Of the process that has begun with it."""


class InFlight:
    """Those of one consumer. Celery's main thread tells what becomes of them, the consumer's own thread asks.

    ``on_end`` is told, while ``changed`` is held, how an order has ended and in which process.
    """

    def __init__(self, changed: threading.Condition, on_end: Callable[[Order, End, int | None], None]) -> None:
        self._changed = changed
        self._on_end = on_end
        self._open: dict[str, _Open] = {}
        self._heard_at = 0.0

    def add(self, order: Order) -> str:
        """Remember an order that is to be handed out. Answers its id."""
        order_id = str(uuid.uuid4())
        with self._changed:
            self._open[order_id] = _Open(order, time.monotonic())
        open_orders.open(order_id, self)
        return order_id

    def begun(self, order_id: str, pid: int) -> None:
        """A process has begun with it."""
        with self._changed:
            self._heard_at = time.monotonic()
            if one := self._open.get(order_id):
                one.heard_of_at, one.pid = self._heard_at, pid

    def ended(self, order_id: str, end: End) -> None:
        """It has ended, one way or another."""
        with self._changed:
            self._heard_at = time.monotonic()
            if one := self._open.pop(order_id, None):
                self._on_end(one.order, end, one.pid)
            self._changed.notify_all()

    @property
    def weight(self) -> float:
        """How many whole batches they make."""
        with self._changed:
            return sum(one.order.weight for one in self._open.values())

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last news of the quietest order. One not begun waits for others, and their news counts."""
        with self._changed:
            heard = (
                one.heard_of_at if one.pid else max(one.heard_of_at, self._heard_at) for one in self._open.values()
            )
            return max((time.monotonic() - at for at in heard), default=0.0)

    def take_back(self) -> list[Order]:
        """Those that no process has begun with, which are forgotten here."""
        with self._changed:
            taken = {id_: one.order for id_, one in self._open.items() if one.pid is None}
            for order_id in taken:
                del self._open[order_id]
        for order_id in taken:
            open_orders.forget(order_id)
        return list(taken.values())

    def forget(self) -> None:
        """They are of no interest any more. One that Celery has lost must not be remembered for ever."""
        with self._changed:
            order_ids = tuple(self._open)
            self._open.clear()
        for order_id in order_ids:
            open_orders.forget(order_id)
