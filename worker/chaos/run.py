"""One run: load, attacks, recovery, books."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from connectbot.errors import ConnectBotError, RedisUnavailable
from connectbot.settings import Settings
from worker.chaos.fleet import Fleet
from worker.chaos.ledger import Ledger
from worker.chaos.load import Load
from worker.chaos.recovery import RecoveryWatch
from worker.chaos.schedule import KILLS, OUTAGES, WIPES, Attack, Kind, duration_seconds
from worker.chaos.scorecard import Durations, Scorecard
from worker.chaos.system import System

READY_SECONDS: Final = 60.0
STUCK_SECONDS: Final = 60.0
"""A run ends when nothing was finished for so long."""
PROBE_SECONDS: Final = 60.0
LOOK_EVERY_SECONDS: Final = 0.05
DEATHS: Final = (Kind.KILL, Kind.KILL_MAIN, Kind.STOP_KILL)
"""The attacks after which what a worker held must find others; the other ones leave the worker alive, or warn it."""


class NotReady(ConnectBotError):
    """The workers did not start."""


class Target(Protocol):
    """The Redis of a run."""

    @property
    def url(self) -> str:
        """Its address for the bookkeeper."""

    @property
    def worker_url(self) -> str:
        """Its address for the workers."""

    def start(self) -> None:
        """Make it ready."""

    def stop(self) -> None:
        """Leave nothing of the run behind."""

    def attack(self, attack: Attack) -> None:
        """Let it be away for a while; it is back when this returns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run is to do. ``events`` are spread over the time that the ``schedule`` takes."""

    events: int
    seed: int
    workers: int
    schedule: Sequence[Attack]


class Run:
    """One run against one system, on a ``target`` that has been started. ``tell`` gets a line now and then."""

    def __init__(
        self,
        plan: Plan,
        *,
        settings: Settings,
        target: Target,
        make_system: Callable[[Settings], System],
        directory: Path,
        tell: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._target = target
        self._tell = tell
        self._ledger = Ledger()
        self._done: Counter[Kind] = Counter()
        self._outage_seconds: dict[Kind, list[float]] = {}
        self._system = make_system(replace(settings, redis_url=target.url, celery_broker_url=target.url))
        self._fleet = Fleet(
            size=plan.workers,
            app=self._system.app,
            arguments=self._system.arguments,
            settings=replace(settings, redis_url=target.worker_url, celery_broker_url=target.worker_url),
            directory=directory,
        )
        self._watch = RecoveryWatch(self._system)
        seconds = duration_seconds(tuple(plan.schedule))
        self._load = Load(self._system, self._ledger, events=plan.events, seconds=seconds, seed=plan.seed)

    def play(self) -> Scorecard:
        """Play it to its end; everything is gone when this returns."""
        with ExitStack() as stack:
            stack.callback(self._fleet.end)
            self._fleet.start()
            self._wait_ready()
            self._load.start()
            stack.callback(self._load.stop)
            self._watch.start()
            begun = time.monotonic()
            self._attack()
            self._load.finish()
            self._drain()
            self._watch.stop()
            return self._score(time.monotonic() - begun)

    # --- before, meanwhile, after ---------------------------------------------------------------------

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while self._system.ready() < self._plan.workers:
            if time.monotonic() > deadline:
                raise NotReady(
                    f"{self._plan.workers} workers were not ready within {READY_SECONDS:g} s: see their logs"
                )
            time.sleep(LOOK_EVERY_SECONDS)

    def _attack(self) -> None:
        for number, attack in enumerate(self._plan.schedule, start=1):
            self._wait(attack.pause_seconds)
            self._tell(f"attack {number} of {len(self._plan.schedule)}: {attack.kind}")
            self._done[attack.kind] += 1
            if attack.kind in OUTAGES:
                self._take_redis_away(attack)
            else:
                self._attack_worker(attack)

    def _attack_worker(self, attack: Attack) -> None:
        pid = self._fleet.pid(attack.victim)
        self._fleet.attack(attack)
        if attack.kind in DEATHS:
            self._watch.died(pid, time.monotonic())
        self._fleet.replace_the_dead()

    def _take_redis_away(self, attack: Attack) -> None:
        self._watch.disturbed()
        if attack.kind in WIPES:
            with self._ledger.lock:
                unfinished = self._system.unfinished()
                self._ledger.forget(self._system.effects(), unfinished=unfinished)
                self._target.attack(attack)
        else:
            self._target.attack(attack)
        self._watch.disturbed()
        seconds = self._until_effect(time.monotonic())
        self._outage_seconds.setdefault(attack.kind, []).append(seconds)
        self._tell(f"{attack.kind} of {attack.lasts_seconds:.1f} s: an effect after {seconds:.2f} s")

    def _until_effect(self, since: float) -> float:
        """How long it takes until an event published from now on has its effect."""
        probe = None
        while (waited := time.monotonic() - since) < PROBE_SECONDS:
            try:
                if probe is None:
                    probe = self._load.publish(1)
                elif not self._system.without_effect([probe]):
                    return waited
            except RedisUnavailable:
                pass
            self._wait(LOOK_EVERY_SECONDS)
        return PROBE_SECONDS

    def _drain(self) -> None:
        self._tell("no more attacks: waiting for what is left")
        left, since = -1, time.monotonic()
        while time.monotonic() - since < STUCK_SECONDS:
            self._wait(LOOK_EVERY_SECONDS)
            try:
                now_left = len(self._system.without_effect(sorted(self._ledger.owed))) + self._system.pending()
            except RedisUnavailable:
                continue
            if now_left == 0:
                return
            if now_left != left:
                left, since = now_left, time.monotonic()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            self._fleet.replace_the_dead()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.2))

    def _stale_menus(self) -> int | None:
        roles = self._system.roles(self._ledger.users)
        return None if roles is None else self._ledger.stale(roles)

    def _score(self, seconds: float) -> Scorecard:
        verdict = self._ledger.judge(effects := self._system.effects())
        return Scorecard(
            system=self._system.name,
            seed=self._plan.seed,
            workers=self._plan.workers,
            seconds=round(seconds, 1),
            events=verdict.published,
            kills=sum(self._done[kind] for kind in set(KILLS)),
            stops=self._done[Kind.STOP],
            freezes=self._done[Kind.FREEZE],
            redis_outages=sum(self._done[kind] for kind in OUTAGES),
            lost=verdict.lost,
            doubled=verdict.doubled,
            dead_letters=self._system.dead_letters(),
            stale_menus=self._stale_menus(),
            executions_per_event=round(self._system.executions() / max(len(effects), 1), 4),
            recovery=Durations.of(self._watch.handed_out_seconds),
            recovery_to_effect=Durations.of(self._watch.effect_seconds),
            outage_to_effect=Durations.of([one for some in self._outage_seconds.values() for one in some]),
            outages={kind: Durations.of(some) for kind, some in sorted(self._outage_seconds.items())},
            pending=self._system.pending(),
            gone_with_redis=self._ledger.forgotten,
        )
