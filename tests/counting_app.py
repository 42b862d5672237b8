"""The worker's own app, with a slow task for users that counts: its effects and, apart from them, its own runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.events import ConnectBotEvents as Types
from tasks import menus
from tasks.base import Received, event_task
from worker import app
from worker.bootstep import EventConsumers
from worker.orders import OrderRequest
from worker.routing import DEFAULT, Route, table

__all__ = ["app"]

EFFECTS = "test:effects"
"""Hash: id of an event → how often its effects were applied."""
BEGUN = "test:begun"
"""Hash: id of an event → how often somebody has begun to work on it."""
WORK_SECONDS = 0.002


@event_task("tests.follow_users", reads=menus.UserEvent)
def follow(ours: Clients, received: Sequence[Received]) -> Effects:
    with ours.redis.pipeline(transaction=False) as pipe:
        for one in received:
            pipe.hincrby(BEGUN, one.event.id, 1)
        pipe.execute()
    effects = menus.follow(ours, received)
    effects.add(*(("HINCRBY", EFFECTS, one.event.id, 1) for one in received))
    time.sleep(WORK_SECONDS * len(received))
    return effects


follow.Request = OrderRequest
EventConsumers.routes = table(Route(Types.USER_UPDATED, DEFAULT, follow))
