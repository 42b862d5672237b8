"""Whether this process is alive and ready: what ``/livez`` and ``/readyz`` answer.

*Alive* means that all its parts move: it serves to restart a process that cannot help itself. A Redis that is away, or
refuses what is written, is no reason: a restart would help nobody, and a worker that is restarted over and over is late
when Redis is back. So what stands still while Redis does not serve counts from Redis' return. *Ready* means that work
is taken: Redis, and the broker's where that is another, takes what is written to it, and the worker serves
a lane, and holds the lease of each that it serves.

Redis is asked every two seconds by a thread of its own. So a check costs next to nothing, and is answered at once even
while Redis hangs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import redis

from connectbot.errors import RedisUnavailable
from connectbot.redis_client import try_to_write
from connectbot.settings import Settings
from connectbot.watching.processes import NOTE_SECONDS, Process, Processes
from connectbot.watching.servers import ANSWER_SECONDS, servers
from worker.pulse import Pulses

logger = logging.getLogger(__name__)

STUCK_SECONDS: Final = 15.0
"""A part that has not moved for so long stands still. The slowest turn of any part, with every timeout, is shorter."""
UNHEARD_SECONDS: Final = 8.0
"""When the last answer of Redis is older, even the thread that asks is stuck."""


class RedisWatch:
    """Asks Redis, and the broker's where that is another, and keeps this process in the list of all processes.

    ``look`` is called after each good answer.
    """

    def __init__(self, settings: Settings, process: Process, *, look: Callable[[], None] = lambda: None) -> None:
        self._process = process
        self._look = look
        self._still: Callable[[], Iterable[str]] = tuple
        self._keys = settings.keys
        main, *broker = servers(settings)
        self._broker = broker[0].client() if broker else None
        self._processes = Processes(main.client(), settings.keys)
        self.answered_at = time.monotonic()
        self.failed_at = 0.0
        self.fault = "Redis was not asked yet"
        self.refuses = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redis-watch", daemon=True)

    def run(self, *, still: Callable[[], Iterable[str]] = tuple) -> None:
        """Begin. ``still`` tells the parts of this process that stand still: the list shows them, too."""
        self._still = still
        self._thread.start()

    def stop(self, *, timeout_seconds: float = 2 * ANSWER_SECONDS) -> None:
        """End, and wait for that."""
        self._stopping.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._ask()
            self._stopping.wait(NOTE_SECONDS)
        try:
            self._processes.forget(self._process)
        except RedisUnavailable:
            logger.debug("Redis is away: it forgets this process by itself")

    def _ask(self) -> None:
        whose = ""
        try:
            # Written, because a full disk stops only writing.
            self._processes.note(self._process, still=tuple(self._still()))
            if self._broker is not None:
                whose = "the broker's "
                try_to_write(self._broker, self._keys.probe)
                whose = ""
            self._look()
        except Exception as error:  # this thread must outlive whatever may be wrong with Redis
            self.failed_at = time.monotonic()
            self.fault = whose + (str(error) if isinstance(error, RedisUnavailable) else f"Redis refuses: {error}")
            self.refuses = isinstance(error.__cause__ or error, redis.ResponseError)
        else:
            self.answered_at = time.monotonic()
            self.fault, self.refuses = "", False


class Health:
    """The state of this process. ``lanes`` are those that must hold a lease; ``draining`` is set when it ends.

    ``flaw`` is set when it was started in a way that has it take no work, ever.
    """

    def __init__(self, pulses: Pulses, watch: RedisWatch, *, lanes: Sequence[str]) -> None:
        self._pulses = pulses
        self._watch = watch
        self._lanes = lanes
        self.draining = False
        self.flaw = ""

    @property
    def redis_answers(self) -> bool:
        """Whether Redis has answered us lately."""
        return not self._watch.fault and time.monotonic() - self._watch.answered_at < UNHEARD_SECONDS

    @property
    def redis_can_be_read(self) -> bool:
        """Whether Redis has answered us lately, be it that it takes nothing: its disk or its memory is full."""
        return self.redis_answers or self._watch.refuses

    def standing_still(self) -> dict[str, float]:
        """The parts that stand still → for how many seconds; empty when the process is alive."""
        if self.draining:
            return {}
        now = time.monotonic()
        moved = {pulse.part: now - max(pulse.moved_at, self._watch.failed_at) for pulse in self._pulses}
        return {part: seconds for part, seconds in moved.items() if seconds > STUCK_SECONDS}

    def why_not_alive(self) -> list[str]:
        """The reasons why the process is not alive; empty when it is."""
        return [f"the {part} has stood still for {seconds:.0f} s" for part, seconds in self.standing_still().items()]

    def why_not_ready(self) -> list[str]:
        """What keeps the process from taking work; empty when it is ready."""
        if self.draining:
            return ["the process is shutting down"]
        reasons = [self.flaw] if self.flaw else []
        if self._watch.fault:
            reasons.append(self._watch.fault)
        elif time.monotonic() - self._watch.answered_at > UNHEARD_SECONDS:
            reasons.append(f"Redis has not answered for {UNHEARD_SECONDS:g} s")
        reasons += [f"no lease in lane {lane}" for lane in self._lanes if not self._pulses.of_lane(lane).holds_lease]
        return reasons
