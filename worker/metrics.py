"""``/metrics``: figures for Prometheus, computed when it asks.

``celery_...`` are those of celery-exporter, by its names. ``connectbot_...`` are ours. Figures of the installation
are read from Redis, and are the same in every process: take ``max by (lane)``, never their sum.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Final

from celery.worker import state
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from redis import RedisError

from connectbot.errors import RedisUnavailable
from connectbot.java.circuit_breaker import State
from connectbot.settings import Settings
from connectbot.watching.figures import Figures, LaneFigures, read_figures
from connectbot.watching.processes import Process
from connectbot.watching.queues import tasks_waiting
from connectbot.watching.redis_problems import redis_problems
from connectbot.watching.servers import servers
from worker import task_counts
from worker.health import Health
from worker.pulse import Pulses
from worker.routing import LANES

logger = logging.getLogger(__name__)

_LANE_GAUGES: Final = {
    "backlog_events": ("Events that a lane has still to do: not delivered, or delivered and not finished.", "backlog"),
    "lag_events": ("Entries of the stream that were not delivered to a lane yet.", "lag"),
    "pending_events": ("Entries delivered to a lane and not finished.", "pending"),
    "in_flight_events": ("Entries that living consumers of a lane hold.", "in_flight"),
    "delayed_events": ("Events that wait for their next try.", "delayed"),
    "parked_events": ("Events that wait for the lane's target to come back.", "parked"),
    "oldest_event_age_seconds": ("Age of the oldest event of a lane's backlog.", "oldest_age_seconds"),
    "oldest_parked_event_age_seconds": ("Age of the parked event whose turn is next.", "oldest_parked_age_seconds"),
}
_GAUGES: Final = {
    "stream_entries": ("Entries in the stream, with those kept for looking back.", "entries"),
    "dead_letters": ("Events that could not be handled.", "dead"),
    "temp_data_due": ("Pieces of temporary data that will expire.", "temp_data_due"),
    "temp_data_overdue": ("Pieces of temporary data whose expiry was not told yet.", "temp_data_overdue"),
    "users_known": ("Users whose menus are kept.", "users_known"),
    "users_with_menus": ("Users whose menus are cached now, as far as a sample of them tells.", "users_with_menus"),
}


class Metrics:
    """The metrics of one process."""

    def __init__(self, settings: Settings, process: Process, health: Health, pulses: Pulses) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_OfProcess(process, health, pulses))
        self._registry.register(_OfInstallation(settings, health))

    def page(self) -> tuple[bytes, int, str]:
        """Body, status and content type of ``/metrics``."""
        body = generate_latest(self._registry) + generate_latest(task_counts.registry)
        return body, 200, CONTENT_TYPE_LATEST


class _OfProcess(Collector):
    """What this process knows of itself."""

    def __init__(self, process: Process, health: Health, pulses: Pulses) -> None:
        self._process = process
        self._health = health
        self._pulses = pulses

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield _gauge("connectbot_alive", "Whether /livez is well.", not self._health.why_not_alive())
        yield _gauge("connectbot_ready", "Whether /readyz is well.", not self._health.why_not_ready())
        moved = GaugeMetricFamily("connectbot_pulse_age_seconds", "Time since a part last moved.", labels=["part"])
        for pulse in self._pulses:
            moved.add_metric([pulse.part], time.monotonic() - pulse.moved_at)
        yield moved
        if self._process.role == "worker":
            yield _of_worker("celery_worker_up", "Whether the worker runs.", self._process, 1)
            active = len(state.active_requests)
            yield _of_worker("celery_worker_tasks_active", "Tasks that the worker is at.", self._process, active)


class _OfInstallation(Collector):
    """What Redis knows. A Redis that is known to be away is not asked, one that only takes nothing is."""

    def __init__(self, settings: Settings, health: Health) -> None:
        self._settings = settings
        self._health = health
        self._servers = {server: server.client() for server in servers(settings)}

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        found = []
        if self._health.redis_can_be_read:
            try:
                found = list(self._read())
            except (RedisUnavailable, RedisError) as reason:  # it may also refuse: by an ACL, for a key of another type
                logger.warning("the figures of the installation are left out of /metrics: %s", reason)
        up = bool(found) and self._health.redis_answers
        yield _gauge("connectbot_redis_up", "Whether Redis answers this process, and takes what it writes.", up)
        yield from found

    def _read(self) -> Iterator[Metric]:
        clients = [*self._servers.values()]
        figures = read_figures(clients[0], self._settings, LANES)
        yield from _of_lanes(figures.lanes)
        yield from _of_whole(figures)
        lengths = GaugeMetricFamily("celery_queue_length", "Tasks waiting in a Celery queue.", labels=["queue_name"])
        for queue, waiting in tasks_waiting(clients[-1], LANES).items():
            lengths.add_metric([queue], waiting)
        yield lengths
        problems = GaugeMetricFamily(
            "connectbot_redis_problem", "What `connectbot check` finds wrong with Redis itself.", labels=["problem"]
        )
        for server, client in self._servers.items():
            for problem in redis_problems(client, server):
                problems.add_metric([problem.name], 1)
        yield problems


def _of_lanes(lanes: Iterable[LaneFigures]) -> Iterator[Metric]:
    lanes = tuple(lanes)
    for name, (what, field) in _LANE_GAUGES.items():
        gauge = GaugeMetricFamily(f"connectbot_{name}", what, labels=["lane"])
        for lane in lanes:
            gauge.add_metric([lane.lane], getattr(lane, field))
        yield gauge
    leases = GaugeMetricFamily("connectbot_consumers", "Consumers of a lane whose lease lives.", labels=["lane"])
    ages = HistogramMetricFamily(
        "connectbot_event_age_seconds", "Age of events, from the stream to their effect.", labels=["lane"]
    )
    for lane in lanes:
        leases.add_metric([lane.lane], len(lane.consumers))
        ages.add_metric([lane.lane], lane.ages.buckets, lane.ages.sum_seconds)
    yield leases
    yield ages


def _of_whole(figures: Figures) -> Iterator[Metric]:
    for name, (what, field) in _GAUGES.items():
        yield _gauge(f"connectbot_{name}", what, getattr(figures, field))
    yield _gauge(
        "connectbot_schedule_last_tick_timestamp_seconds",
        "When the schedule ticked last; 0 before its first tick.",
        figures.last_tick or 0,
    )
    breaker = GaugeMetricFamily(
        "connectbot_java_breaker_state", "1 for the state that the circuit breaker is in.", labels=["state"]
    )
    for one in State:
        breaker.add_metric([one.value], figures.breaker == one.value)
    yield breaker
    counters = CounterMetricFamily(
        "connectbot_occurrences", "What was counted since the beginning, by name.", labels=["name"]
    )
    for name, value in figures.counters.items():
        counters.add_metric([name], value)
    yield counters


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=value)


def _of_worker(name: str, what: str, process: Process, value: float) -> Metric:
    gauge = GaugeMetricFamily(name, what, labels=["hostname"])
    gauge.add_metric([process.name], value)
    return gauge
