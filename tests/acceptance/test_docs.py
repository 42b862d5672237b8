"""Every command and every line of Python in README.md and docs/ works as it stands there.

A page is followed from top to bottom in a copy of the sources, as its reader would, on what `connectbot up` runs:

- ``sh``: run by bash. What stays (workers, beat, Flower) is started, seen to be ready, and stays until the page ends.
  ``make`` only says what it would do: CI itself runs the targets.
- ``python`` with a ``title``: written to that file. ``diff`` with a ``title``: applied to it.
- ``python``: run at the end of the page, all blocks in one process; then every event must have had its effect.
- A comment above a block may say ``not run: reason`` (all reasons are in `NOT_RUN`) or ``given: what`` (`GIVEN`).
- Other languages are looked at, not run; they must not hold commands.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from connectbot.embedded import free_port
from connectbot.errors import EmbeddedRedisError
from connectbot.keys import Keys
from connectbot.redis_client import connect
from connectbot.redis_server import find_server
from tests.documents import PAGES, Block, blocks, prose
from tests.reader import GIVEN, RUN, Reader
from tests.support import ROOT, wait_until
from worker.cli import connectbot

NOT_RUN: Final = {"needs Docker": 2, "needs root": 1}
"""Why blocks are not run, and how many for each reason: one more has to be entered here."""
SHOWN: Final = ("text", "ini", "java")
"""Languages whose blocks are only looked at."""
COMMAND: Final = re.compile(
    r"^\s*(?:\$ )?(?:[\w./-]*/)?(?:connectbot|celery|make|docker|redis-cli|python3?|pip|git|curl)\s+\S", re.MULTILINE
)


# --- what runs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a terminal beside a running ``connectbot up``."""
    try:
        programs = find_server().parent
    except EmbeddedRedisError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    ours = ("REDIS_URL", "CELERY_", "JAVA_", "CACHE_", "CONNECTBOT_", "PYTEST_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    clean |= {"PYTHONPATH": str(ROOT), "PATH": f"{programs}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "worker.cli", "up", "--json"]
    process = subprocess.Popen(command, cwd=tmp_path_factory.mktemp("up"), env=clean, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        _wait_until_well(addresses["redis"])
        yield clean | {
            "REDIS_URL": addresses["redis"],
            "JAVA_SERVICE_URL": addresses["matching_service"],
            "FLOWER_PORT": str(free_port()),
        }
        process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        process.kill()
        process.communicate()


def _wait_until_well(url: str) -> None:
    client, keys = connect(url), Keys()
    leases, tick = keys.lease("*"), keys.last_tick
    wait_until(
        lambda: len(list(client.scan_iter(leases, count=1000))) == 2 and client.exists(tick),
        deadline_seconds=60,
        what="both workers and the first tick",
    )
    client.close()


@pytest.fixture(scope="module")
def seen() -> set[str]:
    """Lines that were started for one page need not be started for another."""
    return set()


@pytest.fixture
def reader(installation: dict[str, str], page: Path, tmp_path: Path, seen: set[str]) -> Iterator[Reader]:
    """A reader with a copy of the sources, in which ``.venv`` is our own environment.

    Where a page changes the sources, nobody but the reader's own workers may take its events.
    """
    programs = _copy_sources(tmp_path)
    changes = any(block.language == "diff" for block in blocks(page))
    url = installation["REDIS_URL"].removesuffix("/0") + ("/1" if changes else "/0")
    environment = installation | {
        "REDIS_URL": url,
        "PATH": f"{programs}:{installation['PATH']}",
        "PYTHONPATH": str(tmp_path),
        "PROBES_PORT": str(free_port()),
    }
    reader = Reader(tmp_path, environment, connect(url), set() if changes else seen, alone=changes)
    if changes:
        reader.redis.flushdb()  # never anybody else's: this server is ours
    yield reader
    reader.leave()


def _copy_sources(folder: Path) -> Path:
    """Make the folder look like a clone in which `make` has installed everything. Answers where the programs are."""
    leave_out = shutil.ignore_patterns("__pycache__", "db.sqlite3", ".env")
    for name in ("connectbot", "tasks", "worker", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".env.example"):
        shutil.copy(ROOT / name, folder)
    commands = {
        "python": f'"{sys.executable}" "$@"',
        "connectbot": f'"{sys.executable}" -m worker.cli "$@"',
        "celery": f'"{sys.executable}" -m celery "$@"',
        "make": f'"{shutil.which("make")}" --dry-run "$@"',
    }
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, command in commands.items():
        (programs / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (programs / name).chmod(0o755)
    return programs


# --- the tests --------------------------------------------------------------------------------------------


WITH_CODE: Final = [page for page in PAGES if any(block.language in RUN for block in blocks(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_what_a_page_says_can_be_done(page: Path, reader: Reader) -> None:
    reader.follow(page)
    if reader.alone:  # the sources were changed, and `make lint` is everybody's next step
        for tool in ("ruff check", "ruff format --check", "mypy"):
            command = [sys.executable, "-m", *tool.split()]
            done = subprocess.run(command, cwd=reader.folder, capture_output=True, text=True, timeout=100)
            assert done.returncode == 0, f"{tool}: {done.stdout}"


def every_block() -> Iterator[Block]:
    for page in PAGES:
        yield from blocks(page)


def test_every_block_says_what_it_is() -> None:
    assert [block.place for block in every_block() if block.language not in RUN + SHOWN] == []
    assert [block.place for block in every_block() if block.language == "diff" and not block.title] == []


def test_no_command_hides_where_nothing_is_run() -> None:
    hidden = [block.place for block in every_block() if block.language in SHOWN and COMMAND.search(block.code)]
    indented = [
        f"{page.name}: {found[0].strip()}"
        for page in PAGES
        for found in re.finditer(r"(?<=\n\n)    .*", prose(page))
        if COMMAND.search(found[0])
    ]
    assert hidden + indented == []


def test_what_is_not_run_is_counted() -> None:
    assert Counter(reason for block in every_block() if (reason := block.note_after("not run"))) == NOT_RUN


def test_what_is_given_is_known() -> None:
    notes = {block.note for block in every_block() if block.note}
    assert all(note.startswith("not run: ") or note.removeprefix("given: ") in GIVEN for note in notes)


IN_PASSING: Final = [
    (page, words)
    for page in PAGES
    for words in re.findall(r"`(?:\.venv/bin/)?(connectbot [^`]+|make [a-z]+)`", prose(page))
]


@pytest.mark.parametrize(("page", "words"), IN_PASSING, ids=lambda value: getattr(value, "name", value))
def test_what_is_named_in_passing_exists(page: Path, words: str) -> None:
    program, *rest = words.split()
    if program == "make":
        assert f"\n{rest[0]}:" in (ROOT / "Makefile").read_text()
        return
    command: click.Command = connectbot
    for word in rest:
        if word.startswith("-"):
            assert any(word in parameter.opts for parameter in command.get_params(click.Context(command)))
        elif isinstance(command, click.Group):
            command = command.commands[word]
