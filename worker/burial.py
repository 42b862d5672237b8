"""What is written when an event becomes a dead letter because processes have died over it, again and again."""

from __future__ import annotations

import logging
from typing import Final

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Entry
from connectbot.errors import MalformedEvent
from connectbot.log import about

logger = logging.getLogger(__name__)

REASON: Final = "killed_its_process"


def burial(clients: Clients, entry: Entry, *, lane: str, consumer: str) -> Effects:
    """The effects to be committed with the entry."""
    attempts = entry.attempts + entry.deaths
    with about(event_id=_event_id(entry), attempt=attempts):
        logger.error("entry %s becomes a dead letter: its process died %d times", entry.id, entry.deaths)
    error = f"the process that worked on it died or took too long, {entry.deaths} times"
    effects = Effects()
    effects.add(clients.stream.burying(lane, entry, reason=REASON, error=error, attempts=attempts))
    if clients.tracer:
        told = clients.tracer.working(
            _event_id(entry),
            entry,
            lane=lane,
            consumer=consumer,
            end="dead",
            reason=REASON,
            attempts=attempts,
            deliveries=entry.deliveries - 1,  # the last one was for us, to bury it
        )
        effects.add(*told)
    return effects


def _event_id(entry: Entry) -> str:
    try:
        return entry.event().id
    except MalformedEvent:
        return ""
