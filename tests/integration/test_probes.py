"""The probes of real workers and beats: each fault turns the right one red within 30 s, its end turns it green again,
and ``connectbot check`` names the cause."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.errors import RedisUnavailable
from connectbot.events import new_event
from connectbot.redis_client import connect, translated_errors
from connectbot.settings import Settings
from connectbot.watching.diagnosis import Diagnosis
from connectbot.watching.processes import NOTE_SECONDS, Processes
from connectbot.watching.redis_problems import redis_problems
from connectbot.watching.servers import servers
from tests.failover import Beat
from tests.probes import GREEN_SECONDS, RED_SECONDS, Probed, causes, probes_of
from tests.support import LANES, Worker, wait_until
from worker.health import STUCK_SECONDS

FAULTY_APP = "tests.faulty_app"
NO_LANE = "this worker serves no lane: neither default nor java is among its queues (-Q)"
QUICK = ["--concurrency=1", "--without-mingle"]


def test_what_stands_still_is_told_in_time() -> None:
    assert STUCK_SECONDS + NOTE_SECONDS < RED_SECONDS


def test_a_worker_that_hangs_is_not_alive(settings: Settings, worker: Worker) -> None:
    probed = probes_of(settings, "worker")
    probed.turns_green("livez")
    probed.turns_green("readyz")
    assert not causes(settings)
    worker.freeze()
    # The probe waits for its answer in vain: who asks gives up, as every health check does.
    with pytest.raises(OSError, match="timed out"):
        _ask_impatiently(probed)
    wait_until(
        lambda: "has not been heard of" in causes(settings).get("no_consumer", ""),
        deadline_seconds=RED_SECONDS,
        what="check naming the worker that hangs",
    )
    assert f"(pid {worker.pid})" in causes(settings)["no_consumer"]
    worker.thaw()
    probed.turns_green("livez")
    probed.turns_green("readyz")
    wait_until(lambda: not causes(settings), deadline_seconds=GREEN_SECONDS, what="nothing wrong")


def _ask_impatiently(probed: Probed) -> None:
    host, _, port = probed.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=1) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        connection.recv(1)


def test_consumers_that_hang_or_are_dead_and_a_blocked_loop_are_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = tmp_path / "fault"
    monkeypatch.setenv("CONNECTBOT_TEST_FAULT", str(fault))
    with Worker(settings, tmp_path, app=FAULTY_APP, arguments=QUICK) as worker:
        worker.wait_ready()
        probed = probes_of(settings, "worker")
        probed.turns_green("livez")
        fault.write_text("hang default\ndie java\nblock\n")
        for part in ("lane default", "lane java", "event loop of Celery"):
            wait_until(
                lambda part=part: f"the {part} has stood still" in probed.says("livez"),
                deadline_seconds=RED_SECONDS,
                what=f"/livez naming the {part}",
            )
        assert probed.asks("livez") == probed.asks("readyz") == 503
        for lane in LANES:
            [found] = [p.cause for p in Diagnosis(settings, [lane]).problems() if p.name == "no_consumer"]
            assert f"its consumer of lane {lane} is dead or stuck" in found
        fault.unlink()
        wait_until(
            lambda: [word for word in LANES if word in probed.says("livez")] == ["java"],
            deadline_seconds=GREEN_SECONDS,
            what="all but the dead one moving again",
        )
        assert worker.is_alive(), "this is the point: only the probe tells"
        worker.terminate()
        assert probed.asks("livez") == 0
        worker.start()
        worker.wait_ready()
        again = probes_of(settings, "worker")
        again.turns_green("livez")
        again.turns_green("readyz")
        assert not causes(settings)


def test_a_pool_that_takes_nothing_is_named(settings: Settings, ours: Clients, worker: Worker) -> None:
    """All else moves, and no task has begun whose time limit could end it."""
    probed = probes_of(settings, "worker")
    children = [int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    ours.publisher.publish(new_event("user.created", {"user": {"id": 7}}, channel="connectbot:global"))
    wait_until(
        lambda: "the pool of processes has stood still" in probed.says("livez"),
        deadline_seconds=RED_SECONDS,
        what="/livez naming the pool",
    )
    assert probed.asks("livez") == 503
    wait_until(lambda: "stands_still" in causes(settings), deadline_seconds=RED_SECONDS, what="check naming the pool")
    assert f"(pid {worker.pid}) runs, but its pool of processes stood still" in causes(settings)["stands_still"]
    for pid in children:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: ours.menus.get(7, "main"), deadline_seconds=20, what="the effect")
    probed.turns_green("livez")
    wait_until(lambda: not causes(settings), deadline_seconds=GREEN_SECONDS, what="nothing wrong")


def test_a_worker_that_serves_no_lane_is_named(settings: Settings, tmp_path: Path) -> None:
    with Worker(settings, tmp_path, lanes=["defualt"], arguments=QUICK) as worker:
        wait_until(lambda: "-Q names" in causes(settings)["no_consumer"], deadline_seconds=30, what="check naming it")
        cause = causes(settings)["no_consumer"]
        assert cause.startswith("No worker serves lane default: worker worker@")
        assert cause.endswith(f"(pid {worker.pid}) runs, but its -Q names no lane.")
        probed = probes_of(settings, "worker")
        assert (probed.asks("livez"), probed.asks("readyz")) == (200, 503), "to restart it would help nobody"
        assert NO_LANE in probed.says("readyz")
        [told] = [line for line in worker.log.read_text().splitlines() if NO_LANE in line]
        assert '"level":"error"' in told


@pytest.mark.parametrize("how", ["away", "frozen"])
def test_without_redis_a_worker_is_not_ready_but_alive(
    how: str, settings: Settings, worker: Worker, embedded_redis: EmbeddedRedis
) -> None:
    probed = probes_of(settings, "worker")
    if how == "away":
        embedded_redis.kill()
    else:
        embedded_redis.freeze()
    try:
        wait_until(lambda: "Redis" in probed.says("readyz"), deadline_seconds=RED_SECONDS, what="/readyz naming Redis")
        assert probed.asks("readyz") == 503
        assert f"redis_{how}" in causes(settings)
        assert "connectbot_redis_up 0.0" in probed.says("metrics"), "it answers all the same"
        assert probed.asks("livez") == 200, "to restart it would help nobody"
    finally:
        embedded_redis.start()
        embedded_redis.thaw()
    probed.turns_green("readyz")
    assert probed.asks("livez") == 200
    wait_until(lambda: not causes(settings), deadline_seconds=GREEN_SECONDS, what="nothing wrong")


def test_a_port_is_for_one_worker_and_free_again_when_it_ends(
    settings: Settings, worker: Worker, tmp_path: Path
) -> None:
    first = probes_of(settings, "worker")
    settings = dataclasses.replace(settings, probes=first.address)
    # Its processes are replaced after each task, so that some are forked while it listens.
    arguments = [*QUICK, "--max-tasks-per-child=1"]
    with Worker(settings, tmp_path, lanes=["default"], name="second", arguments=arguments) as second:
        second.wait_ready()
        assert "this process works without probes: CONNECTBOT_PROBES: cannot listen at" in second.log.read_text()
        worker.terminate()
        second.terminate()
        second.start()
        second.wait_ready()
        first.turns_green("readyz")


def test_a_worker_warns_loudly_of_a_redis_that_may_lose_events(tmp_path: Path) -> None:
    config = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru", "appendonly": "no"}
    with EmbeddedRedis(tmp_path / "redis", config=config) as server:
        settings = Settings(redis_url=server.url)
        with Worker(settings, tmp_path, lanes=["default"], arguments=QUICK) as worker:
            worker.wait_ready()
            said = worker.log.read_text()
        client = connect(server.url)
        found = {problem.name for problem in redis_problems(client, servers(settings)[0])}
        client.close()
    assert found == {"may_evict", "keeps_nothing"}
    assert "Redis may drop events when its memory is full (maxmemory-policy allkeys-lru)." in said
    assert "Redis loses events when it restarts (appendonly no)." in said


# --- a full disk --------------------------------------------------------------------------------------


class Disk:
    """Where a Redis keeps its append-only file, and what fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, server: EmbeddedRedis) -> None:
        """Take all that is left."""
        with (self.folder / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self, server: EmbeddedRedis) -> None:
        """Give it back."""
        (self.folder / "ballast").unlink()


