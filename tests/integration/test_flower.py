"""Flower beside a real worker: who may look, what is seen of tasks, and its log."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from connectbot.child_process import dying_with_us
from connectbot.clients import Clients
from connectbot.embedded import HOST, free_port
from connectbot.events import new_event
from connectbot.settings import Settings
from tests.support import ROOT, Worker, environment, wait_until

LOGIN = "somebody:password-of-flower"


class Flower:
    """``celery -A worker flower``, with a password."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.log = log
        self._url = f"http://{HOST}:{free_port()}"
        port = self._url.rpartition(":")[2]
        command = [sys.executable, "-m", "celery", "-A", "worker", "flower", f"--address={HOST}", f"--port={port}"]
        env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT), "FLOWER_BASIC_AUTH": LOGIN}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                dying_with_us(command), cwd=log.parent, env=env, stdout=output, stderr=subprocess.STDOUT
            )

    def ask(self, path: str, login: str = LOGIN) -> tuple[int, str]:
        """Status and text of a page; 0 while there is none."""
        request = Request(self._url + path)
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
        try:
            with urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, ""
        except (URLError, TimeoutError):
            return 0, ""

    def tasks(self) -> dict[str, dict[str, Any]]:
        """What it knows of tasks: name → the latest one."""
        status, text = self.ask("/api/tasks")
        found: dict[str, Any] = json.loads(text) if status == 200 else {}
        return {task["name"]: task for task in found.values()}


@pytest.fixture
def flower(settings: Settings, tmp_path: Path) -> Iterator[Flower]:
    flower = Flower(settings, tmp_path / "flower.log")
    try:
        wait_until(lambda: flower.ask("/workers")[0] == 200, deadline_seconds=30, what="Flower")
        yield flower
    finally:
        flower.process.kill()
        flower.process.wait()


def test_tasks_and_batches_are_shown_to_who_may_look_and_without_what_they_say(
    settings: Settings, flower: Flower, ours: Clients, tmp_path: Path
) -> None:
    people = [{"id": id_, "name": "secret-marker"} for id_ in (7, 8)]
    with Worker(settings, tmp_path) as worker:
        worker.wait_ready()
        events = [
            new_event("user.created", {"user": {"id": id_, "name": "secret-marker"}}, channel="connectbot:global")
            for id_ in range(3)
        ]
        ours.publisher.publish(*events)
        send = f"import worker; from tasks.matching import request; request.delay([7, 8], employees={people!r})"
        env = {**os.environ, **environment(settings)}
        subprocess.run([sys.executable, "-c", send], cwd=ROOT, env=env, check=True, timeout=60)
        wait_until(lambda: {"menus.follow_users", "matching.request"} <= set(flower.tasks()), deadline_seconds=20,
                   what="both tasks in Flower")  # fmt: skip
        seen = flower.tasks()
        pages = [flower.ask(f"/task/{task['uuid']}")[1] for task in seen.values()] + [flower.ask("/tasks")[1]]
        queues = flower.ask("/broker")[1]
    assert seen["menus.follow_users"]["kwargs"].startswith("3 entries of lane default, ")
    assert seen["matching.request"]["args"] == "([7, 8],)"
    assert seen["matching.request"]["kwargs"] == "{'employees': [{2 fields}, {2 fields}]}"
    assert all(lane in queues for lane in ("default", "java"))
    assert {flower.ask(path, "somebody:guess")[0] for path in ("/workers", "/tasks", "/api/tasks")} == {401}
    log = flower.log.read_text()
    assert all(json.loads(line)["logger"] for line in log.splitlines()), "one form, as in every other process"
    assert "secret-marker" not in "".join(pages) + json.dumps(seen) + log
    assert LOGIN.partition(":")[2] not in log
