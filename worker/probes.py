"""The probes of a process: ``/livez``, ``/readyz`` and ``/metrics``, for every worker and every beat."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from celery import bootsteps
from celery.concurrency.solo import TaskPool as SoloPool
from celery.signals import worker_shutting_down
from celery.worker import state

from connectbot.errors import ConnectBotError, SettingsError
from connectbot.settings import Settings
from connectbot.watching.processes import Process
from connectbot.watching.redis_problems import redis_problems
from connectbot.watching.servers import servers
from tasks.process import clients
from worker.health import Health, RedisWatch
from worker.metrics import Metrics
from worker.probe_server import Answer, ProbeServer
from worker.pulse import Pulse, pulses
from worker.routing import LANES

logger = logging.getLogger(__name__)

OFF: Final = "off"
CELERY_PART: Final = "event loop of Celery"
POOL_PART: Final = "pool of processes"
LOOP_SECONDS: Final = 1.0
NO_LANE: Final = f"this worker serves no lane: neither {' nor '.join(LANES)} is among its queues (-Q)"


class Probes:
    """The probes of this process, and what they stand on."""

    def __init__(self, settings: Settings, process: Process, *, look: Callable[[], None] = lambda: None) -> None:
        self._server = None if settings.probes == OFF else self._listen(settings)
        address = self._server.address if self._server else ""
        process = msgspec.structs.replace(process, probes=address, started_at=time.time())
        self._watch = RedisWatch(settings, process, look=look)
        self.health = Health(pulses, self._watch, lanes=process.lanes)
        self._metrics = Metrics(settings, process, self.health, pulses)
        for lane in process.lanes:
            pulses.of_lane(lane)

    def run(self) -> None:
        """Begin."""
        self._watch.run(still=self.health.standing_still)
        if self._server:
            self._server.run()
            logger.info("probes answer at http://%s/livez, /readyz and /metrics", self._server.address)

    def stop(self) -> None:
        """End."""
        self._watch.stop()
        if self._server:
            self._server.stop()

    def _listen(self, settings: Settings) -> ProbeServer | None:
        pages = {
            "/livez": lambda: answer(self.health.why_not_alive()),
            "/readyz": lambda: answer(self.health.why_not_ready()),
            "/metrics": lambda: Answer(*self._metrics.page()),
        }
        try:
            return ProbeServer(settings.probes, pages)
        except SettingsError as error:
            logger.error("this process works without probes: %s", error)  # noqa: TRY400 - the sentence says it all
            return None


def answer(reasons: Sequence[str]) -> Answer:
    """The page of a probe: 200, or 503 with the reasons."""
    body = json.dumps({"ok": not reasons, "reasons": reasons}) + "\n"
    return Answer(body.encode(), 503 if reasons else 200, "application/json")


# --- where they join a worker ---------------------------------------------------------------------------


class WorkerProbes(bootsteps.StartStopStep):
    """Runs the probes of a worker, whether Celery's own connection stands or not."""

    requires = ("celery.worker.components:Pool",)  # the pool's first processes are forked before there is a thread

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._probes: Probes | None = None

    def start(self, parent: Any) -> None:
        """The worker begins."""
        settings = clients().settings
        lanes = tuple(lane for lane in LANES if lane in parent.app.amqp.queues.consume_from)
        self._probes = Probes(settings, Process(role="worker", name=str(parent.hostname), pid=os.getpid(), lanes=lanes))
        if not lanes:
            logger.error(NO_LANE)
            self._probes.health.flaw = NO_LANE
        worker_shutting_down.connect(self._drain)
        self._probes.run()
        warn_of_redis(settings)

    def stop(self, parent: Any) -> None:
        """The worker has done its last work."""
        if self._probes is not None:
            self._probes.stop()

    def terminate(self, parent: Any) -> None:
        """The worker ends at once."""
        self.stop(parent)

    def _drain(self, **_: Any) -> None:
        if self._probes is not None:
            self._probes.health.draining = True


class LoopPulse(bootsteps.StartStopStep):
    """Feels the pulse of Celery's own event loop, by its timer, and that of the pool.

    A solo pool does its tasks in that loop: how long it stands still says nothing there.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._entry: Any = None

    def start(self, parent: Any) -> None:
        """Celery has a connection: its loop begins, or begins again."""
        if isinstance(parent.pool, SoloPool):
            return
        loop, pool = pulses.of(CELERY_PART), PoolPulse(parent.pool, pulses.of(POOL_PART))
        loop.move()

        def feel() -> None:
            loop.move()
            pool.feel()

        feel()
        self._entry = parent.timer.call_repeatedly(LOOP_SECONDS, feel)

    def stop(self, parent: Any) -> None:
        """Celery has lost its connection, or shuts down."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None


class PoolPulse:
    """Whether the processes of a pool take what they are given.

    One that hangs *in* a task runs into the task's time limit. One that hangs before it has taken its task (stopped,
    or kept from running) has no limit yet, and the task waits for it alone, although others are idle.
    """

    def __init__(self, pool: Any, pulse: Pulse) -> None:
        self._pool = pool
        self._pulse = pulse
        self._untaken: set[str] = set()

    def feel(self) -> None:
        """The pool moves while all its processes are busy, or nothing waits that waited when it last moved."""
        active = {request.id for request in state.active_requests}
        waiting = {request.id for request in state.reserved_requests} - active
        if len(active) >= self._pool.num_processes or not self._untaken & waiting:
            self._pulse.move()
            self._untaken = waiting


def warn_of_redis(settings: Settings) -> None:
    """Say loudly, when a worker begins, what of Redis' configuration puts events or tasks at risk."""
    for server in servers(settings):
        client = server.client()
        try:
            for problem in redis_problems(client, server):
                level = logging.WARNING if problem.is_advice else logging.ERROR
                logger.log(level, "%s %s", problem.cause, problem.remedy)
        except ConnectBotError as reason:
            logger.warning("Redis' configuration could not be looked at: %s", reason)
        except Exception as error:  # an ACL may forbid INFO; the work does not depend on it
            logger.warning("Redis' configuration could not be looked at: %s", error)
        finally:
            client.close()
