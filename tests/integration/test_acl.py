"""The roles of deploy/redis-acl on a real server: sufficient for what each does, and no more."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
import redis
from celery import Celery

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.errors import ConnectBotError
from connectbot.events import new_event
from connectbot.redis_client import RedisClient, connect
from connectbot.settings import Settings
from tests.failover import running_beat
from tests.redis_acl import ADMINISTRATOR, ROLES, USERS, password_of, refusals, with_role, write_users
from tests.support import ROOT, Worker, environment, wait_until

ENTRY = ("XADD", "connectbot:events", "*", "type", "user.login", "event", "{}")

ALLOWED = {
    "publisher": [
        ENTRY,
        ("XLEN", "connectbot:events"),
        ("XADD", "connectbot:trace:0", "MAXLEN", "~", 500, "*", "step", "{}"),
        ("EXPIRE", "connectbot:trace:0", 60),
        ("PUBLISH", "connectbot:user:7", "{}"),
        ("SET", ":1:menu:user:7:main", "x", "EX", 60),
        ("SET", "connectbot:1:anything:of:the:site", "x"),
        ("GET", ":1:django.contrib.sessions.cacheabc"),
        ("DEL", ":1:menu:user:7:main"),
        ("INCRBY", ":1:counter", 1),
        ("MGET", ":1:a", ":1:b"),
        ("PTTL", ":1:a"),
        ("SCAN", 0, "MATCH", ":1:*"),
        ("ZADD", "connectbot:temp:due", 1, "a"),
        ("SADD", "connectbot:temp:keys:user_7", "a"),
        ("LPUSH", "default", "{}"),
        ("EVAL", "return redis.call('XLEN', KEYS[1])", 1, "connectbot:events"),
    ],
    "worker": [
        ENTRY,
        ("XGROUP", "CREATE", "connectbot:events", "java", "0", "MKSTREAM"),
        ("XREADGROUP", "GROUP", "default", "me", "COUNT", 1, "STREAMS", "connectbot:events", ">"),
        ("XPENDING", "connectbot:events", "default"),
        ("XINFO", "GROUPS", "connectbot:events"),
        ("XTRIM", "connectbot:events", "MAXLEN", 1000),
        ("HSET", "connectbot:fences:default", "me", 1),
        ("SET", ":1:menu:user:7:main", "x", "EX", 60),
        ("SET", "connectbot:1:menu:user:7:main", "x"),
        ("LPUSH", "default.worker@host.1.abcdef01", "{}"),
        ("RPOP", "default\x06\x163"),
        ("ZADD", "unacked_index", 1, "tag"),
        ("SADD", "_kombu.binding.celeryev", "a"),
        ("PUBLISH", "/0.celeryev/worker.heartbeat", "{}"),
        ("EVAL", "return redis.call('XADD', KEYS[1], '*', 'event', '{}')", 1, "connectbot:events"),
    ],
    "operator": [
        ("XRANGE", "connectbot:events:dead", "-", "+"),
        ("XINFO", "STREAM", "connectbot:events"),
        ("XDEL", "connectbot:events:dead", "1-1"),
        ENTRY,
        ("LLEN", "default"),
        ("HGETALL", "connectbot:counters"),
        ("GET", ":1:menu:user:7:main"),
        ("INFO",),
        ("CONFIG", "GET", "maxmemory-policy"),
        ("CLIENT", "LIST"),
        ("SLOWLOG", "GET", 1),
        ("ACL", "LOG", 1),
        ("MEMORY", "USAGE", "connectbot:events"),
        ("PUBLISH", "/0.celery.pidbox", "{}"),
    ],
}
FORBIDDEN_TO_ALL = [
    ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "SET", "maxmemory", 0), ("SHUTDOWN",), ("BGREWRITEAOF",),
    ("REPLICAOF", "NO", "ONE"), ("KEYS", "*"), ("ACL", "SETUSER", "me"), ("ACL", "LIST"), ("MONITOR",),
    ("SCRIPT", "FLUSH"), ("SAVE",), ("CLIENT", "KILL", "TYPE", "normal"), ("SWAPDB", 0, 1),
    ("MIGRATE", "h", 1, "k", 0, 1),
    ("RENAME", "connectbot:events", "connectbot:users"), ("GET", "somebody:elses"), ("SET", "somebody:elses", 1),
    ("PUBLISH", "somebody:elses", "x"), ("EVAL", "return redis.call('SET', 'somebody:elses', 1)", 0),
    ("EVAL", "return redis.call('FLUSHDB')", 0), ("SORT", "connectbot:events"),
    ("OBJECT", "ENCODING", "somebody:elses"),
]  # fmt: skip
FORBIDDEN = {
    "publisher": [
        *FORBIDDEN_TO_ALL,
        ("XREADGROUP", "GROUP", "default", "me", "STREAMS", "connectbot:events", ">"),
        ("XGROUP", "DESTROY", "connectbot:events", "default"),
        ("XACK", "connectbot:events", "default", "1-1"),
        ("XTRIM", "connectbot:events", "MAXLEN", 0),
        ("XDEL", "connectbot:events", "1-1"),
        ("XRANGE", "connectbot:events", "-", "+"),
        ("XRANGE", "connectbot:events:dead", "-", "+"),
        ("XRANGE", "connectbot:trace:0", "-", "+"),
        ("HSET", "connectbot:fences:default", "me", 1),
        ("SET", "connectbot:lease:me", 1),
        ("LPUSH", "default.worker@host.1.abcdef01", "{}"),
        ("RPOP", "default"),
        ("BRPOP", "default", 1),
        ("HGETALL", "unacked"),
        ("PUBLISH", "/0.celery.pidbox", "{}"),
        ("CONFIG", "GET", "*"),
    ],
    "worker": [
        *FORBIDDEN_TO_ALL,
        ("GET", ":1:django.contrib.sessions.cacheabc"),
        ("CONFIG", "GET", "*"),
        ("CLIENT", "LIST"),
    ],
    "operator": [
        *FORBIDDEN_TO_ALL,
        ("GET", ":1:django.contrib.sessions.cacheabc"),
        ("XREADGROUP", "GROUP", "default", "me", "STREAMS", "connectbot:events", ">"),
        ("XGROUP", "DESTROY", "connectbot:events", "default"),
        ("CONFIG", "REWRITE"),
    ],
}


def each(table: dict[str, list[tuple[Any, ...]]]) -> list[Any]:
    rows = ((role, command) for role, commands in table.items() for command in commands)
    return [pytest.param(role, command, id=f"{role}: {' '.join(map(str, command))}") for role, command in rows]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A server of its own: what it refuses is no complaint about the suite."""
    users = write_users(tmp_path_factory.mktemp("acl") / "users.acl")
    with EmbeddedRedis(config={"aclfile": str(users)}) as server:
        yield server


