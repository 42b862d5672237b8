"""The worker's own app with one route more: ``celery -A worker.chaos.app worker`` is what chaos attacks."""

from __future__ import annotations

from connectbot.settings import Settings
from worker import app
from worker.bootstep import EventConsumers
from worker.chaos.count import CHAOS_COUNT, count
from worker.orders import OrderRequest
from worker.routing import DEFAULT, Route, table

__all__ = ["app"]

EventConsumers.routes = table(*EventConsumers.routes, Route(CHAOS_COUNT, DEFAULT, count))
count.Request = OrderRequest  # the app may have been finalized by the imports above, and given it to its own tasks

# Kombu's keys know no namespace: without this, a worker of chaos would take orders meant for the operator's workers.
app.conf.broker_transport_options = {
    **app.conf.broker_transport_options,
    "global_keyprefix": f"{Settings.load().namespace}:celery:",
}
