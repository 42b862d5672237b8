"""The environments of the peers: made with ``python -m venv`` and pip when they are first needed.

They are apart from ours, and two of them from the rest, because their requirements exclude each other: arq wants an
older redis-py, and celery-batches an older Celery. Ours has no use for ``requests``.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
HOME: Final = ROOT / ".connectbot" / "bench-venv"

OWN: Final = "own"
PLOTS: Final = "peers"

REQUIREMENTS: Final = {
    "peers": (
        "dramatiq[redis]>=2.2,<3",
        "faststream[cli,redis]>=0.7,<0.8",
        "hiredis>=3.3",
        "huey>=3.5,<4",
        "matplotlib>=3.10",
        "redis>=8,<9",
        "taskiq>=0.13,<0.14",
        "taskiq-redis>=1.2",
    ),
    "arq": ("arq>=0.28,<0.29", "hiredis>=3.3"),
    "batches": ("celery[redis]>=5.6,<5.7", "celery-batches>=0.11", "hiredis>=3.3"),
    "requests": ("celery[redis]>=5.7,<6", "hiredis>=3.3", "requests>=2.32"),
}


class NoEnvironment(Exception):
    """An environment could not be made; the reason is in the message."""


def python(environment: str) -> str:
    """The interpreter of an environment, made on first use. Raises `NoEnvironment`."""
    if environment == OWN:
        return sys.executable
    place = HOME / environment
    program, stamp = place / "bin" / "python", place / ".installed"
    wanted = hashlib.sha256("\n".join(REQUIREMENTS[environment]).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        _make(place, program, REQUIREMENTS[environment])
        stamp.write_text(wanted)
    return str(program)


def _make(place: Path, program: Path, requirements: tuple[str, ...]) -> None:
    print(f"Installing {', '.join(requirements)} into {place.relative_to(ROOT)}: only this once.", flush=True)
    venv.create(place, with_pip=True, clear=True)
    command = [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NoEnvironment(f"pip failed: {done.stderr.strip()[-300:]}")