@pytest.fixture
def administrator(server: EmbeddedRedis) -> Iterator[RedisClient]:
    client = connect(server.url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def as_role(server: EmbeddedRedis, administrator: RedisClient) -> Iterator[Callable[[str], Settings]]:
    yield lambda role: Settings(redis_url=with_role(server.url, role))
    administrator.execute_command("ACL", "LOG", "RESET")


@pytest.mark.parametrize(("role", "command"), each(ALLOWED))
def test_what_a_role_needs_is_allowed(
    role: str, command: tuple[Any, ...], as_role: Callable[[str], Settings], administrator: RedisClient
) -> None:
    administrator.xgroup_create("connectbot:events", "default", id="0", mkstream=True)
    client = connect(as_role(role).redis_url)
    client.execute_command(*command)
    client.close()


@pytest.mark.parametrize(("role", "command"), each(FORBIDDEN))
def test_what_a_role_does_not_need_is_refused(
    role: str, command: tuple[Any, ...], as_role: Callable[[str], Settings]
) -> None:
    client = connect(as_role(role).redis_url)
    with pytest.raises(redis.ResponseError, match=r"no permissions|can't (access|run)|NOPERM|No permissions"):
        client.execute_command(*command)
    client.close()


def test_who_has_no_role_has_no_rights() -> None:
    first, *others = USERS.read_text().splitlines()
    assert first == "user default off resetkeys resetchannels -@all"
    assert [line.split()[1] for line in others] == list(ROLES)
    for line, role in zip(others, ROLES, strict=True):
        assert f" #{role.upper()}_SHA256 " in line, "Redis does not start before a password has been set"
        assert " nopass " not in line
        assert password_of(role) not in line


def test_the_file_as_it_is_shipped_does_not_start_a_server(tmp_path: Path) -> None:
    with pytest.raises(ConnectBotError, match="ACL"):
        EmbeddedRedis(tmp_path, config={"aclfile": str(USERS)}).start()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the README's commands use openssl")
def test_the_readmes_commands_set_the_passwords(tmp_path: Path) -> None:
    shutil.copy(USERS, tmp_path)
    blocks = re.findall(r"(?:^    .*\n)+", (USERS.parent / "README.md").read_text(), re.MULTILINE)
    done = subprocess.run(["bash", "-e"], input=blocks[0], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    passwords = dict(line.split(": ") for line in done.stdout.splitlines())
    assert set(passwords) == set(ROLES)
    file = tmp_path / USERS.name
    file.write_text(file.read_text().replace(USERS.read_text().splitlines()[0], ADMINISTRATOR))
    with EmbeddedRedis(config={"aclfile": str(file)}) as server:
        for role, password in passwords.items():
            client = connect(server.url.replace("://", f"://{role}:{password}@"))
            assert client.ping()
            client.close()


def test_site_and_worker_work_together_with_a_role_each(
    as_role: Callable[[str], Settings], administrator: RedisClient, tmp_path: Path
) -> None:
    site, worker_settings = Clients.open(as_role("publisher")), as_role("worker")
    with running_beat(worker_settings, tmp_path), Worker(worker_settings, tmp_path, lanes=["default"]) as worker:
        worker.wait_ready()
        site.publisher.publish(new_event("user.created", {"user": {"id": 7}}, channel="connectbot:global", user_id=7))
        wait_until(lambda: site.menus.get(7, "main"), deadline_seconds=20, what="an event's effect")
        send = "import worker; from tasks.menus import rebuild; rebuild.delay([8])"
        done = run(as_role("publisher"), "-c", send)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: site.menus.get(8, "main"), deadline_seconds=20, what="a task sent by the site")
        site.temp_data.store("user_7", "draft", {"a": 1}, now=time.time(), ttl_seconds=1)
        assert site.temp_data.keys_of("user_7") == ["draft"]
        wait_until(lambda: not administrator.zcard("connectbot:temp:due"), deadline_seconds=30, what="it expires")
    assert refusals(administrator) == []
    shown = worker.log.read_text() + (tmp_path / "beat.log").read_text()
    assert password_of("worker") not in shown
    site.redis.close()


OPERATORS_COMMANDS = [
    ("celery", "-A", "worker", "inspect", "ping", "--timeout=20", f"--destination=worker@{gethostname()}"),
    ("worker.cli", "check", "--json"),
    ("worker.cli", "stats", "--json"),
    ("worker.cli", "dead", "list", "--json"),
    ("worker.cli", "dead", "replay", "--all"),
    ("worker.cli", "dead", "drop", "--all"),
    ("worker.cli", "java", "status", "--json"),
]


def test_operators_look_at_a_worker_and_bury_its_dead(
    as_role: Callable[[str], Settings], administrator: RedisClient, tmp_path: Path
) -> None:
    settings = as_role("worker")
    with Worker(settings, tmp_path, lanes=["default"]) as worker:
        worker.wait_ready()
        administrator.xadd(settings.keys.events, {"event": "no JSON"})
        wait_until(lambda: administrator.xlen(settings.keys.dead), deadline_seconds=10, what="a dead letter")
        for module, *arguments in OPERATORS_COMMANDS:
            done = run(as_role("operator"), "-m", module, *arguments)
            assert "Traceback" not in done.stderr
            assert done.returncode == 0 or "check" in arguments, done.stdout + done.stderr
            assert password_of("operator") not in done.stdout + done.stderr
    assert refusals(administrator) == []


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with ``arguments`` in the environment of ``settings``."""
    variables = {**os.environ, **environment(settings)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60
    )


def test_tasks_are_json_and_nothing_else() -> None:
    from worker import app

    assert isinstance(app, Celery)
    assert (app.conf.accept_content, app.conf.task_serializer) == (["json"], "json")
    assert app.conf.result_accept_content in (None, ["json"])
