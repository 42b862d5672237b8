"""Somebody who follows a page of the documentation, word by word."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from connectbot.dead_letters import DeadLetters, Selection
from connectbot.embedded import HOST
from connectbot.keys import Keys
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from connectbot.watching.figures import read_figures
from tests.documents import Block, blocks
from tests.support import wait_until

RUN: Final = ("sh", "python", "diff")
"""Languages whose blocks are run."""
STAYS: Final = re.compile(
    r"(?:\w+=\S+ )?(?:\S*/)?(?:connectbot (?P<up>up)|celery -A worker (?P<role>worker|beat|flower))\b"
)
GIVEN: Final = {
    "the example site": """
import os, sys
sys.path.insert(0, "examples/django_site")
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
import connectbot, django
django.setup()
from django.conf import settings
from django.core.management import call_command
from django.db import transaction
from employees.models import Employee
from employees.redis_events import publish_user_created
call_command("migrate", verbosity=0)
REDIS_URL, JAVA_SERVICE_URL = settings.REDIS_URL, settings.JAVA_SERVICE_URL
employee = Employee.objects.create(name="Борис", role="employee")
"""
}
"""What a reader has at hand where a block says so."""
PYTHON: Final = """
import ast, asyncio, json, sys
names = {"__name__": "__main__"}
for place, code in json.load(sys.stdin):
    compiled = compile(code, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    waiting = eval(compiled, names)
    if waiting is not None:
        asyncio.run(waiting)
"""


@dataclass
class Reader:
    """Somebody who follows a page in ``folder``, on ``redis``.

    ``seen`` are lines that need not be started again. ``alone`` tells that nobody else uses this database.
    """

    folder: Path
    environment: dict[str, str]
    redis: RedisClient
    seen: set[str]
    alone: bool
    python: list[tuple[str, str]] = field(default_factory=list)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def follow(self, page: Path) -> None:
        """Do what the page says, block by block."""
        for block in blocks(page):
            if block.note_after("not run") or block.language not in RUN:
                continue
            {"sh": self._run_shell, "python": self._take_python, "diff": self._apply}[block.language](block)
        if self.python:
            self._run([sys.executable, "-c", PYTHON], page.name, given=json.dumps(self.python))
            self._see_effects(page.name)

    @property
    def log(self) -> Path:
        """What was said by what stays."""
        return self.folder / "output.log"

    def leave(self) -> None:
        """End what is still running."""
        if self.log.exists():
            print(self.log.read_text()[-5000:])
        for process in self.running:
            process.terminate()
        for process in self.running:
            self._wait_for(process)
        self.redis.delete(Keys().java_breaker)  # a page may have left it half-open, which is no fault, but no calm
        self.redis.close()

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(0 if self.alone else 60)  # others would notice an end in disorder, and `check` tell of it
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _see_effects(self, place: str) -> None:
        def waiting() -> int:
            (lane,) = read_figures(self.redis, Settings(), ["default"]).lanes
            return lane.backlog + lane.delayed

        wait_until(lambda: not waiting(), deadline_seconds=30, what=f"{place}: the effects of all events")
        dead = DeadLetters(self.redis, Keys(), room=1).find(Selection())
        assert [letter.summary() for letter in dead] == [], place

    def _run_shell(self, block: Block) -> None:
        code = self._filled(block.code)
        lines = [line.partition(" #")[0].strip() for line in code.splitlines() if line.strip()]
        staying = [found for line in lines if (found := STAYS.match(line))]
        if not staying:
            self._run(["bash", "-eu", "-o", "pipefail", "-c", code], block.place)
            self._see_effects(block.place)  # people are not as quick
            return
        assert len(staying) == len(lines), f"{block.place}: what stays and what does not, in one block"
        new = {found.string: found["role"] for found in staying if found["role"] and found.string not in self.seen}
        self.seen.update(new)
        self._start(new)

    def _start(self, roles: Mapping[str, str]) -> None:
        """Start command lines, given with their roles, and wait until all are ready: until so many are new."""
        look = {"worker": self._leases, "beat": self._processes, "flower": self._flower_answers}
        before = {role: look[role]() for role in roles.values()}
        for line in roles:
            with self.log.open("ab") as log:
                command = ["bash", "-c", f"exec env {line}"]
                self.running.append(
                    subprocess.Popen(
                        command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
                    )
                )
        for role, many in Counter(roles.values()).items():
            wait_until(
                lambda role=role, many=many: self._ended() or len(look[role]() - before[role]) >= many,
                deadline_seconds=60,
                what=f"{many} {role}",
            )
        assert not self._ended()

    def _ended(self) -> bool:
        return any(process.poll() is not None for process in self.running)

    # What is there now, by which a process is known to be ready.

    def _leases(self) -> set[bytes]:
        return set(self.redis.scan_iter(Keys().lease("*"), count=1000))

    def _processes(self) -> set[bytes]:
        return set(self.redis.zrange(Keys().processes, 0, -1))

    def _flower_answers(self) -> set[str]:
        try:
            urllib.request.urlopen(f"http://{HOST}:{self.environment['FLOWER_PORT']}/", timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return {"Flower"} if error.code == 401 else set()  # it wants the password
        except OSError:
            return set()
        raise AssertionError("Flower answers without a password")

    def _take_python(self, block: Block) -> None:
        if block.title:
            (self.folder / block.title).parent.mkdir(exist_ok=True)
            (self.folder / block.title).write_text(block.code)
            return
        if given := block.note_after("given"):
            self.python.append((f"given: {given}", GIVEN[given]))
        self.python.append((block.place, self._filled(block.code)))

    def _apply(self, block: Block) -> None:
        """Find the lines of a diff that are there already, once, and put the new ones in their place."""
        lines = block.code.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] != "+")
        after = "".join(line[1:] for line in lines if line[0] != "-")
        text = (self.folder / block.title).read_text()
        assert text.count(before) == 1, f"{block.place}: {block.title} does not hold, once,\n{before}"
        (self.folder / block.title).write_text(text.replace(before, after))

    def _filled(self, code: str) -> str:
        """The code with the words replaced that a reader replaces, and ports that are free here."""
        words = {"PORT": self.environment["REDIS_URL"].rpartition(":")[2].partition("/")[0]}
        words["9100"] = self.environment["PROBES_PORT"]
        return re.sub(r"\b(?:PORT|9100)\b", lambda found: words[found[0]], code)

    def _run(self, command: Sequence[str], place: str, *, given: str | None = None) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, input=given, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, f"{place}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
