"""``python -m benchmarks.plots FILE DIRECTORY``: the figures of a run as PNG and SVG.

Runs in the environment of the peers, which has matplotlib and nothing of ours.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS = "connectbot"
OUR_COLOUR, THEIR_COLOUR = "#1f6feb", "#9aa4b2"


def main(file: Path, directory: Path) -> None:
    """Draw what is in the file."""
    found = json.loads(file.read_text())
    directory.mkdir(parents=True, exist_ok=True)
    below = f"{found['machine']['cores']} cores of {found['machine']['processor']}"
    for name, draw in DRAWN.items():
        if name in found:
            draw(found[name]["figures"], directory, below)


def _handling(figures: Mapping[str, Any], directory: Path, below: str) -> None:
    there = {name: one for name, one in figures.items() if one["rate"]["median"] is not None}
    for key, title in (("rate", "events handled per second"), ("cpu_us", "CPU per event, in microseconds")):
        values = {name: one[key] for name, one in there.items()}
        _bars(values, title=title, below=below, into=directory / f"handling_{key}")
    values = {name: one["pss_mib"] for name, one in there.items()}
    _bars(values, title="memory (PSS) in MiB", below=below, into=directory / "handling_memory", log=False)


def _latency(figures: Mapping[str, Any], directory: Path, below: str) -> None:
    values = {f"{name}, {key[:3]}": one[key] for name, one in figures.items() for key in one}
    title = "from publishing to the effect, in ms, at 100 events a second"
    _bars(values, title=title, below=below, into=directory / "latency", log=False)


def _publishing(figures: Mapping[str, Any], directory: Path, below: str) -> None:
    values = {name: one["rate"] for name, one in figures.items()}
    _bars(values, title="events published per second", below=below, into=directory / "publishing")


def _warming(figures: Mapping[str, Any], directory: Path, below: str) -> None:
    values = {name: one["rate"] for name, one in figures.items() if isinstance(one, dict)}
    _bars(values, title="users warmed per second", below=below, into=directory / "warming")


def _expiring(figures: Mapping[str, Any], directory: Path, below: str) -> None:
    values = {
        f"{name}, {int(size):,} stored": figure
        for name, one in figures.items()
        if isinstance(one, dict)
        for size, figure in one.items()
    }
    title = f"{figures['due']:,} due among what is stored, in ms"
    _bars(values, title=title, below=below, into=directory / "expiring")


DRAWN = {
    "handling": _handling,
    "latency": _latency,
    "publishing": _publishing,
    "warming": _warming,
    "expiring": _expiring,
}


def _bars(values: Mapping[str, Any], *, title: str, below: str, into: Path, log: bool = True) -> None:
    """A bar for each median, with a whisker from the lowest to the highest value."""
    names = sorted(values, key=lambda name: values[name]["median"])
    medians = [values[name]["median"] for name in names]
    plot, axes = plt.subplots(figsize=(9, 0.8 + 0.36 * len(names)))
    bars = axes.barh(names, medians, xerr=_whiskers(values, names), color=list(map(_colour, names)), log=log)
    axes.bar_label(bars, labels=[_number(median) for median in medians], padding=6, fontsize=8)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(below, fontsize=8, color="#666666")
    axes.margins(x=0.16)
    axes.spines[["top", "right"]].set_visible(False)
    plot.tight_layout()
    for suffix in ("png", "svg"):
        plot.savefig(into.with_suffix(f".{suffix}"), dpi=140)
    plt.close(plot)


def _whiskers(values: Mapping[str, Any], names: Sequence[str]) -> list[list[float]]:
    below = [values[name]["median"] - min(values[name]["values"]) for name in names]
    above = [max(values[name]["values"]) - values[name]["median"] for name in names]
    return [below, above]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _colour(name: str) -> str:
    ours = (OURS, "menus.warm", "temp_data.expire", "publish_user_event", "publish_many")
    return OUR_COLOUR if name.startswith(ours) else THEIR_COLOUR


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
