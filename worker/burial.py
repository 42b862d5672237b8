"""What is written when an event becomes a dead letter because processes have died over it, again and again."""

from __future__ import annotations

import logging
from typing import Final

from connectbot import aside
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Entry
from connectbot.errors import MalformedEvent
from connectbot.events import Event
from connectbot.log import about
from tasks.work import Received
from worker.planning import Order

logger = logging.getLogger(__name__)

REASON: Final = "killed_its_process"


def burial(clients: Clients, entry: Entry, order: Order) -> Effects:
    """The effects to be committed with the entry, which was alone in the order. Raises `RedisUnavailable`."""
    event, attempts, lane = _event(entry), entry.attempts + entry.deaths, order.batch.lane
    event_id, farewell = event.id if event else "", order.task.work.farewell
    with about(event_id=event_id, attempt=attempts):
        logger.error("entry %s becomes a dead letter: its process died %d times", entry.id, entry.deaths)
    error = f"the process that worked on it died or took too long, {entry.deaths} times"
    effects = Effects()
    effects.add(aside.burying(clients.settings.keys, lane, entry, reason=REASON, error=error, attempts=attempts))
    if event and farewell:
        effects.extend(farewell(clients, Received(entry, event), REASON))
    if clients.tracer:
        told = clients.tracer.working(
            event_id,
            entry,
            lane=lane,
            consumer=order.batch.consumer,
            end="dead",
            reason=REASON,
            attempts=attempts,
            deliveries=entry.deliveries - 1,  # the last one was for us, to bury it
        )
        effects.add_if_it_can_be(*told)
    return effects


def _event(entry: Entry) -> Event | None:
    try:
        return entry.event()
    except MalformedEvent:
        return None
