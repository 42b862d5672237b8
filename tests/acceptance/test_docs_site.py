"""The documentation builds without a warning, asks nothing of the network, and says what the code says."""

from __future__ import annotations

import dataclasses
import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from connectbot.settings import Settings
from tests.support import ROOT
from worker.cli import connectbot

LOADED = re.compile(r"<(?:script|link|img|iframe|source|video|audio|object|embed)\b[^>]*(?:https?:)?//[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    assert [(page.name, found) for page in pages for found in LOADED.findall(page.read_text())] == []
    styles = [style.read_text() for style in site.rglob("*.css")]
    assert [found for style in styles for found in re.findall(r"(?:@import|url\()\s*[\"']?https?://[^)]*", style)] == []


def test_every_link_leads_somewhere_in_the_repository_too() -> None:
    """Most read the pages there; of links in the site mkdocs sees to it."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())]
    assert len(links) > 50
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_no_list_table_or_block_is_shown_as_a_paragraph(site: Path) -> None:
    """Python-Markdown wants an empty line before each, and four spaces where they are part of a list."""
    torn = [
        f"{page.name}: {line.strip()}"
        for page in site.rglob("*.html")
        for paragraph in re.findall(r"<p>(.*?)</p>", page.read_text(), re.DOTALL)
        for line in paragraph.splitlines()
        if re.match(r"\s*(?:\||```|\d+\. |- )", line)
    ]
    assert torn == []


def test_the_table_of_settings_is_that_of_the_code(site: Path) -> None:
    rows = re.findall(r"<tr>\n<td>(.*)</td>\n<td>(.*)</td>\n</tr>", (site / "reference" / "settings.html").read_text())
    plain = [tuple(html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in row) for row in rows]
    assert plain == [
        (field.metadata["variable"], field.metadata["meaning"].replace("`", ""))
        for field in dataclasses.fields(Settings)
    ]


def test_every_command_is_there(site: Path) -> None:
    page = text_of(site / "reference" / "commands.html")
    assert [name for name in connectbot.commands if f"connectbot {name}" not in page] == []


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("keys", ("connectbot:events:dead", "connectbot:lease:{consumer}", "menu:user:{user_id}:{menu_type}")),
        ("metrics", ("connectbot_event_age_seconds", "connectbot_occurrences_total", "celery_task_runtime")),
        ("events", ("user.created", "matching.request", "menus.rebuild(user_ids: Sequence[int]")),
    ],
)
def test_the_reference_tells_of(page: str, words: tuple[str, ...], site: Path) -> None:
    said = text_of(site / "reference" / f"{page}.html")
    assert [word for word in words if word not in said] == []
