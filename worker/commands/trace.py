"""``connectbot events trace``: the way of one event, as it was recorded, and where it is now."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from connectbot.clients import Clients
from connectbot.events import VIA_STREAM, Event
from connectbot.tracing.event_way import Step, moment, way
from connectbot.tracing.trace import Published, Record, Tracer, is_entry_id
from connectbot.tracing.whereabouts import SEARCHED, Found, Place, Whereabouts
from worker.commands.common import Failed, json_option, opened, printable
from worker.routing import LANES, ROUTES

_THROUGH: Final = {"publisher": "by its publisher", "bridge": "through the bridge", "unknown": "nobody knows how"}
_TIMES: Final = ("until", "died_at")


@click.command()
@click.argument("id_", metavar="ID")
@json_option()
def trace(id_: str, as_json: bool) -> None:
    """Show the way of one event: published, entered, delivered, delayed, called, done or dead, with times (UTC).

    ID is that of the event, of its entry in the stream, or of its dead letter. What happened is recorded for as many
    events as CONNECTBOT_TRACE says; where an event is now can be told of all.
    """
    told = _look_up(opened(), id_)
    click.echo(json.dumps(told.shown()) if as_json else "\n".join(told.lines()))


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an event. ``note`` says why steps are missing, where they are."""

    id: str
    type: str
    steps: Sequence[Step]
    now: Sequence[Place]
    note: str

    def shown(self) -> dict[str, Any]:
        """All of it, for ``--json``."""
        steps = [{"at": iso(step.at), "what": step.what, **_readable_times(step.facts)} for step in self.steps]
        now = [_readable_times(msgspec.to_builtins(place)) for place in self.now]
        return {"id": self.id, "type": self.type, "steps": steps, "now": now, "note": self.note}

    def lines(self) -> list[str]:
        """All of it, for people."""
        lines = [f"event {self.id or '(its id cannot be read)'}  {self.type}"]
        lines += [f"  {_time(step.at)}  {step.what:9}  {_SENTENCES[step.what](step.facts)}" for step in self.steps]
        lines += [f"  now: {_place(place)}" for place in self.now]
        return [printable(line) for line in [*lines, *([self.note] if self.note else [])]]


def _look_up(ours: Clients, id_: str) -> Told:
    whereabouts = Whereabouts(ours.redis, ours.settings.keys, LANES)
    found = whereabouts.look({id_})
    event_id = found.event_id or (ours.tracer.event_of(ours.redis, id_) if is_entry_id(id_) else "") or id_
    records = ours.tracer.read(ours.redis, event_id)
    ids = {id_, event_id, *(record.entry for _, record in records if record.entry)}
    if ids != {id_}:
        found = whereabouts.look(ids)
    if not records and not found.places:
        raise Failed(
            f"nothing is known of {printable(id_)}: it is not among the newest {SEARCHED:,} entries, not put aside, "
            f"and not dead. {_note(ours.tracer, event_id)}"
        )
    type_ = found.event.type if found.event else _type(records)
    return Told(
        id=event_id if records else found.event_id,
        type=type_,
        steps=list(way(records, through=_through(found.event))) or _entered(found),
        now=_worth_telling(found.places, type_),
        note="" if records else _note(ours.tracer, event_id),
    )


def _worth_telling(places: Sequence[Place], type_: str) -> list[Place]:
    """Without lanes that only pass over such an event, and of what a lane has finished with, the newest entry only."""
    handled = {route.lane for route in ROUTES if route.type == type_} or set(LANES)
    told = [place for place in places if place.where not in ("waiting", "finished") or place.lane in handled]
    newest = {place.lane: place for place in told if place.where == "finished"}
    return [place for place in told if place.where != "finished" or place is newest[place.lane]]


def _type(records: Sequence[tuple[float, Record]]) -> str:
    return next((record.type for _, record in records if isinstance(record, Published)), "")


def _entered(found: Found) -> list[Step]:
    """What the stream itself tells of an event that was not traced."""
    entries = [place.entry for place in found.places if is_entry_id(place.entry)]
    if found.event is None or not entries:
        return []
    event, entry = found.event, min(entries, key=moment)
    facts = {"channel": event.channel, "source": event.source, "made": event.timestamp}
    return [Step(moment(entry), "entered", {"entry": entry, "through": _through(event), **facts})]


