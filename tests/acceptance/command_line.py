"""Running ``connectbot`` as an operator does: in a process of its own, or here, which is quicker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from click.testing import CliRunner, Result

from connectbot.settings import Settings
from tasks import process
from tests.support import ROOT, environment
from worker.cli import connectbot as group

COMMAND = [sys.executable, "-m", "worker.cli"]


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment of somebody who works with an installation."""
    return {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)}


def in_process(settings: Settings, *arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a process of its own; fail when that end is not the one expected."""
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment_of(settings), timeout=60, capture_output=True, text=True
    )
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done


def connectbot(settings: Settings, *arguments: str, stdin: str = "", exit_code: int = 0) -> Result:
    """Run a command to its end; fail when that end is not the one expected."""
    process._open.cache_clear()  # the tasks keep the clients of their process
    done = CliRunner().invoke(group, arguments, env=environment(settings), input=stdin)
    assert done.exit_code == exit_code, done.output
    return done


def answer(settings: Settings, *arguments: str, stdin: str = "", exit_code: int = 0) -> Any:
    """What the command prints with ``--json``."""
    return json.loads(connectbot(settings, *arguments, "--json", stdin=stdin, exit_code=exit_code).stdout)


def refusal(settings: Settings, *arguments: str, stdin: str = "", exit_code: int = 1) -> str:
    """The one sentence by which the command refuses."""
    told = connectbot(settings, *arguments, stdin=stdin, exit_code=exit_code).stderr
    assert told.startswith("connectbot: ")
    assert told.count("\n") == 1, told
    return told.removeprefix("connectbot: ").strip()
