"""``connectbot temp``: temporary data, such as half-filled forms: what there is, how long it lives, and clearing it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import click
from rich.table import Column, Table

from connectbot import json_text
from connectbot.cache import Cache
from connectbot.cache_keys import temp_key, user_namespace
from connectbot.clients import Clients
from connectbot.errors import UnreadableValue
from connectbot.redis_client import translated_errors
from connectbot.temp_data import decode
from worker.commands.common import (
    LIMIT,
    USER_ID,
    Failed,
    cell,
    counted,
    duration,
    json_option,
    opened,
    output,
    printable,
)

LISTED: Final = 100
FORMS: Final = "form_data_"
"""How the keys of a user's forms begin (contract v21)."""

_SCAN_HELP: Final = "Look for what v21 has written, too: goes through all keys of Redis, in small steps."


class Row(NamedTuple):
    """One piece of temporary data; it lives for ever when nobody has given it an end."""

    namespace: str
    key: str
    expires_in_seconds: float | None

    @property
    def left(self) -> float:
        """The seconds that it will live."""
        return math.inf if self.expires_in_seconds is None else self.expires_in_seconds


@click.group()
def temp() -> None:
    """Temporary data: forms, states of conversations, results of matching."""


@temp.command("list")
@click.option("--namespace", help="Only this namespace, such as matching_results.")
@click.option("--user", "user_id", type=USER_ID, help="Only what is a user's.")
@click.option("--due", is_flag=True, help="Only what has run out, and whose event has not been published yet.")
@click.option("--limit", type=LIMIT, default=LISTED, show_default=True, help="At most so many.")
@json_option()
def list_(*, namespace: str | None, user_id: int | None, due: bool, limit: int, as_json: bool) -> None:
    """List temporary data by namespace and key, what runs out first first, without what it says.

    What v21 has written itself is not listed: `connectbot temp show --scan` looks for it in one namespace.
    """
    if (namespace is not None) + (user_id is not None) + due > 1:
        raise click.UsageError("--namespace, --user and --due exclude each other: give one of them")
    ours = opened()
    if user_id is not None:
        namespace = user_namespace(user_id)
    rows = _by_time(ours, limit, due=due) if namespace is None else _of_namespace(ours, namespace, limit)
    with translated_errors():
        total = int(ours.redis.zcard(ours.settings.keys.temp_due))
    if as_json:
        click.echo(json.dumps({"total": total, "temp_data": [row._asdict() for row in rows]}))
        return
    if rows:
        table = Table(Column("namespace", no_wrap=True), "key", "left", box=None)
        for row in rows:
            table.add_row(cell(row.namespace), cell(row.key), _left(row.expires_in_seconds))
        output().print(table)
    click.echo(f"{len(rows)} listed, {total} in all")


@temp.command()
@click.argument("namespace")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--scan", is_flag=True, help=_SCAN_HELP)
@click.option("--limit", type=LIMIT, default=LISTED, show_default=True, help="At most so many.")
@click.option("--payload", is_flag=True, help="Show what it says, too; it may be confidential.")
@json_option()
def show(*, namespace: str, keys: Sequence[str], scan: bool, limit: int, payload: bool, as_json: bool) -> None:
    """Show the keys of one NAMESPACE, or some of them: time left, kind, when it was stored.

    NAMESPACE is the id of a user, or a name such as matching_results.
    """
    ours = opened()
    namespace = _namespace(namespace)
    if not keys:
        keys = (
            ours.temp_data.all_keys_of(namespace)
            if scan
            else [row.key for row in _of_namespace(ours, namespace, limit)]
        )
    rows = [row for key in keys[:limit] if (row := _described(ours.cache, namespace, key, payload=payload))]
    if as_json:
        click.echo(json.dumps({"namespace": namespace, "keys": rows}))
    elif rows:
        _show(rows, payload=payload)
    if not rows:
        raise Failed(f"there is none of this in {namespace}: v21's own is found with --scan")


@temp.command()
@click.argument("user_ids", metavar="USER...", nargs=-1, required=True, type=USER_ID)
@click.option("--all", "everything", is_flag=True, help="All of a user's temporary data, not only the forms.")
@click.option("--scan", is_flag=True, help=_SCAN_HELP)
@json_option()
def clear(*, user_ids: Sequence[int], everything: bool, scan: bool, as_json: bool) -> None:
    """Remove the forms that users have begun to fill in; no temp.expired follows."""
    ours = opened()
    starting = "" if everything else FORMS
    cleared = 0
    for user_id in user_ids:
        namespace = user_namespace(user_id)
        keys = ours.temp_data.all_keys_of(namespace, starting=starting) if scan else ours.temp_data.keys_of(namespace)
        keys = [key for key in keys if key.startswith(starting)]
        ours.temp_data.delete(namespace, *keys)
        cleared += len(keys)
    click.echo(
        json.dumps({"cleared": cleared}) if as_json else f"{counted(cleared, 'piece')} of temporary data cleared"
    )


def _namespace(named: str) -> str:
    return user_namespace(int(named)) if named.removeprefix("-").isdecimal() else named


def _by_time(ours: Clients, limit: int, *, due: bool) -> list[Row]:
    """Out of the index that is ordered by time: no more is read than is shown."""
    now = time.time()
    found = ours.temp_data.due(now=now if due else math.inf, limit=limit)
    return [Row(one.namespace, one.key, round(one.expired_at - now, 1)) for one in found]


def _of_namespace(ours: Clients, namespace: str, limit: int) -> list[Row]:
    """Out of the index of one namespace, of which Redis is asked for little more than is shown."""
    found = ours.redis.sscan_iter(ours.settings.keys.temp_namespace(namespace), count=limit)
    with translated_errors():
        keys = {key.decode("utf-8", "replace") for key in islice(found, limit)}
    rows = [Row(namespace, key, ours.cache.ttl(temp_key(namespace, key))) for key in sorted(keys)]
    return sorted((row for row in rows if row.expires_in_seconds != 0), key=lambda row: row.left)


def _described(cache: Cache, namespace: str, key: str, *, payload: bool) -> dict[str, Any] | None:
    """What is shown of one piece; None when there is none."""
    name = temp_key(namespace, key)
    left = cache.ttl(name)
    try:
        text = cache.get(name)
        if text is None:
            return None
        record = json_text.loads(text)
        described = {"type": record.get("type"), "created_at": record.get("created_at"), "bytes": len(text.encode())}
        if payload:
            described["data"] = decode(namespace, key, text)
    except (UnreadableValue, AttributeError) as error:
        reason = str(error) if isinstance(error, UnreadableValue) else "it is no record of v21"
        described = {"type": "?", "created_at": None, "bytes": None, "error": reason}
    return {"key": key, "expires_in_seconds": None if left is None else round(left, 1), **described}


def _show(rows: Sequence[dict[str, Any]], *, payload: bool) -> None:
    table = Table(Column("key", no_wrap=True), "left", "kind", "stored at", "bytes", box=None)
    for row in rows:
        stored = str(row["created_at"] or "?")[:19].replace("T", " ")
        cells = (row["key"], _left(row["expires_in_seconds"]), row.get("error") or str(row["type"]), stored)
        table.add_row(*map(cell, cells), str(row["bytes"] or "-"))
    output().print(table)
    for row in rows if payload else ():
        if "data" in row:
            shown = json.dumps(row["data"], ensure_ascii=False, default=repr)
            click.echo(f"{printable(row['key'])}: {printable(shown)}")


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "for ever"
    return duration(seconds) if seconds > 0 else "run out"
