"""docs/promises.md is true: take out the line that keeps a promise, and its test turns red."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ROOT

COPIED = ("connectbot", "tasks", "worker", "tests", "deploy", "pyproject.toml")
ROW = re.compile(r"\| (\d) \| .* \| `([^`]+)`: `([^`]+)` \| `([^`]+)` \|")

# What stands in place of a line, where without one the file would not even be read.
INSTEAD = {
    '"pickle": _Serializer(_write_pickle, safe_pickle.loads),': '"pickle": _Serializer(_write_pickle, pickle.loads),',
    "if not known or sub(known, 1, version_ends) <= sub(record, 1, version_ends) then": "if true then",
    "idempotency_key=one.event.id,": "idempotency_key=str(time.time_ns()),",
    'return f"{type(error).__qualname__} at {raised_at(error, self._work.handle)}"': "return str(error)",
}


class Promise(NamedTuple):
    """One row of the table."""

    number: str
    file: str
    line: str
    test: str


def rows() -> list[Promise]:
    text = (ROOT / "docs" / "promises.md").read_text()
    return [Promise(*found.groups()) for line in text.splitlines() if (found := ROW.fullmatch(line.strip()))]


def test_all_nine_promises_are_listed() -> None:
    assert sorted({row.number for row in rows()}) == list("123456789")


@pytest.mark.parametrize("promise", rows(), ids=lambda row: f"{row.number}-{Path(row.file).name}")
def test_without_its_line_the_test_of_a_promise_is_red(promise: Promise, tmp_path: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    broken = tmp_path / promise.file
    lines = broken.read_text().splitlines(keepends=True)
    (at,) = [number for number, line in enumerate(lines) if line.strip() == promise.line]
    instead = INSTEAD.get(promise.line, "")
    lines[at] = lines[at].replace(promise.line, instead)
    broken.write_text("".join(lines))

    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", promise.test]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, timeout=110, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout, done.stdout
