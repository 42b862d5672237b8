"""``connectbot demo`` and ``connectbot up``: the whole installation on this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from connectbot.clients import Clients
from connectbot.redis_url import RedisAddress
from connectbot.settings import Settings
from worker.commands.common import interrupt_on_signals, json_option, output
from worker.demo import Line, Scenario
from worker.stack import Stack

STATE_DIRECTORY = ".connectbot"


@click.command()
@json_option()
def demo(as_json: bool) -> None:
    """Run everything on an embedded Redis, play a scenario, and show what became of it.

    Ends by itself, with exit status 0 only if every line of the summary holds.
    """
    begun = time.monotonic()
    interrupt_on_signals()
    settings = Settings.load()
    with tempfile.TemporaryDirectory(prefix="connectbot-demo-") as directory:
        stack = Stack(settings, directory=Path(directory), own_redis=True, own_matching_service=True)
        with Live(console=Console(stderr=as_json), transient=True) as live:
            live.update(_progress("starting Redis, two workers, beat, Flower and a matching service", []))
            with stack:
                scenario = Scenario(
                    stack, Clients.open(stack.settings), show=lambda doing, lines: live.update(_progress(doing, lines))
                )
                lines = scenario.play()
    _show_summary(lines, scenario.menu, seconds=time.monotonic() - begun, as_json=as_json)
    sys.exit(0 if all(line.holds for line in lines) else 1)


def _progress(doing: str, lines: Sequence[Line]) -> RenderableType:
    return Group(_table(lines), Spinner("dots", doing))


def _table(lines: Sequence[Line], *, title: str | None = None) -> Table:
    table = Table("", "what", "seen", title=title)
    for line in lines:
        table.add_row("[green]✔[/]" if line.holds else "[red]✘[/]", line.what, line.seen)
    return table


def _show_summary(lines: Sequence[Line], menu: dict[str, Any] | None, *, seconds: float, as_json: bool) -> None:
    if as_json:
        rows = [dataclasses.asdict(line) for line in lines]
        holds = all(line.holds for line in lines)
        click.echo(json.dumps({"ok": holds, "seconds": round(seconds, 1), "lines": rows, "menu": menu}))
        return
    if menu:
        output().print("One of the menus, as Django reads it:")
        output().print_json(data=menu)
    output().print(_table(lines, title=f"The demo took {seconds:.1f} s"))


@click.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=STATE_DIRECTORY,
    show_default=True,
    help="Where logs, and the data of an embedded Redis, are kept.",
)
@json_option("Print the addresses as one JSON object.")
def up(directory: Path, as_json: bool) -> None:
    """Run everything until Ctrl-C: Redis, a worker for each lane, beat, Flower and a matching service.

    Redis is embedded unless REDIS_URL is set; the matching service is a stand-in unless JAVA_SERVICE_URL is set.
    """
    settings = Settings.load()
    interrupt_on_signals()
    stack = Stack(
        settings,
        directory=directory.absolute(),
        own_redis=not Settings.is_set("REDIS_URL"),
        own_matching_service=not Settings.is_set("JAVA_SERVICE_URL"),
    )
    try:
        with stack:
            stack.wait_for_workers()
            _show_addresses(stack, directory, as_json=as_json)
            while True:
                stack.check()
                time.sleep(0.5)
    except KeyboardInterrupt:
        Console(stderr=True).print("everything is stopped")


def _show_addresses(stack: Stack, directory: Path, *, as_json: bool) -> None:
    addresses = {
        "redis": str(RedisAddress.parse(stack.settings.redis_url)),
        "matching_service": stack.settings.java_service_url,
        "flower": stack.flower_url,
        "flower_user": stack.flower_user,
        "flower_password": stack.flower_password,
        "logs": str(directory),
    }
    if as_json:
        click.echo(json.dumps(addresses))
        return
    table = Table(show_header=False)
    for name, address in addresses.items():
        table.add_row(name.replace("_", " "), address)
    output().print(table)
    output().print("Ctrl-C stops everything.")
