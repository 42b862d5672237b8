"""What the README shows works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectbot.clients import Clients
from connectbot.settings import Settings
from connectbot.testing.matching_service import MatchingService
from tests.documents import Block, blocks, prose
from tests.support import ROOT, Worker, environment, wait_until

PAGE = ROOT / "README.md"
RUSSIAN = ROOT / "README.ru.md"
README = PAGE.read_text()


@pytest.fixture
def settings(redis_url: str) -> Iterator[Settings]:
    with MatchingService() as service:
        yield Settings(redis_url=redis_url, java_service_url=service.url)


def test_the_lines_for_django_do_what_they_say(settings: Settings, tmp_path: Path) -> None:
    (lines,) = [block.code for block in blocks(PAGE) if block.language == "python"]
    ours = Clients.open(settings)
    with Worker(settings, tmp_path) as worker:
        worker.wait_ready()
        env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", lines]
        subprocess.run(command, env=env, cwd=tmp_path, check=True, timeout=60)
        wait_until(
            lambda: (
                (ours.menus.get(7, "main") or {}).get("data", {}).get("role") == "admin" and ours.menus.get(8, "main")
            ),
            deadline_seconds=20,
            what="the menus",
        )
        wait_until(
            lambda: any(
                b"matching.completed" in fields[b"type"] for _, fields in ours.redis.xrange("connectbot:events")
            ),
            deadline_seconds=20,
            what="matching.completed",
        )
    assert ours.temp_data.get("user_7", "form_data_step1") == {"interests": ["chess"]}
    ours.redis.close()


@pytest.mark.parametrize("path", re.findall(r"`((?:connectbot|tasks|worker|tests|examples|docs)/[^`{ ]*)`", README))
def test_every_file_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE))
def test_every_target_of_make_exists(target: str) -> None:
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()


def test_the_russian_one_has_the_same_code() -> None:
    assert [without_words(block) for block in blocks(RUSSIAN)] == [without_words(block) for block in blocks(PAGE)]


def without_words(block: Block) -> tuple[str, str, str]:
    """A block without what is to be translated: comments, and the words of a picture."""
    code = "" if block.language == "text" else re.sub(r" *#.*", "", block.code)
    return block.language, block.note, code


@pytest.mark.parametrize(
    "what",
    [r"^#+ ", r"^\| `(\w+)` \|", r"\]\((docs[^)]+)\)", r"`((?:connectbot|tasks|worker|examples|docs)/[^`]*)`"],
    ids=["headings", "settings", "links", "files"],
)
def test_the_russian_one_has_the_same(what: str) -> None:
    assert re.findall(what, prose(RUSSIAN), re.MULTILINE) == re.findall(what, prose(PAGE), re.MULTILINE)