def _through(event: Event | None) -> str:
    """How an event has entered the stream, where no step says so."""
    if event is None:
        return "unknown"
    return "publisher" if event.via == VIA_STREAM else "directly, or by a bridge that did not trace it"


def _note(tracer: Tracer, event_id: str) -> str:
    if not tracer:
        return (
            "Tracing is off: to have the way of later events recorded, set CONNECTBOT_TRACE to 1, or to a share such "
            "as 0.01, for publishers and workers, and start them anew."
        )
    if not tracer.follows(event_id):
        return f"CONNECTBOT_TRACE={tracer.share:g} leaves this event out: a greater share records more of later events."
    return (
        "Nothing was recorded of its way: it came before CONNECTBOT_TRACE was set, or newer steps have pushed it out."
    )


# --- for people -----------------------------------------------------------------------------------------


def _published(facts: Mapping[str, Any]) -> str:
    return f"by {facts['by']} ({facts['source']}) on {facts['channel']}"


def _entered_as(facts: Mapping[str, Any]) -> str:
    through = _THROUGH.get(facts["through"], facts["through"])
    made = f", made {facts['made']} by {facts['source']} for {facts['channel']}" if facts.get("made") else ""
    return f"the stream as {facts['entry']}, {through}{made}"


def _delivered(facts: Mapping[str, Any]) -> str:
    return f"entry {facts['entry']} to {facts['consumer']}, delivery {facts['deliveries']}, try {facts['try']}"


def _called(facts: Mapping[str, Any]) -> str:
    answer = f"HTTP {facts['status']}" if facts["status"] else "no answer"
    return f"{facts['operation']}: {answer} after {facts['seconds']:.3f} s, try {facts['try']}"


def _put_aside(facts: Mapping[str, Any]) -> str:
    until = f", until {_time(facts['until'])}" if "until" in facts else ""
    return f"{facts.get('error', '')}{until}, attempts that count so far: {facts['attempts']}"


def _came_back(facts: Mapping[str, Any]) -> str:
    return f"to the stream as {facts['entry']}, was {facts['after']}"


def _died(facts: Mapping[str, Any]) -> str:
    why = ": ".join(facts[name] for name in ("reason", "error") if name in facts)
    last = f", with {facts['consumer']} at last" if "consumer" in facts else ""
    return f"{why}{last}, attempts that count: {facts['attempts']}"


_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "published": _published,
    "entered": _entered_as,
    "delivered": _delivered,
    "called": _called,
    "delayed": _put_aside,
    "parked": _put_aside,
    "released": _came_back,
    "replayed": _came_back,
    "dead": _died,
    "done": lambda facts: f"in the lane {facts['lane']}: its effect is committed",
}
"""What happened → how it is said."""


def _place(place: Place) -> str:
    until = f" until {_time(place.until)}" if place.until else ""
    deaths = f", {place.deaths} processes died over it" if place.deaths else ""
    return {
        "waiting": f"entry {place.entry} waits for the lane {place.lane}",
        "pending": f"entry {place.entry} is with {place.consumer} for {place.idle_seconds:.1f} s, delivery "
        f"{place.deliveries}{deaths}",
        "finished": f"the lane {place.lane} has finished with entry {place.entry}",
        "delayed": f"entry {place.entry} is delayed in the lane {place.lane}{until}",
        "parked": f"entry {place.entry} is parked in the lane {place.lane}{until}",
        "dead": f"dead letter {place.letter} of the lane {place.lane}, {place.reason}: {place.error}",
    }[place.where]


def _readable_times(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: iso(value) if name in _TIMES else value for name, value in facts.items()}


def iso(at: float) -> str:
    """Epoch seconds as a time, UTC; as the number that they are where no calendar has them."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):  # a deadline, or an id made of nanoseconds
        return repr(at)


def _time(at: float) -> str:
    return iso(at)[:23].replace("T", " ")
