"""``connectbot menus``: the menus in the cache, warmed, rebuilt, looked at and removed by hand."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from connectbot import menu_warmer
from connectbot.cache_keys import MENU_TYPES, menu_key
from connectbot.clients import Clients
from connectbot.errors import UnreadableValue
from connectbot.redis_client import translated_errors
from tasks import menus as tasks
from worker.commands.common import INTERRUPTED, USER_ID, Failed, cell, counted, duration, json_option, opened, output

_USERS: Final = click.argument("user_ids", metavar="USER...", nargs=-1, required=True, type=USER_ID)


@click.group()
def menus() -> None:
    """The menus in the cache."""


@menus.command()
@click.option("--all", "everybody", is_flag=True, help="Those of every known user, not only those that soon run out.")
@json_option()
def warm(*, everybody: bool, as_json: bool) -> None:
    """Build anew the menus that run out in the next minutes, as beat has it done; or, with --all, everybody's.

    It is done by this command itself, page by page, no worker is needed. After Ctrl-C the next --all goes on where this
    one has stopped, as long as the menus that it has warmed would live.
    """
    if not everybody:
        warmed = tasks.warm()
        click.echo(json.dumps({"warmed": warmed}) if as_json else f"menus of {counted(warmed, 'user')} warmed")
        return
    walk = _Walk(opened())
    with _interruptible() as interrupted:
        seen = _watch(walk, quiet=as_json, interrupted=interrupted)
    complete = not seen.place
    if as_json:
        click.echo(json.dumps({"warmed": seen.done, "users": seen.total, "complete": complete}))
    else:
        click.echo(
            f"menus of {counted(seen.done, 'user')} warmed{'' if complete else '; the next run goes on from here'}"
        )
    if not complete:
        raise click.exceptions.Exit(INTERRUPTED)


@menus.command()
@_USERS
@click.option("--menu", "types", multiple=True, type=click.Choice(MENU_TYPES), help="Only this one; may be repeated.")
@json_option()
def rebuild(*, user_ids: Sequence[int], types: Sequence[str], as_json: bool) -> None:
    """Build the menus of some users anew, from what is known of them.

    Without --menu those of CONNECTBOT_WARM_MENUS are built, and the others removed until they are asked for.
    """
    rebuilt = tasks.rebuild(user_ids, list(types) or None)
    click.echo(json.dumps({"rebuilt": rebuilt}) if as_json else f"menus of {counted(rebuilt, 'user')} rebuilt")


@menus.command()
@_USERS
@json_option()
def clear(*, user_ids: Sequence[int], as_json: bool) -> None:
    """Remove every menu of some users from the cache: the bot builds them when it next needs them."""
    cleared = tasks.clear(user_ids)
    click.echo(json.dumps({"cleared": cleared}) if as_json else f"menus of {counted(cleared, 'user')} removed")


@menus.command()
@click.argument("user_id", metavar="USER", type=USER_ID)
@json_option()
def show(*, user_id: int, as_json: bool) -> None:
    """Show the menus of a user as the bot finds them in the cache, and how long they live.

    Exit status 1 when there is none.
    """
    ours = opened()
    known = ours.users.look_up([user_id]).get(user_id)
    found = {type_: menu for type_ in MENU_TYPES if (menu := _cached(ours, user_id, type_))}
    role = known.role if known else None
    if as_json:
        click.echo(json.dumps({"user_id": user_id, "known": known is not None, "role": role, "menus": found}))
    for type_, menu in () if as_json else found.items():
        _show_menu(type_, menu)
    if not found:
        raise Failed(f"user {user_id} has no menu in the cache: `connectbot menus rebuild {user_id}` builds some")


# --- warming everybody's --------------------------------------------------------------------------------


class _Walk:
    """The walk over all users, whose place is kept in Redis from page to page."""

    def __init__(self, ours: Clients) -> None:
        self._ours = ours
        self._key = ours.settings.keys.warming_place

    def pages(self, *, go_on: Callable[[], bool]) -> Iterator[menu_warmer.Progress]:
        """Warm page by page, from where an earlier walk was left, and as long as ``go_on`` says."""
        with translated_errors():
            kept = self._ours.redis.hgetall(self._key)
        place, done = kept.get(b"place", b"").decode(), int(kept.get(b"done", 0))
        for seen in self._ours.menus.warmer.everybody(place=place, done=done, go_on=go_on):
            self._keep(seen)
            yield seen

    def _keep(self, seen: menu_warmer.Progress) -> None:
        with translated_errors(), self._ours.redis.pipeline(transaction=True) as pipe:
            if seen.place:
                pipe.hset(self._key, mapping={"place": seen.place, "done": seen.done})
                pipe.expire(self._key, self._ours.settings.menu_ttl_seconds)
            else:
                pipe.delete(self._key)
            pipe.execute()


def _watch(walk: _Walk, *, quiet: bool, interrupted: Callable[[], bool]) -> menu_warmer.Progress:
    """Go on with the walk to its end, or until it is interrupted. Answers how far that was."""
    columns = (
        TextColumn("warming menus"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} users/s"),
        TimeRemainingColumn(),
    )
    seen = menu_warmer.Progress("", 0, 0)
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=None, rate="-")
        begun, done_before = time.monotonic(), None
        for seen in walk.pages(go_on=lambda: not interrupted()):
            if done_before is None or seen.done < done_before:  # the users of an earlier run say nothing of this one
                begun, done_before = time.monotonic(), seen.done
            rate = (seen.done - done_before) / max(time.monotonic() - begun, 1e-3)
            bar.update(task, completed=seen.done, total=max(seen.done, seen.total), rate=f"{rate:,.0f}")
    return seen


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C, or SIGTERM, wait for the end of a page; the second one does not."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- showing one user's ---------------------------------------------------------------------------------


def _cached(ours: Clients, user_id: int, menu_type: str) -> dict[str, Any] | None:
    """One menu as it lies in the cache, its time left beside it; ``error`` in its place when it cannot be read."""
    left = ours.cache.ttl(menu_key(user_id, menu_type))
    try:
        record = ours.menus.get(user_id, menu_type)
    except UnreadableValue as error:
        return {"expires_in_seconds": left, "error": str(error)}
    if record is None:
        return None
    return {"expires_in_seconds": left, "cached_at": record.get("cached_at"), "data": record["data"]}


def _show_menu(menu_type: str, menu: dict[str, Any]) -> None:
    left = menu["expires_in_seconds"]
    click.echo(f"{menu_type}: {'lives for ever' if left is None else f'lives {duration(left)} more'}")
    data = menu.get("data")
    options = data.get("options") if isinstance(data, dict) else None
    if not isinstance(options, list):
        output().print(cell(menu.get("error") or json.dumps(data, ensure_ascii=False)))
        return
    table = Table("label", "key", "action", box=None, show_header=False, padding=(0, 2))
    for option in options:
        words = option if isinstance(option, dict) else {"label": option}
        table.add_row(*(cell(str(words.get(name, ""))) for name in ("label", "key", "action")))
    output().print(table)
