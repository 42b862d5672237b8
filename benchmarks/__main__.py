"""``python -m benchmarks``: every bench, its tables, its claims, a file for others, and plots."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from benchmarks import expiring, handling, java_lane, latency, peers, publishing, warming
from benchmarks.figures import Report, machine
from benchmarks.server import measure_with
from benchmarks.systems import SYSTEMS

Bench = Callable[..., Report]

BENCHES: Final[dict[str, Bench]] = {
    "handling": handling.bench,
    "latency": latency.bench,
    "publishing": publishing.bench,
    "warming": warming.bench,
    "expiring": expiring.bench,
    "java": java_lane.bench,
}
DEFAULT_FILE: Final = Path(".connectbot/bench.json")


@click.command()
@click.option("--quick", is_flag=True, help="A look in under three minutes: small, and each figure once.")
@click.option("--only", multiple=True, type=click.Choice(list(BENCHES)), help="Only this bench; may be repeated.")
@click.option(
    "--system", "systems", multiple=True, type=click.Choice([system.name for system in SYSTEMS]),
    help="Only this system in the bench of events; may be repeated.",
)  # fmt: skip
@click.option("--repeat", type=click.IntRange(1), help="How often each figure is measured (5, or 1 with --quick).")
@click.option(
    "--server", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The Redis server to measure with; else Valkey 9.1 where the system has jemalloc, else the first found.",
)  # fmt: skip
@click.option("--json", "file", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True)
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Draw plots into this directory.")
def main(
    *,
    quick: bool,
    only: tuple[str, ...],
    systems: tuple[str, ...],
    repeat: int | None,
    server: Path | None,
    file: Path,
    plots: Path | None,
) -> None:
    """Measure the worker beside its peers. Exit 0 whatever the figures say: they depend on the machine."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    on, began = machine() | {"server": measure_with(server)}, time.monotonic()
    size = f"{on['cores']} cores of {on['processor']}, {on['memory_mib']:,} MiB"
    console.print(f"{size}, load {on['load_before']:.2f}, {on['server']}")
    reports = []
    for name in only or BENCHES:
        more: dict[str, Any] = {"only": systems} if name == "handling" else {}
        report = BENCHES[name](console, quick=quick, repeat=repeat or (1 if quick else 5), **more)
        report.show(console)
        reports.append(report)
    found = {"machine": on, "quick": quick, "seconds": round(time.monotonic() - began, 1)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found | {report.name: report.json() for report in reports}, indent=1))
    console.print(f"{found['seconds']:g} s; all figures are in {file}")
    if plots:
        subprocess.run([peers.python(peers.PLOTS), "-m", "benchmarks.plots", str(file), str(plots)], check=True)


if __name__ == "__main__":
    main()
