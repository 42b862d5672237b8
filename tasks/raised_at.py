"""Where an error comes from, for whoever is to mend it: told by names of the code, which hold nobody's data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any, Final

OURS: Final = frozenset({"connectbot", "tasks", "worker"})
LIBRARY: Final = "connectbot"
FOREIGN: Final = ("site-packages", "dist-packages", "<")
"""What is in a file's name where its code is installed, or made by a library while it runs."""


def raised_at(error: Exception, handler: Callable[..., Any]) -> str:
    """The innermost line of the project's own code or the handler's, such as ``tasks/menus.py:63 in follow``.

    What a library raises is most often the fault of who called it. That may be so with our own library, too: then who
    called it is told as well. Project and handler may be installed, as libraries are.
    """
    own = {*OURS, _package(str(handler.__module__))}
    lines = list(walk_tb(error.__traceback__))
    lines = [line for line in lines if _is_own(line[0], own)] or lines
    callers = [line for line in lines if _package(_module(line[0])) != LIBRARY]
    return ", from ".join(dict.fromkeys(_told(*line) for line in (lines[-1], *callers[-1:])))


def _is_own(frame: FrameType, own: set[str]) -> bool:
    package = _package(_module(frame))
    is_foreign = package in sys.stdlib_module_names or any(sign in frame.f_code.co_filename for sign in FOREIGN)
    return package in own or not is_foreign


def _told(frame: FrameType, line: int) -> str:
    """A line of code, its file named from the folder of the outermost package on."""
    path = Path(frame.f_code.co_filename)
    depth = _module(frame).count(".") + 1 + (path.stem == "__init__")
    return f"{'/'.join(path.parts[-depth:])}:{line} in {frame.f_code.co_name}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _package(module: str) -> str:
    return module.partition(".")[0]
