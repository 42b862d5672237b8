"""Words that stand, in tests, for what must never be in a log: tokens, passwords, and anything about an employee.

Tests plant them in events, menus, tokens and passwords; and when all tests of a process have run, `conftest.py` looks
for them in every log file that workers, beats, sites and stacks have written meanwhile, and in its own lines.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self

TOKEN: Final = "secret-marker-token"
NAME: Final = "secret-marker-name Иванова"
EMAIL: Final = "secret-marker@example.org"

PLANTED: Final = (
    "secret-marker",
    "MARKER",
    "Иванова",
    "N. N.",
    "Ivan Petrov",
    "ivan@example.org",
    "Анна",
    "t0ken",
    "t0p-secret",
    "hush/hush",
)
"""Of what tests plant: the second half stood in tests before there was a list."""
MENUS: Final = ("Мои активности", "Панель", "show_profile", "show_activities", "admin_panel", "edit_interests")
"""Parts of v21's menus: labels, keys and actions."""
SHORTEST_IN_BASE64: Final = 13
"""What is left of a shorter one is found anywhere."""


def person(user_id: int, **more: object) -> dict[str, object]:
    """A user or employee of whom a lot is known."""
    private = {"name": NAME, "email": EMAIL, "department": "secret-marker-department"}
    return {
        "id": user_id, **private, "interests": ["secret-marker-interest"],
        "preferences": {"note": "secret-marker-preference"}, **more,
    }  # fmt: skip


def found_in(text: bytes) -> list[str]:
    """The markers that a text holds, in whatever way it was written."""
    return [marker for marker, forms in _FORMS.items() if any(form in text for form in forms)]


def lines_with_markers(files: Iterable[Path]) -> Iterator[str]:
    """``file:line: markers`` for each line that should not be there."""
    for file in files:
        content = file.read_bytes()
        if found_in(content):
            for number, line in enumerate(content.splitlines(), 1):
                if markers := found_in(line):
                    yield f"{file}:{number}: {', '.join(markers)}"


class Listener:
    """Notes where the code of this process logs a marker, at whatever level, for the time of a block.

    It makes the records: a handler would be gone as soon as a test configures the logging.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._format = logging.Formatter("%(name)s: %(message)s").format
        self._make = logging.getLogRecordFactory()

    def __enter__(self) -> Self:
        logging.setLogRecordFactory(self._hear)
        logging.getLogger().setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_: object) -> None:
        logging.setLogRecordFactory(self._make)

    def _hear(self, *arguments: Any, **more: Any) -> logging.LogRecord:
        record = self._make(*arguments, **more)
        markers = found_in(self._format(record).encode("utf-8", "replace"))
        if markers and logging.getLogger(record.name).filter(record):
            self.heard.append(f"{record.pathname}:{record.lineno}: {', '.join(markers)}")
        return record


def _forms(marker: str) -> Iterator[bytes]:
    text = marker.encode()
    yield text
    if not marker.isascii():
        # JSON in ASCII, and bytes as Python shows them; and either one inside a line that is JSON itself.
        for form in (marker.encode("unicode_escape"), repr(text)[2:-1].encode()):
            yield from (form, form.replace(b"\\", b"\\\\"))
    if len(text) >= SHORTEST_IN_BASE64:  # the broker keeps messages so: there are three ways to begin in four letters
        for before in range(3):
            yield base64.b64encode(b" " * before + text)[4 if before else 0 : -4]


_FORMS: Final = {marker: tuple(_forms(marker)) for marker in (*PLANTED, *MENUS)}
