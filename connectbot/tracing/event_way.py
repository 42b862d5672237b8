"""The way of an event, step by step, as the records of its trace tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from connectbot.tracing.trace import Ending, Published, Record, Worked


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an event's way, at ``at`` (epoch seconds of Redis' clock); ``facts`` depend on ``what``."""

    at: float
    what: str
    facts: dict[str, Any]


def way(records: Iterable[tuple[float, Record]], *, through: str) -> Iterator[Step]:
    """The steps that the records of one event tell, in their order.

    ``through`` is how it has entered the stream, where no record says so.
    """
    entered: set[str] = set()
    tries: Counter[tuple[str, str]] = Counter()
    ends: dict[tuple[str, str], Ending] = {}
    for at, record in records:
        if isinstance(record, Published):
            through = "bridge" if record.bridge else "publisher"
            yield from _publishing(at, record, through)
            entered.add(record.entry)
            continue
        origin = record.origin or record.entry
        if origin not in entered:
            entered.add(origin)
            yield Step(moment(origin), "entered", {"entry": origin, "through": through})
        if record.entry != origin:
            before = ends.get((record.lane, origin))
            what = "replayed" if before == "dead" else "released"
            yield Step(moment(record.entry), what, {"entry": record.entry, "after": before or "unknown"})
        tries[record.lane, origin] += 1
        yield from _working(at, record, tries[record.lane, origin])
        ends[record.lane, origin] = record.end


def moment(entry: str) -> float:
    """When an entry came into the stream, in epoch seconds."""
    return int(entry.partition("-")[0]) / 1000


def _publishing(at: float, record: Published, through: str) -> Iterator[Step]:
    told = {name: getattr(record, name) for name in ("type", "channel", "source", "made", "by")}
    entered = moment(record.entry) if record.entry else at
    if not record.bridge:
        yield Step(entered, "published", told)
        told = {}
    if record.entry:
        yield Step(entered, "entered", {"entry": record.entry, "through": through, **told})


def _working(at: float, record: Worked, nth: int) -> Iterator[Step]:
    delivery = {"entry": record.entry, "consumer": record.consumer, "deliveries": record.deliveries, "try": nth}
    if record.seconds is not None:
        yield Step(at - record.seconds, "delivered", {"lane": record.lane, **delivery})
        delivery = {}
    for call in record.calls:
        told = {"operation": call.operation, "status": call.status, "seconds": call.seconds, "try": nth}
        yield Step(at - call.ago_seconds, "called", told)
    facts = {name: getattr(record, name) for name in ("lane", "attempts", "reason", "error", "until")}
    yield Step(
        at, record.end, {name: value for name, value in {**facts, **delivery}.items() if value not in ("", None)}
    )
