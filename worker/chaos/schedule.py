"""What is done to whom, and when: all of it follows from a seed, so that a run can be played again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

KILL_EVERY_SECONDS: Final = 2.0
"""Pause between two attacks on workers, on average."""
OUTAGE_EVERY_SECONDS: Final = 4.0
"""Pause after the recovery from one outage before the next, on average."""
KILLS_FOR_ONE_STOP: Final = 5
KILLS_FOR_ONE_FREEZE: Final = 5


class Kind(StrEnum):
    """One kind of attack."""

    KILL = "kill"
    """SIGKILL to a worker and its pool at once."""
    KILL_MAIN = "kill_main"
    """SIGKILL to the main process: its pool is left without it for a while."""
    KILL_CHILD = "kill_child"
    """SIGKILL to one process of the pool."""
    STOP_KILL = "stop_kill"
    """SIGTERM, and SIGKILL before the worker can have finished."""
    STOP = "stop"
    """SIGTERM."""
    FREEZE = "freeze"
    """SIGSTOP to a worker and its pool, longer than a lease, then SIGCONT."""

    REDIS_KILL = "redis_kill"
    """SIGKILL to Redis."""
    REDIS_RESTART = "redis_restart"
    """SIGTERM to Redis."""
    REDIS_EMPTY = "redis_empty"
    """Redis comes back without its data."""
    REDIS_FLUSH = "redis_flush"
    """FLUSHALL."""
    REDIS_FREEZE = "redis_freeze"
    """SIGSTOP, then SIGCONT to Redis."""
    REDIS_HALF_OPEN = "redis_half_open"
    """Every connection goes silent for good; new ones find nobody for a while."""
    REDIS_READONLY = "redis_readonly"
    """Redis is the replica of a master that is not there."""
    REDIS_OOM = "redis_oom"
    """Redis has no memory left."""
    REDIS_LOADING = "redis_loading"
    """SIGKILL to Redis, which then loads its data slowly."""


KILLS: Final = (Kind.KILL, Kind.KILL, Kind.KILL, Kind.KILL, Kind.KILL_MAIN, Kind.KILL_CHILD, Kind.STOP_KILL)
"""What counts as a kill; most of them hit a whole worker."""
WIPES: Final = (Kind.REDIS_EMPTY, Kind.REDIS_FLUSH)
OUTAGES: Final = (
    *(Kind.REDIS_KILL, Kind.REDIS_HALF_OPEN, Kind.REDIS_EMPTY, Kind.REDIS_FREEZE, Kind.REDIS_RESTART),
    *(Kind.REDIS_READONLY, Kind.REDIS_OOM, Kind.REDIS_LOADING, Kind.REDIS_FLUSH),
)


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: ``pause_seconds`` after the one before it, on worker ``victim``, for ``lasts_seconds``."""

    kind: Kind
    pause_seconds: float
    victim: int = 0
    lasts_seconds: float = 0.0


def make_schedule(*, seed: int, kills: int, workers: int, redis_outages: int) -> tuple[Attack, ...]:
    """The attacks of a run, in order. SIGTERM and SIGSTOP come on top of ``kills``, one for every five of them."""
    dice = random.Random(seed)  # noqa: S311 - not for secrets
    attacks = [*_on_workers(dice, kills, workers), *_on_redis(dice, redis_outages)]
    dice.shuffle(attacks)
    return tuple(attacks)


def duration_seconds(schedule: tuple[Attack, ...]) -> float:
    """How long the attacks take, without what it takes to recover from them."""
    return sum(attack.pause_seconds + (attack.lasts_seconds if attack.kind in OUTAGES else 0) for attack in schedule)


def _on_workers(dice: random.Random, kills: int, workers: int) -> Iterator[Attack]:
    kinds = [dice.choice(KILLS) for _ in range(kills)]
    kinds += [Kind.STOP] * (kills // KILLS_FOR_ONE_STOP) + [Kind.FREEZE] * (kills // KILLS_FOR_ONE_FREEZE)
    for kind in kinds:
        yield Attack(
            kind,
            pause_seconds=KILL_EVERY_SECONDS * dice.uniform(0.2, 1.8),
            victim=dice.randrange(workers),
            lasts_seconds=dice.uniform(3, 15) if kind is Kind.FREEZE else dice.uniform(0.0, 0.5),
        )


def _on_redis(dice: random.Random, outages: int) -> Iterator[Attack]:
    for number in range(outages):
        pause = OUTAGE_EVERY_SECONDS * dice.uniform(0.5, 1.5)
        # Most outages are short; every tenth one is long enough for every timeout.
        lasts = 20.0 if number % 10 == 9 else dice.uniform(0.2, 6.0)
        yield Attack(OUTAGES[number % len(OUTAGES)], pause_seconds=pause, lasts_seconds=lasts)
