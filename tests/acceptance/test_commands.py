"""The two commands of the README, as a newcomer runs them."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connectbot.errors import EmbeddedRedisError
from connectbot.redis_client import connect
from connectbot.redis_server import find_server
from tests.support import ROOT, wait_until

COMMAND = [sys.executable, "-m", "worker.cli"]
EVENT = (
    '{"id":"a","type":"user.created","data":{"user":{"id":7,"role":"admin"}},'
    '"timestamp":"2026-01-01T00:00:00+00:00","channel":"connectbot:global","user_id":7,"source":"test"}'
)
DJANGO = """
import sys
from django.conf import settings
settings.configure(CACHES={"default": {
    "BACKEND": "django_redis.cache.RedisCache",
    "LOCATION": sys.argv[1],
    "OPTIONS": {
        "CLIENT_CLASS": "django_redis.client.DefaultClient",
        "CONNECTION_POOL_KWARGS": {"max_connections": 20},
        "COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor",
        "IGNORE_EXCEPTIONS": True,
    },
}})
from django.core.cache import cache
print(cache.get(sys.argv[2]) or "")
"""


@pytest.fixture(autouse=True)
def _needs_redis() -> None:
    try:
        find_server()
    except EmbeddedRedisError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def clean_environment() -> dict[str, str]:
    """Ours without any setting: as of somebody who has set nothing yet."""
    ours = ("REDIS_URL", "CELERY_", "JAVA_", "CACHE_", "CONNECTBOT_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | {"PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Up:
    """A running ``connectbot up``, and what it has said."""

    process: subprocess.Popen[str]
    addresses: dict[str, str]

    def environment(self) -> dict[str, str]:
        return clean_environment() | {"REDIS_URL": self.addresses["redis"]}

    def run_python(self, code: str, *arguments: str) -> str:
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, env=self.environment(), check=True, timeout=60, capture_output=True, text=True)
        return done.stdout.strip()

    def as_django_reads(self, key: str) -> dict[str, Any] | None:
        text = self.run_python(DJANGO, self.addresses["redis"], key)
        return json.loads(text) if text else None

    def ask_flower(self, path: str) -> Any:
        user = f"{self.addresses['flower_user']}:{self.addresses['flower_password']}"
        headers = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}
        with urllib.request.urlopen(
            urllib.request.Request(self.addresses["flower"] + path, headers=headers), timeout=10
        ) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    directory = tmp_path_factory.mktemp("up")
    process = subprocess.Popen(
        [*COMMAND, "up", "--json"], cwd=directory, env=clean_environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Up(process, json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert not processes_of(directory), "Ctrl-C must stop every process"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def processes_of(directory: Path) -> list[str]:
    """Command lines of the processes that run in a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve().is_relative_to(directory):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended meanwhile
    return found


def test_an_event_added_by_hand_is_a_menu_that_django_reads(up: Up) -> None:
    client = connect(up.addresses["redis"])
    client.execute_command("XADD", "connectbot:events", "*", "event", EVENT)
    wait_until(lambda: client.exists(":1:menu:user:7:main"), deadline_seconds=30, what="the menu in Redis")
    client.close()
    cached = up.as_django_reads("menu:user:7:main")
    assert cached is not None
    assert cached["menu_type"] == "main"
    assert [option["action"] for option in cached["data"]["options"]] == [
        "show_profile", "show_activities", "show_preferences", "admin_panel", "manage_users",
    ]  # fmt: skip


def test_tasks_enqueued_from_elsewhere_are_done_and_seen_in_flower(up: Up) -> None:
    wait_until(lambda: len(workers(up)) == 2, deadline_seconds=30, what="both workers in Flower")
    up.run_python("from worker import app; from tasks.menus import rebuild; rebuild.delay([8])")
    up.run_python("from worker import app; app.send_task('menus.rebuild', args=[[9]])")
    for user_id in (8, 9):
        wait_until(
            lambda key=f"menu:user:{user_id}:main": up.as_django_reads(key),
            deadline_seconds=30,
            what=f"the menu of user {user_id}",
        )
    wait_until(
        lambda: [t["name"] for t in up.ask_flower("/api/tasks").values()].count("menus.rebuild") == 2,
        deadline_seconds=30,
        what="both tasks in Flower",
    )


def workers(up: Up) -> dict[str, Any]:
    try:
        return dict(up.ask_flower("/api/workers?refresh=1"))
    except urllib.error.URLError:
        return {}


def test_flower_does_not_answer_without_a_password(up: Up) -> None:
    wait_until(lambda: workers(up), deadline_seconds=30, what="Flower")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(up.addresses["flower"] + "/api/workers", timeout=10)
    assert refused.value.code == 401
    refused.value.close()


def test_the_demo_ends_by_itself_and_every_line_holds(tmp_path: Path) -> None:
    # It must take its own Redis, whatever is set, and otherwise go by the same settings as what it starts.
    environment = clean_environment() | {"REDIS_URL": "redis://127.0.0.1:1/0", "JAVA_SERVICE_URL": "http://127.0.0.1:1"}
    (tmp_path / ".env").write_text("CACHE_KEY_PREFIX=site\nCONNECTBOT_NAMESPACE=mine\n")
    done = subprocess.run(
        [*COMMAND, "demo", "--json"], cwd=tmp_path, env=environment, timeout=110, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert summary["ok"] is True
    assert len(summary["lines"]) == 7
    assert len(summary["menu"]["data"]["options"]) == 5
    assert not processes_of(tmp_path)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_running_when_it_is_killed(how: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen([*COMMAND, "up"], cwd=tmp_path, env=clean_environment(), stdout=subprocess.DEVNULL)
    try:
        log = tmp_path / ".connectbot" / "worker-default.log"
        wait_until(lambda: log.exists() and "reads lane" in log.read_text(), deadline_seconds=30, what="the worker")
        process.send_signal(how)
        process.wait(30)
        wait_until(lambda: not processes_of(tmp_path), deadline_seconds=20, what="the end of every process")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("command", "how", "what"),
    [
        ("demo", signal.SIGHUP, "connectbot-*"),  # a worker that was too slow to stop may leave something of its own
        ("chaos", signal.SIGINT, "*-*"),
        ("chaos", signal.SIGTERM, "*-*"),
    ],
)
def test_nothing_is_left_on_the_disk_when_it_is_interrupted(
    command: str, how: signal.Signals, what: str, tmp_path: Path
) -> None:
    environment = clean_environment() | {"TMPDIR": str(tmp_path)}
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, command], cwd=tmp_path, env=environment, stdout=output, stderr=output,
            preexec_fn=lambda: signal.signal(how, signal.SIG_DFL),  # ignored where the tests run under nohup
        )  # fmt: skip
    try:
        wait_until(lambda: a_worker_reads(tmp_path), deadline_seconds=60, what="a worker")
        process.send_signal(how)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    assert list(tmp_path.glob(what)) == []


def a_worker_reads(directory: Path) -> bool:
    return any("reads lane" in log.read_text() for log in directory.rglob("worker-*.log"))


def test_an_error_is_one_sentence(tmp_path: Path) -> None:
    environment = clean_environment() | {"CACHE_SERIALIZER": "yaml"}
    done = subprocess.run([*COMMAND, "up"], cwd=tmp_path, env=environment, timeout=60, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "connectbot: CACHE_SERIALIZER must be pickle or json\n"
