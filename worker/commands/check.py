"""``connectbot check``: what is wrong with the installation, and what to do."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.text import Text

from connectbot.settings import Settings
from connectbot.watching.diagnosis import Diagnosis
from connectbot.watching.redis_problems import Problem
from worker.commands.common import json_option
from worker.routing import LANES


@click.command()
@json_option()
def check(as_json: bool) -> None:
    """Say what is wrong with the installation: a sentence for the cause, and one for the remedy.

    Looks at Redis, the lanes, beat, the dead letters and the Java circuit breaker. Exit status 1 when something is
    wrong; advice alone is no failure. Reads REDIS_URL and CELERY_BROKER_URL.
    """
    problems = Diagnosis(Settings.load(), LANES).problems()
    well = all(problem.is_advice for problem in problems)
    if as_json:
        click.echo(json.dumps({"ok": well, "problems": [dataclasses.asdict(problem) for problem in problems]}))
    else:
        _show(problems, well=well)
    sys.exit(0 if well else 1)


def _show(problems: Sequence[Problem], *, well: bool) -> None:
    console = Console(soft_wrap=True)
    for problem in problems:
        mark = Text("! ", "yellow") if problem.is_advice else Text("✘ ", "red")
        console.print(mark.append(problem.cause, "bold").append(f" {problem.remedy}", "not bold"))
    if well:
        console.print(Text("✔ ", "green").append("all is well" if not problems else "all else is well"))