class Quota(Disk):
    """No file of the server may grow (RLIMIT_FSIZE), as where a quota is used up: its write fails, too.

    The signal that would end it is ignored: it was started by way of a Python, which ignores it.
    """

    def fill(self, server: EmbeddedRedis) -> None:
        size = max(file.stat().st_size for file in server.directory.rglob("*.aof"))
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def free(self, server: EmbeddedRedis) -> None:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture(params=["a full disk", "a used up quota"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A file system of 8 MB, which only root can have; or a limit, for everybody."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "a used up quota":
        yield Quota(folder)
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here: this test needs root")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_named_and_got_over(disk: Disk, tmp_path: Path) -> None:
    with EmbeddedRedis(disk.folder) as server:
        settings = Settings(redis_url=server.url)
        with Worker(settings, tmp_path, lanes=["default"], arguments=QUICK) as worker:
            worker.wait_ready()
            probed = probes_of(settings, "worker")
            probed.turns_green("readyz")
            disk.fill(server)
            _write(server.url, bytes(8192))  # more than the rest of the file's last page
            wait_until(
                lambda: "MISCONF" in probed.says("readyz"), deadline_seconds=RED_SECONDS, what="/readyz's reason"
            )
            assert probed.asks("readyz") == 503
            assert list(causes(settings)) == ["disk_full"], "what follows from it is left out"
            disk.free(server)
            probed.turns_green("readyz")
            assert probed.asks("livez") == 200
            assert worker.is_alive()
            wait_until(lambda: not causes(settings), deadline_seconds=GREEN_SECONDS, what="nothing wrong")


def _write(url: str, value: bytes) -> None:
    client = connect(url)
    with contextlib.suppress(RedisUnavailable), translated_errors():
        client.set("value", value)
    client.close()


# --- beat ---------------------------------------------------------------------------------------------


def beat_probes(settings: Settings, pid: int) -> str:
    client = connect(settings.redis_url)
    try:
        found = [seen.process for seen in Processes(client, settings.keys).seen()]
    finally:
        client.close()
    return next((process.probes for process in found if process.pid == pid), "")


def test_a_beat_that_ticks_and_one_that_stands_by_are_both_alive(settings: Settings, tmp_path: Path) -> None:
    with Beat(settings, tmp_path / "first.log") as first, Beat(settings, tmp_path / "second.log") as second:
        for beat in (first, second):
            wait_until(lambda pid=beat.pid: beat_probes(settings, pid), deadline_seconds=30, what="a beat's probes")
        both = [Probed(beat_probes(settings, beat.pid)) for beat in (first, second)]
        for probed in both:
            probed.turns_green("livez")
            probed.turns_green("readyz")
            assert 'connectbot_pulse_age_seconds{part="schedule"}' in probed.says("metrics")
        first.end(signal.SIGTERM)
        assert not beat_probes(settings, first.pid), "who ends in good order is not missed"
        assert both[1].asks("livez") == 200
