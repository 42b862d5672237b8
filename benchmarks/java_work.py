"""The jobs for the Java service that ours and plain Celery are given, and the service itself.

The first part is imported in the peer's environment too: it needs nothing of ours.
"""

from __future__ import annotations

import json
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

PATH: Final = "/api/v1/matching/match/secret-coffee"
PEOPLE: Final = 6


def body(number: int) -> dict[str, Any]:
    """One request (contract v21), for people of its own."""
    first = number * PEOPLE
    return {
        "requestId": f"r{number}",
        "employees": [{"id": first + at, "department": f"d{at % 3}"} for at in range(PEOPLE)],
    }


def calls(url: str) -> dict[str, Any]:
    """The service's own book: ``requests``, ``in_flight``, ``most_in_flight``, and ``calls``, oldest first."""
    with urllib.request.urlopen(url + "/__calls") as response:
        book: dict[str, Any] = json.load(response)
    return book


@contextmanager
def stand_in(directory: Path, *options: str, port: int = 0) -> Iterator[str]:
    """The Java stand-in, ready, on a port of its own; answers its address. In Python where there is no Java."""
    from benchmarks.installation import wait_until
    from benchmarks.peers import ROOT
    from benchmarks.process import Processes
    from connectbot.embedded import free_port

    port = port or free_port()
    folder, log = ROOT / "examples" / "matching-service", directory / "matching-service.log"
    java = ["java", str(folder / "MatchingService.java")]
    command = java if shutil.which("java") else [sys.executable, str(folder / "matching_service.py")]
    command += ["--port", str(port), *options]
    with Processes(command, copies=1, environment={"PYTHONPATH": str(ROOT)}, log=log):
        wait_until(lambda: "matching service on" in log.read_text(), what=f"the stand-in (see {log})")
        yield f"http://127.0.0.1:{port}"


def publish(ours: Any, number: int, **changes: Any) -> None:
    """A request, as an event of its own, with ``number`` in its ``request_id``; ``ours`` are `Clients`."""
    asked = body(number)
    users = [one["id"] for one in asked["employees"]]
    data = {"request_id": asked["requestId"], "users": users, "employees": asked["employees"], **changes}
    ours.publisher.publish_microservice_event("matching", "matching.request", data)
