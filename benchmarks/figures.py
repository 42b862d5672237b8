"""What is measured, again and again, and how it is told: the median, and from where to where it went."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Figure:
    """One figure, measured several times."""

    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        """One more time."""
        self.values.append(value)

    @property
    def median(self) -> float:
        """Half of the values are below it."""
        return statistics.median(self.values)

    def text(self, form: str = "{:,.0f}") -> str:
        """The median, with the spread where there is one."""
        if not self.values:
            return "–"
        low, high = min(self.values), max(self.values)
        middle = form.format(self.median)
        return middle if len(self.values) == 1 else f"{middle} [dim]({form.format(low)}–{form.format(high)})[/dim]"

    def json(self) -> dict[str, Any]:
        """For the file."""
        return {"median": self.median if self.values else None, "values": self.values}


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that is to hold, what was measured for it, and whether it does."""

    what: str
    measured: str
    holds: bool


@dataclass(slots=True)
class Report:
    """All that one bench has to tell."""

    name: str
    tables: list[Table] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def show(self, console: Console) -> None:
        """Print it."""
        for table in self.tables:
            console.print(table)
        for claim in self.claims:
            mark = "[green]yes[/green]" if claim.holds else "[red]NO[/red] "
            console.print(f"  {mark} {claim.what}: {claim.measured}", highlight=False)
        console.print()

    def json(self) -> dict[str, Any]:
        """For the file."""
        claims = [{"what": claim.what, "measured": claim.measured, "holds": claim.holds} for claim in self.claims]
        return {"figures": self.data, "claims": claims}


def at_least(what: str, ours: float, theirs: float, times: float) -> Claim:
    """The claim that one figure is so many times another."""
    ratio = ours / theirs if theirs else float("inf")
    return Claim(what, f"{ratio:,.2f}x, wanted at least {times:g}x", ratio >= times)


def at_most(what: str, ours: float, theirs: float, times: float) -> Claim:
    """The claim that one figure is no more than so many times another."""
    ratio = ours / theirs if theirs else float("inf")
    return Claim(what, f"{ratio:,.2f}x, wanted at most {times:g}x", ratio <= times)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many of a hundred are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    made = Table(title=title, title_justify="left", title_style="bold")
    for at, column in enumerate(columns):
        made.add_column(column, justify="left" if at == 0 else "right", no_wrap=at == 0)
    return made


def machine() -> dict[str, Any]:
    """On what it was measured."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _first("/proc/cpuinfo", "model name"),
        "memory_mib": int(_first("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "load_before": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _first(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "0")
