"""The documentation as tests see it: its pages, and the blocks of code in them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support import ROOT

PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")))

_FENCED: Final = re.compile(
    r"(?:^ *<!-- (?P<note>[^\n]*) -->\n)?^(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code. ``note`` is the comment right above it; ``title`` is the file that it is meant for."""

    page: Path
    line: int
    language: str
    title: str
    note: str
    code: str

    @property
    def place(self) -> str:
        """File and line, to be found again."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def note_after(self, word: str) -> str:
        """What the note says behind ``word:``; empty when it says nothing of the kind."""
        return self.note.removeprefix(f"{word}: ") if self.note.startswith(f"{word}: ") else ""


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, from top to bottom."""
    text = page.read_text()
    return [
        Block(
            page,
            line=text.count("\n", 0, found.start("language")) + 1,
            language=found["language"],
            title=found["title"] or "",
            note=found["note"] or "",
            code=textwrap.dedent(found["code"]),
        )
        for found in _FENCED.finditer(text)
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCED.sub("", page.read_text())
