"""``connectbot dead``: look at events that could not be handled, and have them tried again or dropped."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import click
from rich.table import Column, Table

from connectbot.dead_letters import DeadLetters, Selection, in_steps
from connectbot.errors import BacklogFull, RedisUnavailable
from worker.commands.common import LIMIT, Age, Failed, Number, cell, json_option, opened, output, printable

LISTED: Final = 100


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the filters by which dead letters are selected, and hand it a `Selection`."""

    @functools.wraps(command)  # the options that the command has already come along
    def with_selection(
        *,
        types: Sequence[str],
        reasons: Sequence[str],
        ids: Sequence[str],
        older_than: float | None,
        newer_than: float | None,
        **others: Any,
    ) -> None:
        now = time.time()
        selection = Selection(
            types=frozenset(types),
            reasons=frozenset(reasons),
            ids=frozenset(ids),
            died_after=None if newer_than is None else now - newer_than,
            died_before=None if older_than is None else now - older_than,
        )
        command(selection=selection, **others)

    for option in (
        click.option("--newer-than", type=Age(), help="Only what died since then, such as 90s, 15m, 2h or 3d ago."),
        click.option("--older-than", type=Age(), help="Only what died before, such as 90s, 15m, 2h or 3d ago."),
        click.option("--id", "ids", multiple=True, help="Only this letter, entry or event; may be repeated."),
        click.option("--reason", "reasons", multiple=True, help="Only this reason; may be repeated."),
        click.option("--type", "types", multiple=True, help="Only this type of event; may be repeated."),
    ):
        with_selection = option(with_selection)
    return with_selection


def changing(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of one that changes something."""
    for option in (
        json_option(),
        click.option("--rate", type=Number(0, 1_000_000, min_open=True), help="At most so many a second."),
        click.option("--limit", type=LIMIT, help="At most so many, the oldest first."),
        click.option("--dry-run", is_flag=True, help="Say how many it would be, and change nothing."),
        click.option("--all", "everything", is_flag=True, help="All of them; needed when there is no filter."),
    ):
        command = option(command)
    return command


@click.group()
def dead() -> None:
    """Events that could not be handled: look at them, try them again, drop them."""


@dead.command("list")
@selecting
@click.option("--limit", type=LIMIT, default=LISTED, show_default=True, help="At most so many.")
@json_option()
def list_letters(selection: Selection, limit: int, as_json: bool) -> None:
    """List dead letters, the oldest first, without what the events say."""
    letters = _open()
    found = [letter.summary() for letter in letters.find(selection, limit=limit)]
    if as_json:
        click.echo(json.dumps({"total": len(letters), "letters": found}))
        return
    table = Table(Column("id", no_wrap=True), "died at (UTC)", "type", "lane", "reason", "tries", box=None)
    for row in found:
        died_at = row["died_at"][:19].replace("T", " ")
        cells = (row["id"], died_at, row["type"], row["lane"], row["reason"], str(row["attempts"]))
        table.add_row(*map(cell, cells))
    if found:
        output().print(table)
    click.echo(f"{len(found)} listed, {len(letters)} dead letters in all")


@dead.command()
@click.argument("id_", metavar="ID")
@json_option()
def show(id_: str, as_json: bool) -> None:
    """Show one dead letter with all that the event says. ID is that of the letter, the entry or the event."""
    letter = next(_open().find(Selection(ids=frozenset([id_])), limit=1), None)
    if letter is None:
        raise Failed(f"there is no dead letter {printable(id_)}: `connectbot dead list` shows those there are")
    text = letter.event.decode("utf-8", "backslashreplace")
    if as_json:
        click.echo(json.dumps({**letter.summary(), "event": text}))
        return
    for name, value in letter.summary().items():
        click.echo(f"{name + ':':10} {printable(str(value))}")
    click.echo(_pretty(text))


@dead.command()
@selecting
@changing
def replay(selection: Selection, **options: Any) -> None:
    """Have dead letters tried again, in the lanes they died in."""
    letters = _open()
    _change("replayed", letters, letters.replay, selection, **options)


@dead.command()
@selecting
@changing
def drop(selection: Selection, **options: Any) -> None:
    """Remove dead letters for good."""
    letters = _open()
    _change("dropped", letters, letters.drop, selection, **options)


def _change(
    done: str,
    letters: DeadLetters,
    change: Callable[[Sequence[str]], int],
    selection: Selection,
    *,
    everything: bool,
    dry_run: bool,
    limit: int | None,
    rate: float | None,
    as_json: bool,
) -> None:
    if everything != selection.is_everything:
        raise click.UsageError(
            "--all and a filter contradict each other: give one of them"
            if everything
            else "without a filter this would be every dead letter: say so with --all"
        )
    found = letters.find(selection, limit=limit)
    count = sum(1 for _ in found) if dry_run else _in_steps(done, found, change, rate=rate)
    if as_json:
        click.echo(json.dumps({done: 0 if dry_run else count, "dry_run": dry_run, "selected": count}))
    else:
        click.echo(f"{count} dead letters {'would be ' if dry_run else ''}{done}")


def _in_steps(done: str, found: Any, change: Callable[[Sequence[str]], int], *, rate: float | None) -> int:
    count = 0
    try:
        for ids in in_steps(found, per_second=rate):
            count += change(ids)
    except (BacklogFull, RedisUnavailable) as fault:
        raise type(fault)(
            f"{count} dead letters were {done} before this, run it again for the rest: {fault}"
        ) from fault
    return count


def _open() -> DeadLetters:
    ours = opened()
    return DeadLetters(ours.redis, ours.settings.keys, room=ours.settings.room)


def _pretty(text: str) -> str:
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    return "\n".join(map(printable, text.split("\n")))
