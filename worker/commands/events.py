"""``connectbot events``: publish events by hand, and watch what comes."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Final

import click
import msgspec

from connectbot import events as wire
from connectbot.clients import Clients
from connectbot.entries import Entry
from connectbot.errors import BacklogFull, MalformedEvent, RedisUnavailable
from connectbot.events import KNOWN_TYPES, Event, UserId, is_known, new_event
from connectbot.keys import Keys
from connectbot.redis_client import translated_errors
from connectbot.tracing.trace import is_entry_id
from worker.commands.common import LIMIT, USER_ID, Age, Failed, counted, json_option, opened, printable
from worker.commands.trace import iso, trace

AT_ONCE: Final = 500
PAGE: Final = 100
WAIT_MS: Final = 500
RECONNECT_SECONDS: Final = 1.0


@click.group()
def events() -> None:
    """Events: publish some, watch them come, see where one is."""


events.add_command(trace)


# --- publishing -----------------------------------------------------------------------------------------


class Line(msgspec.Struct):
    """One event to be published, as a line of JSON says it; other fields, such as v21's ``source``, are ignored."""

    type: str
    data: dict[str, Any] = {}
    user_id: UserId | None = None
    channel: str = ""
    id: str = ""

    def event(self, ours: Clients) -> Event:
        """The event. Raises `MalformedEvent` when it has no type, is too large or for no channel."""
        if not self.type:
            raise MalformedEvent("its type is empty")
        made = new_event(
            self.type,
            self.data,
            channel=_channel(ours.settings.keys, self.channel, self.user_id),
            user_id=self.user_id,
            event_id=self.id or None,
        )
        if (size := len(wire.encode(made))) > (most := ours.settings.max_event_bytes):
            raise MalformedEvent(f"it has {size:,} bytes, more than CONNECTBOT_MAX_EVENT_BYTES ({most:,})")
        return made


