"""One lane of the stream, read by one worker and handed out to that worker's own pool.

The consumer never waits for the work. It reads while few batches are in flight, so that what waits stays in the
stream; it gives orders to its own worker only, so that a batch and its entries live and die together.

Whenever something is not as it should be (Redis was away, an order may be lost, others have taken over), the consumer
does not try to mend its registration: it leaves it and registers anew. What it held then goes to an heir, most likely
itself, like the entries of any consumer that died.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Final

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Entry
from connectbot.errors import FenceLost, RedisUnavailable
from connectbot.log import about
from connectbot.redis_client import told_of
from worker.appetite import Appetite
from worker.burial import burial
from worker.in_flight import InFlight
from worker.orders import End, Pool
from worker.planning import MOST_DEATHS, Order, Planner
from worker.pulse import pulses
from worker.routing import DEFAULT, LANES, TASK_TIME_LIMIT_SECONDS, Route, batch_size, time_limit_seconds
from worker.stragglers import Stragglers

logger = logging.getLogger(__name__)

HEARTBEATS_A_LEASE: Final = 5
"""Each renews the lease and looks after the lane."""
READ_WAIT_SECONDS: Final = 0.5
RECOVERY_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
"""A worker none of whose tasks succeeds leaves what it held to others, who look at each heartbeat of theirs."""
UNEXPECTED_PAUSE_SECONDS: Final = 2.0
"""What is not foreseen will most likely happen again: it must fill neither the log nor Redis."""
MOST_WAITING_BATCHES: Final = 4
"""Most batches that an heir may have waiting: where many die at once, the rest is left to other heirs."""
RELEASE_AT_ONCE: Final = 1000


class _Renounced(Exception):
    """This registration is of no use any more; the next one goes on."""


class LaneConsumer:
    """Reads one lane as long as it runs. ``most_in_flight`` bounds the batches handed out and not finished."""

    def __init__(
        self,
        clients: Clients,
        *,
        lane: str,
        routes: Sequence[Route],
        pool: Pool,
        worker: str,
        most_in_flight: int,
    ) -> None:
        self._clients = clients
        self._stream = clients.stream
        self._settings = clients.settings
        self._lane = lane
        most = batch_size(lane, clients.settings)
        self._planner = Planner(lane, routes)
        self._pool = pool
        self._worker = worker
        self._most_in_flight = most_in_flight
        # Waiting must not make a heartbeat late.
        self._wait_seconds = min(READ_WAIT_SECONDS, clients.settings.lease_seconds / HEARTBEATS_A_LEASE / 2)
        self._pulse = pulses.of_lane(lane)

        self._name = self._told = ""
        self._changed = threading.Condition()
        self._in_flight = InFlight(self._changed, self._on_end)
        self._ended: deque[tuple[Order, End]] = deque()
        self._waiting: deque[Order] = deque()
        self._stragglers = Stragglers(clients.settings)
        self._appetite = Appetite(most=most, largest_bytes=clients.settings.max_event_bytes)
        self._not_left: list[str] = []
        self._next_heartbeat = 0.0
        self._pause_seconds = RECOVERY_PAUSE_SECONDS
        self._draining = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"consumer-{lane}", daemon=True)

    def run(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def drain(self) -> None:
        """Read nothing more and give back what is not begun, but stay alive until the rest has been finished."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def stop(self, *, timeout_seconds: float = 5.0) -> None:
        """Leave now: what is not finished goes to an heir."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)

    # --- registration ---------------------------------------------------------------------------------

    def _run(self) -> None:
        with about(lane=self._lane):
            while not self._stopping:
                try:
                    self._serve()
                except (RedisUnavailable, FenceLost, _Renounced) as reason:
                    self._tell_once(f"begins anew: {reason}")
                    self._pause(self._pause_seconds)
                except Exception:
                    logger.exception("consumer %s begins anew after an unexpected error", self._name)
                    self._pause(UNEXPECTED_PAUSE_SECONDS)

    def _tell_once(self, trouble: str) -> None:
        """Say what is wrong, but not again at each attempt to register: an outage may last for hours."""
        if trouble != self._told:
            logger.warning("consumer %s %s", self._name, trouble)
        self._told = trouble

    def _serve(self) -> None:
        self._register()
        try:
            while not self._stopping:
                self._pulse.move()
                self._heartbeat_if_due()
                self._settle_ended()
                if self._draining:
                    self._give_back()
                if self._has_room():
                    self._hand_out_next()
        except RedisUnavailable:
            self._clients.distrust_connections()
            raise
        finally:
            self._leave()

    def _register(self) -> None:
        self._name = f"{self._lane}.{self._worker}.{uuid.uuid4().hex[:8]}"
        self._ended.clear()
        self._waiting.clear()
        self._stragglers.forget()
        self._appetite.forget()
        self._stream.ensure_lanes(LANES)
        self._leave_earlier_ones()
        self._stream.register(self._lane, self._name, lease_seconds=self._settings.lease_seconds)
        self._pulse.hold_lease(seconds=self._settings.lease_seconds)
        self._next_heartbeat, self._told = 0.0, ""
        logger.info("consumer %s reads lane %s", self._name, self._lane)

    def _leave_earlier_ones(self) -> None:
        """Redis was away when they ended: what they hold must not wait until their leases run out."""
        while self._not_left:
            self._stream.leave(self._lane, self._not_left[-1])
            self._not_left.pop()

    def _leave(self) -> None:
        self._pulse.hold_lease(seconds=0)
        self._in_flight.forget()
        try:
            self._stream.leave(self._lane, self._name)
        except Exception as error:  # it must not hide why the consumer leaves
            logger.warning(
                "consumer %s could not give up its lease, which runs out by itself: %s", self._name, told_of(error)
            )
            self._not_left.append(self._name)

    # --- the heartbeat: stay alive, inherit, release, trim ----------------------------------------------

    def _heartbeat_if_due(self) -> None:
        if time.monotonic() < self._next_heartbeat:
            return
        self._next_heartbeat = time.monotonic() + self._settings.lease_seconds / HEARTBEATS_A_LEASE
        if not self._stream.renew_lease(self._name, lease_seconds=self._settings.lease_seconds):
            raise _Renounced("its lease had run out")
        self._pulse.hold_lease(seconds=self._settings.lease_seconds)
        self._miss_lost_orders()
        if self._draining:
            return
        self._recall_stragglers()
        self._inherit()
        self._stream.release_delayed(self._lane, limit=RELEASE_AT_ONCE)
        self._stream.trim(keep=self._settings.stream_keep)

    def _miss_lost_orders(self) -> None:
        """Whatever may become of an order in Celery, its entries must not wait for ever."""
        patience = time_limit_seconds(self._lane, self._settings) + TASK_TIME_LIMIT_SECONDS
        if self._in_flight.silent_seconds > patience:
            self._pause_seconds = LONGEST_PAUSE_SECONDS
            raise _Renounced(f"an order was not heard of for {patience:g} s")

    def _inherit(self) -> None:
        if sum(order.batch.count for order in self._waiting) >= MOST_WAITING_BATCHES * self._appetite.most:
            return
        limit = self._appetite.limit_of_ours
        taken = self._stream.take_over(self._lane, self._name, limit=limit)
        self._appetite.note(taken.entries, ours=len(taken.entries))
        if len(taken.entries) >= limit:
            self._next_heartbeat = 0.0  # there is more, and it need not wait
        for name in taken.fallen:
            logger.warning("consumer %s is gone: %s takes over its entries", name, self._name)
        self._hand_out_again(taken.entries)

    # --- handing out ------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether there is room for another batch; waits a little for it when there is not."""
        with self._changed:
            if self._ended:
                return False
            if self._draining or self._in_flight.weight >= self._most_in_flight:
                self._changed.wait(self._wait_seconds)
                return False
            return True

    def _hand_out_next(self) -> None:
        if not self._waiting:
            limit, wait_seconds = self._appetite.limit, self._wait_seconds
            entries = self._stream.read(self._lane, self._name, limit=limit, wait_seconds=wait_seconds)
            ours = self._pick_ours(entries)
            self._appetite.note(entries, ours=len(ours))
            most = self._appetite.limit_of_ours
            self._waiting.extend(self._planner.orders_for_news(self._name, ours, most=most))
        if self._waiting:
            self._hand_out(self._waiting.popleft())

    def _hand_out_again(self, entries: Sequence[Entry]) -> None:
        self._waiting.extend(self._planner.orders_for_suspects(self._name, self._pick_ours(entries)))

    def _hand_out(self, order: Order) -> None:
        order_id, limit = self._in_flight.add(order), time_limit_seconds(self._lane, self._settings)
        self._pool.send(order_id, order.task, order.batch, time_limit_seconds=limit)

    def _on_end(self, order: Order, end: End, pid: int | None) -> None:
        """Called by Celery's main thread."""
        if end is End.DONE:
            self._pause_seconds = RECOVERY_PAUSE_SECONDS
            self._stragglers.note(order, pid)
        else:
            self._ended.append((order, end))

    def _give_back(self) -> None:
        """Celery begins nothing any more: what has not begun need not wait until the rest has ended."""
        orders = [*self._in_flight.take_back(), *self._waiting]
        self._waiting.clear()
        for order in orders:
            self._stream.hand_back(order.batch)

    def _pick_ours(self, entries: Sequence[Entry]) -> list[Entry]:
        """Acknowledge at once what this lane has no task for, and answer the others."""
        ours = self._planner.ours(entries)
        if len(ours) == len(entries):
            return ours
        mine = {entry.id for entry in ours}
        foreign = [entry for entry in entries if entry.id not in mine]
        effects = Effects()
        unknown = sum(map(self._planner.is_unknown, foreign))
        if unknown and self._lane == DEFAULT:  # one lane counts for all
            effects.add_if_it_can_be(self._stream.counting("unknown_type", unknown))
        self._stream.commit(self._lane, self._name, [entry.id for entry in foreign], effects)
        return ours

    # --- orders that did not end well --------------------------------------------------------------------

    def _settle_ended(self) -> None:
        while self._ended:
            order, end = self._ended.popleft()
            if end is End.FAILED:
                self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
                raise _Renounced("a task failed: its batch is handed out again")
            self._settle_crashed(order)

    def _settle_crashed(self, order: Order) -> None:
        """Hand out again what is left of a batch that its process did not end; bury an entry that was alone in it."""
        batch, left = order.batch, self._stream.redeliver(order.batch)
        if not left:
            return
        what = "a process died, or took too long, over %d entries of lane %s from %s on"
        logger.error(what, len(left), self._lane, batch.first)
        if len(left) == 1 and batch.count == 1 and left[0].deaths >= MOST_DEATHS:
            effects = burial(self._clients, left[0], order)
            self._stream.commit(self._lane, self._name, [left[0].id], effects)
        else:
            self._hand_out_again(left)

    def _recall_stragglers(self) -> None:
        for order in self._stragglers.overdue():
            first, last = order.batch.first, order.batch.last
            if self._stream.pending(self._lane, self._name, limit=1, first=first, last=last):
                self._settle_crashed(order)

    def _pause(self, seconds: float) -> None:
        with self._changed:
            if not self._stopping:
                self._changed.wait(seconds)
