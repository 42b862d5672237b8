"""``connectbot java``: the way to the Java service, watched and opened or closed by hand."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import click
from rich.table import Table

from connectbot.java.circuit_breaker import State
from worker.commands.common import Failed, json_option, opened, output


@click.group()
def java() -> None:
    """The Java service: is it well, who waits for it, and who may call it."""


@java.command()
@json_option()
def status(as_json: bool) -> None:
    """Show the circuit breaker, the calls in flight and the jobs that wait.

    Exit status 1 when jobs cannot pass.
    """
    seen = opened().java_gate.breaker.status()
    _show(dataclasses.asdict(seen), as_json=as_json)
    if seen.state == State.FORCED_OPEN.value:
        raise Failed("an operator lets no job pass: `connectbot java release` lets them go on")
    if seen.state == State.OPEN.value:
        raise Failed("no job passes while the circuit breaker is open: `connectbot java probe` asks how the service is")


@java.command()
@json_option()
def probe(as_json: bool) -> None:
    """Ask the service whether it is well (JAVA_SERVICE_URL, JAVA_SERVICE_TIMEOUT). Exit status 1 when it is not."""
    ours = opened()
    health = ours.java.health()
    url = ours.settings.java_service_url
    _show({"well": health.well, "reason": health.reason, "url": url}, as_json=as_json)
    if not health:
        raise Failed(
            f"the Java service at {url} is not well ({health.reason}): see that it runs, or name another one by "
            "JAVA_SERVICE_URL"
        )


@java.command()
@json_option()
def park(as_json: bool) -> None:
    """Let no job pass, until `connectbot java release`: they are parked, and no attempt is counted."""
    _turn(State.FORCED_OPEN, as_json=as_json)


@java.command()
@json_option()
def release(as_json: bool) -> None:
    """Let jobs pass again, a few first (half-open), then the parked ones on a ramp, by turns."""
    _turn(State.HALF_OPEN, as_json=as_json)


def _turn(state: State, *, as_json: bool) -> None:
    breaker = opened().java_gate.breaker
    breaker.turn(state)
    _show(dataclasses.asdict(breaker.status()), as_json=as_json)


def _show(values: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(values))
        return
    table = Table(show_header=False)
    for name, value in values.items():
        table.add_row(name.replace("_", " "), _shown(name, value))
    output().print(table)


def _shown(name: str, value: Any) -> str:
    if name in ("since", "oldest_parked"):
        return datetime.fromtimestamp(value, UTC).isoformat(" ", "seconds") if value else "-"
    return f"{value:.1f} %" if name.endswith("_rate") else str(value)
