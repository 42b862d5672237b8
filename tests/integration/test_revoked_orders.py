"""An operator revokes, in Flower or by ``celery control``, the task that works on a batch of events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from celery import Celery

from connectbot.clients import Clients
from connectbot.settings import Settings
from tests.support import Worker, active_orders, wait_until


def test_its_events_are_handed_out_again(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, batch_time_limit_seconds=60)  # it is not for the time it takes that it ends
    ours.publisher.publish_global_event("user.created", {"user": {"id": 7}, "poison": "hold"})
    with (
        Worker(settings, tmp_path, lanes=["default"], app="tests.poisoned_app"),
        Celery(broker=settings.broker_url, set_as_current=False) as app,
        app.connection_for_write() as connection,
    ):
        wait_until(lambda: ours.redis.llen("test:held") == 1, deadline_seconds=30, what="the order to be worked on")
        orders = wait_until(lambda: active_orders(app), deadline_seconds=30, what="the order")
        app.control.revoke(orders, terminate=True, signal="SIGKILL", connection=connection)
        wait_until(lambda: ours.redis.llen("test:held") == 2, deadline_seconds=30, what="another order for the event")
        ours.redis.set("test:released", 1)
        wait_until(lambda: ours.redis.hlen(settings.keys.users) == 1, deadline_seconds=30, what="the effect")
        wait_until(
            lambda: ours.redis.xpending(settings.keys.events, "default")["pending"] == 0,
            deadline_seconds=20,
            what="nothing pending",
        )
    assert ours.redis.xlen(settings.keys.dead) == 0