def _known_types(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return sorted(type_ for type_ in KNOWN_TYPES if type_.startswith(incomplete))


@events.command()
@click.argument("type_", metavar="TYPE", required=False, shell_complete=_known_types)
@click.argument("data", default="{}")
@click.option("--user", "user_id", type=USER_ID, help="The user whom it concerns.")
@click.option("--channel", default="", help="global, user:ID or service:NAME; by default the user's, else global.")
@click.option("--id", "id_", default="", help="The event's id; by default a random one.")
@click.option("--lines", is_flag=True, help="Read many from standard input: a JSON object a line, without TYPE.")
@json_option()
def publish(type_: str | None, data: str, *, lines: bool, as_json: bool, **of_one: Any) -> None:
    """Publish an event of TYPE, such as user.created, with DATA, a JSON object or - for standard input.

    With --lines each line names its own: {"type": ..., "data": {...}, "user_id": ..., "channel": ..., "id": ...}, of
    which only type is needed. They are published by the hundred; when it fails, it says from which line on nothing was,
    or perhaps nothing, when the answer of Redis did not come.
    """
    if lines == (type_ is not None) or (lines and any(value not in (None, "") for value in of_one.values())):
        raise click.UsageError("name a TYPE, or give --lines and no other option: each line says it all")
    ours = opened()
    if type_ is None:
        count = _publish_lines(ours, sys.stdin.buffer)
        click.echo(json.dumps({"published": count}) if as_json else f"{counted(count, 'event')} published")
        return
    event = _one(ours, type_, data, **of_one)
    if not is_known(type_):
        click.echo(f"note: no event {printable(type_)} is known here; workers will pass over it", err=True)
    ours.publisher.publish(event)
    click.echo(json.dumps({"published": 1, "id": event.id}) if as_json else f"published, its id is {event.id}")


def _one(ours: Clients, type_: str, data: str, *, user_id: int | None, channel: str, id_: str) -> Event:
    text = sys.stdin.buffer.read() if data == "-" else data.encode("utf-8", "surrogateescape")
    try:
        read = msgspec.json.decode(text, type=dict[str, Any])
        return Line(type_, read, user_id, channel, id_).event(ours)
    except (msgspec.DecodeError, UnicodeDecodeError, MalformedEvent) as error:
        raise Failed(f"the event cannot be published: {error}; DATA is a JSON object, such as '{{\"a\": 1}}'") from None


def _publish_lines(ours: Clients, lines: Iterable[bytes]) -> int:
    """Publish a line each. Answers how many; a fault, or Ctrl-C, says how many there were before it."""
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    count, first = 0, 1
    try:
        while chunk := list(islice(numbered, AT_ONCE)):
            first, _ = chunk[0]
            ours.publisher.publish(*[_read_line(ours, number, line) for number, line in chunk])
            count, first = count + len(chunk), chunk[-1][0] + 1
    except (BacklogFull, MalformedEvent) as fault:
        raise type(fault)(f"{counted(count, 'event')} published, nothing from line {first} on: {fault}") from fault
    except (RedisUnavailable, KeyboardInterrupt) as end:  # what was sent may have arrived without an answer
        told = f"{counted(count, 'event')} published, perhaps nothing from line {first} on"
        if isinstance(end, RedisUnavailable):
            raise RedisUnavailable(f"{told}: {end}") from end
        click.echo(f"connectbot: {told}", err=True)
        raise
    return count


def _read_line(ours: Clients, number: int, line: bytes) -> Event:
    try:
        return msgspec.json.decode(line, type=Line).event(ours)
    except (msgspec.DecodeError, UnicodeDecodeError, MalformedEvent) as error:
        raise MalformedEvent(f"line {number} is no event: {error}") from None


def _channel(keys: Keys, name: str, user_id: int | None) -> str:
    """The channel by its short name, or by its own. Raises `MalformedEvent`."""
    if not name:
        return keys.global_channel if user_id is None else keys.user_channel(user_id)
    short = name.removeprefix(f"{keys.namespace}:")
    if short != "global" and not re.fullmatch(r"user:-?\d{1,19}|service:.+", short):
        raise MalformedEvent(f"{name!r} is no channel: it is global, user:ID or service:NAME")
    return f"{keys.namespace}:{short}"


# --- watching -------------------------------------------------------------------------------------------


class Start(click.ParamType[str]):
    """Where to begin in the stream: ``now``, ``start``, an age or an entry's id; an age becomes ``"90.0s"``."""

    name = "start"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same, checked."""
        if value in ("now", "start") or is_entry_id(value):
            return str(value)
        return f"{Age().convert(value, param, ctx)}s"


@events.command()
@click.option(
    "--from",
    "start",
    type=Start(),
    default="now",
    show_default=True,
    metavar="WHERE",
    help="now; start, the oldest that is kept; an age such as 15m or 2h; or the id of an entry, to begin behind it.",
)
@click.option("--type", "types", multiple=True, help="Only this type, or a pattern such as 'user.*'; may be repeated.")
@click.option("--limit", type=LIMIT, help="End after so many.")
@click.option("--no-follow", is_flag=True, help="End when everything that is there has been shown.")
@click.option("--payload", is_flag=True, help="Show the data of each event, too; it may be confidential.")
@json_option("Print a JSON object a line.")
def tail(*, start: str, types: Sequence[str], limit: int | None, no_follow: bool, payload: bool, as_json: bool) -> None:
    """Show events as they enter the stream: time (UTC), id, type, user and channel, until Ctrl-C.

    It takes nothing away from the workers. An event that comes back after a failure is shown again, with its lane.
    """
    ours = opened()
    after = _after(ours, start)
    entries = (
        entry
        for entry in _entries(ours, after, follow=not no_follow)
        if not types or any(fnmatchcase(entry.type, pattern) for pattern in types)
    )
    with suppress(KeyboardInterrupt):
        for entry in islice(entries, limit):
            said = _said(entry, payload=payload)
            click.echo(json.dumps(said) if as_json else _readable(said, ours.settings.keys))


def _after(ours: Clients, start: str) -> str:
    """The entry behind which to begin."""
    with translated_errors():
        if start == "now":
            newest = ours.redis.xrevrange(ours.settings.keys.events, count=1)
            return newest[0][0].decode() if newest else "0-0"
        if start == "start" or is_entry_id(start):
            return "0-0" if start == "start" else start
        seconds, _ = ours.redis.time()  # ids are made by Redis' clock
    return f"{max(0, int((seconds - float(start.removesuffix('s'))) * 1000))}-0"


def _entries(ours: Clients, after: str, *, follow: bool) -> Iterator[Entry]:
    """Entries behind ``after``; with ``follow`` for ever, through outages of Redis."""
    away = False
    while True:
        try:
            rows = _read(ours, after, wait_ms=WAIT_MS if follow else None)
        except RedisUnavailable as fault:
            if not follow:
                raise
            if not away:
                click.echo(f"connectbot: {fault}; this goes on when it is back", err=True)
            away = True
            time.sleep(RECONNECT_SECONDS)
            continue
        away = False
        for id_, fields in rows:
            yield Entry.read(id_, fields)
        if rows:
            after = rows[-1][0].decode()
        elif not follow:
            return


def _read(ours: Clients, after: str, *, wait_ms: int | None) -> Sequence[tuple[bytes, Mapping[bytes, bytes]]]:
    key = ours.settings.keys.events
    with translated_errors():
        reply = ours.redis.xread({key: after}, count=PAGE, block=wait_ms)
    return reply[0][1] if reply else ()


def _said(entry: Entry, *, payload: bool) -> dict[str, Any]:
    """What is shown of an entry."""
    time_ms = int(entry.id.partition("-")[0])
    said: dict[str, Any] = {"time": iso(time_ms / 1000), "entry_id": entry.id, "type": entry.type}
    if entry.lane:
        said |= {"lane": entry.lane, "attempts": entry.attempts}
    try:
        event = entry.event()
    except MalformedEvent as error:
        return said | {"error": str(error)}
    said |= {"id": event.id, "type": event.type, "user_id": event.user_id, "channel": event.channel}
    return said | ({"data": event.data} if payload else {})


def _readable(said: Mapping[str, Any], keys: Keys) -> str:
    at = said["time"][:23].replace("T", " ")
    if "error" in said:
        return printable(f"{at}  entry {said['entry_id']}  {said['type'] or '?'}  cannot be read: {said['error']}")
    user = "-" if said["user_id"] is None else f"user {said['user_id']}"
    channel = said["channel"].removeprefix(f"{keys.namespace}:")
    line = f"{at}  {said['id']:36}  {said['type']:20}  {user:10}  {channel}"
    if "lane" in said:
        line += f"  (again in the lane {said['lane']}, after {said['attempts']} attempts)"
    shown = printable(line.rstrip())
    return f"{shown}\n    {printable(json.dumps(said['data'], ensure_ascii=False))}" if "data" in said else shown
