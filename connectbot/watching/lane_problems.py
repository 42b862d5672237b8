"""What is wrong with the work: the lanes, the schedule, dead letters and the circuit breaker, by their figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from connectbot.java.circuit_breaker import State
from connectbot.settings import Settings
from connectbot.watching.figures import Figures, LaneFigures
from connectbot.watching.processes import Process, Seen
from connectbot.watching.redis_problems import FULL_SHARE, Problem

OLD_SECONDS: Final = 60.0
BEAT_SILENT_SECONDS: Final = 30.0
GROWING_FROM: Final = 1000


def lane_problems(lane: LaneFigures, settings: Settings, seen: Sequence[Seen] = ()) -> Iterator[Problem]:
    """What is wrong with one lane. ``seen`` are the processes of the installation, to name who hangs."""
    if not lane.consumers:
        yield _nobody_consumes(lane, seen)
    if lane.backlog >= settings.max_backlog * FULL_SHARE:
        yield Problem(
            "backlog_full",
            f"{events(lane.backlog)} wait in lane {lane.lane}; at {settings.max_backlog:,} publishing fails.",
            f"Start more workers for it (celery -A worker worker -Q {lane.lane}), or raise CONNECTBOT_MAX_BACKLOG.",
        )
    if lane.consumers and lane.oldest_age_seconds > OLD_SECONDS:
        yield Problem(
            "backlog_old",
            f"The oldest of {events(lane.backlog)} in lane {lane.lane} has waited {lane.oldest_age_seconds:.0f} s.",
            "Start more workers for the lane, or look in the log of its worker for what holds it up.",
        )


def _nobody_consumes(lane: LaneFigures, seen: Sequence[Seen]) -> Problem:
    waiting = f", with {events(lane.backlog)} waiting" if lane.backlog else ""
    workers = [one for one in seen if one.process.role == "worker" and _serves(one, lane.lane)]
    for one in workers:
        process = one.process
        if one.is_silent:
            return Problem(
                "no_consumer",
                f"No consumer of lane {lane.lane} lives{waiting}: worker {process.name} (pid {process.pid}) has not "
                f"been heard of for {one.silent_seconds:.0f} s, so it hangs, was killed or is cut off.",
                "Restart it.",
            )
        return Problem(
            "no_consumer",
            f"Worker {process.name} (pid {process.pid}) runs, but its consumer of lane {lane.lane} is dead or stuck"
            f"{waiting}.",
            _restart(process),
        )
    for one in seen:
        if one.process.role == "worker" and not one.process.lanes and not one.is_silent:
            return Problem(
                "no_consumer",
                f"No worker serves lane {lane.lane}{waiting}: worker {one.process.name} (pid {one.process.pid}) runs, "
                "but its -Q names no lane.",
                f"Start it anew with -Q {lane.lane}.",
            )
    return Problem(
        "no_consumer",
        f"No worker serves lane {lane.lane}{waiting}.",
        f"Start one: celery -A worker worker -Q {lane.lane}.",
    )


def _restart(process: Process) -> str:
    return f"Restart it; http://{process.probes}/livez says what stands still." if process.probes else "Restart it."


def process_problems(figures: Figures, seen: Sequence[Seen]) -> Iterator[Problem]:
    """Processes that say themselves that a part of them stands still. A lane without any consumer is told elsewhere."""
    told = {f"lane {lane.lane}" for lane in figures.lanes if not lane.consumers}
    for one in seen:
        parts = [part for part in one.still if part not in told]
        if parts:
            process = one.process
            yield Problem(
                "stands_still",
                f"{process.role.capitalize()} {process.name} (pid {process.pid}) runs, but its "
                f"{' and its '.join(parts)} stood still when it was last heard of: what it was given waits.",
                _restart(process),
            )


def events(number: int) -> str:
    """So many events, in words."""
    return "1 event" if number == 1 else f"{number:,} events"


def _serves(one: Seen, lane: str) -> bool:
    return lane in one.process.lanes


def beat_problems(figures: Figures, seen: Sequence[Seen], waiting: Mapping[str, int]) -> Iterator[Problem]:
    """Whether the schedule ticks. A tick is a task of the queue ``default``: without a worker nothing can be said.

    ``waiting`` tells how many tasks wait in each of Celery's queues.
    """
    if figures.last_tick is not None and figures.now - figures.last_tick <= BEAT_SILENT_SECONDS:
        return
    if any(lane.lane == "default" and not lane.consumers for lane in figures.lanes):
        return
    beats = [one for one in seen if one.process.role == "beat"]
    if any(one.still for one in beats):  # told by `process_problems`
        return
    waited = _seconds_to_tick(seen)
    if waited <= BEAT_SILENT_SECONDS:
        yield Problem(
            "beat_begins",
            f"The schedule has not ticked in the {waited:.0f} s for which beat and a worker for it have run.",
            f"Look again in {BEAT_SILENT_SECONDS:.0f} s.",
            is_advice=True,
        )
    elif (tasks := waiting.get("default")) and any(not one.is_silent for one in beats):
        yield Problem(
            "ticks_wait",
            f"The schedule {_ticked(figures)}: what beat sends waits in Celery's queue default, where tasks wait: "
            f"{tasks:,}.",
            "Start more workers for it (celery -A worker worker -Q default); Flower shows what they are at.",
        )
    else:
        yield _beat_silent(figures, beats)


def _beat_silent(figures: Figures, beats: Sequence[Seen]) -> Problem:
    silent = next((one for one in beats if one.is_silent), None)
    if silent is not None:
        process = silent.process
        why = f": beat {process.name} (pid {process.pid}) has not been heard of for {silent.silent_seconds:.0f} s"
    else:
        why = ", although a beat runs" if beats else ", and no beat runs"
    return Problem(
        "beat_silent",
        f"The schedule {_ticked(figures)}{why}.",
        "Restart it; its log says what it waits for." if beats else "Start one: celery -A worker beat.",
    )


def _ticked(figures: Figures) -> str:
    return f"ticked last {figures.now - figures.last_tick:.0f} s ago" if figures.last_tick else "has never ticked"


def _seconds_to_tick(seen: Sequence[Seen]) -> float:
    """For how long there have been both: a beat, and a worker of the lane ``default``, which does what it sends."""
    living = [one for one in seen if not one.is_silent]
    beats = [one.age_seconds for one in living if one.process.role == "beat"]
    workers = [one.age_seconds for one in living if _serves(one, "default")]
    return min(max(ages, default=math.inf) for ages in (beats, workers)) if beats else math.inf


def other_problems(figures: Figures) -> Iterator[Problem]:
    """Dead letters, the circuit breaker, and temporary data that does not expire."""
    if figures.dead:
        yield Problem(
            "dead_letters",
            f"There are dead letters, events that could not be handled: {figures.dead:,}.",
            "See why with `connectbot dead list`, then replay or drop them.",
        )
    if figures.breaker != State.CLOSED.value:
        yield _breaker(figures)
    if figures.temp_data_overdue > GROWING_FROM:
        yield Problem(
            "temp_data_overdue",
            f"{figures.temp_data_overdue:,} pieces of temporary data are overdue: their owners were not told yet.",
            "Start more workers for the lane default.",
        )


def _breaker(figures: Figures) -> Problem:
    parked = f"jobs parked: {sum(lane.parked for lane in figures.lanes):,}"
    if oldest := max((lane.oldest_parked_age_seconds for lane in figures.lanes), default=0.0):
        parked += f", the oldest of them {oldest:.0f} s old"
    if figures.breaker == State.HALF_OPEN.value:
        return Problem(
            "breaker_half_open",
            f"The circuit breaker of the Java service is half open: it lets a few jobs pass; {parked}.",
            "Nothing is to be done: the next calls decide whether it closes.",
            is_advice=True,
        )
    by_hand = figures.breaker == State.FORCED_OPEN.value
    return Problem(
        "breaker_open",
        f"The circuit breaker of the Java service is {figures.breaker.replace('_', ' ')}; {parked}.",
        "An operator has forced it open: `connectbot java release` lets the jobs go on."
        if by_hand
        else "Look after the Java service: the jobs go on by themselves when it is well, and none is lost.",
    )
