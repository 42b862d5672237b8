"""The Lua scripts of the folder ``lua``."""

from __future__ import annotations

from importlib.resources import files


def text_of(*names: str) -> str:
    """The script that these files make, one after the other."""
    return "".join((files("connectbot") / "lua" / f"{name}.lua").read_text() for name in names)
