"""The place that is told of an error: code of those who can mend it, and none of its values."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connectbot.redis_url import RedisAddress
from tasks import menus
from tasks.raised_at import raised_at

HANDLER = """
from installed_library import fail

def handle():
    fail()
"""


def place(job: Callable[[], Any], handler: Callable[..., Any] = menus.follow) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        job()
    return raised_at(caught.value, handler)


def line_of(job: Callable[[], Any]) -> str:
    """The first line in a function, as it is told."""
    return f"{Path(__file__).name}:{job.__code__.co_firstlineno + 1} in {job.__name__}"


def test_it_is_where_a_library_was_called_in_vain() -> None:
    def read() -> None:
        Path("/secret-marker").read_text()

    assert place(read) == line_of(read)


def test_where_our_own_library_has_failed_its_caller_is_told_too() -> None:
    def look_up() -> None:
        RedisAddress.parse("http://secret-marker")

    where, caller = place(look_up).split(", from ")
    assert re.fullmatch(r"connectbot/redis_url\.py:\d+ in \w+", where)
    assert caller == line_of(look_up)


def test_a_handler_may_be_installed_as_a_library_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site-packages"
    for name, code in (("installed_library.py", "def fail(): {}['secret-marker']\n"), ("theirs/handlers.py", HANDLER)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code)
    monkeypatch.syspath_prepend(folder)
    handle = importlib.import_module("theirs.handlers").handle
    assert place(handle, handle) == "theirs/handlers.py:5 in handle"
    assert place(handle).endswith(" in place"), "of what is nobody's own, the line that called it"
