"""The probes of real workers and beats: each fault turns the right one red within 30 s, its end turns it green again,
and ``connectbot check`` names the cause."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connectbot.clients import Clients
from connectbot.diagnosis import Diagnosis
from connectbot.embedded import EmbeddedRedis
from connectbot.errors import RedisUnavailable
from connectbot.probe import ask
from connectbot.processes import NOTE_SECONDS, Process, Processes
from connectbot.redis_client import connect, translated_errors
from connectbot.redis_problems import redis_problems
from connectbot.settings import Settings
from tests.support import LANES, ROOT, Worker, environment, wait_until
from worker.cli import connectbot
from worker.health import STUCK_SECONDS

RED_SECONDS = 30.0
GREEN_SECONDS = 30.0
FAULTY_APP = "tests.faulty_app"
QUICK = ["--concurrency=1", "--without-mingle"]


@dataclasses.dataclass
class Probed:
    """A process whose probes are asked."""

    address: str

    def asks(self, probe: str) -> int:
        """The status of the answer, 0 when there is none."""
        host, _, port = self.address.partition(":")
        with contextlib.suppress(OSError):
            return ask(host, int(port), probe)[0]
        return 0

    def says(self, probe: str) -> str:
        host, _, port = self.address.partition(":")
        return ask(host, int(port), probe)[1]

    def turns_red(self, probe: str) -> None:
        wait_until(lambda: self.asks(probe) != 200, deadline_seconds=RED_SECONDS, what=f"/{probe} red")

    def turns_green(self, probe: str) -> None:
        wait_until(lambda: self.asks(probe) == 200, deadline_seconds=GREEN_SECONDS, what=f"/{probe} green")


def probes_of(settings: Settings, role: str) -> Probed:
    """The probes of the only process of a role, found as an operator finds them: in Redis."""
    client = connect(settings.redis_url)
    try:
        found = [seen.process for seen in Processes(client, settings.keys).seen(now=time.time())]
    finally:
        client.close()
    [address] = [process.probes for process in found if process.role == role]
    return Probed(address)


def causes(settings: Settings, *, beat: bool = False) -> dict[str, str]:
    """What ``connectbot check`` finds wrong with the lane ``default``: name → cause; of ``beat`` only when asked."""
    problems = Diagnosis(settings, ["default"]).problems()
    return {p.name: p.cause for p in problems if not p.is_advice and (beat or p.name != "beat_silent")}


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
        found = {problem.name for problem in redis_problems(client, settings)}
        client.close()
    assert found == {"may_evict", "keeps_nothing"}
    assert "Redis may drop events when its memory is full (maxmemory-policy allkeys-lru)." in said
    assert "Redis loses events when it restarts (appendonly no)." in said


# --- a full disk --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB; only root can have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here: this test needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_named_and_got_over(small_disk: Path, tmp_path: Path) -> None:
    with EmbeddedRedis(small_disk) as server:
        settings = Settings(redis_url=server.url)
        with Worker(settings, tmp_path, lanes=["default"], arguments=QUICK) as worker:
            worker.wait_ready()
            probed = probes_of(settings, "worker")
            probed.turns_green("readyz")
            ballast = small_disk / "ballast"
            _fill(ballast)
            _write(server.url, bytes(8192))  # more than the rest of the file's last page
            wait_until(
                lambda: "MISCONF" in probed.says("readyz"), deadline_seconds=RED_SECONDS, what="/readyz's reason"
            )
            assert probed.asks("readyz") == 503
            assert list(causes(settings)) == ["disk_full"], "what follows from it is left out"
            ballast.unlink()
            probed.turns_green("readyz")
            assert probed.asks("livez") == 200
            assert worker.is_alive()
            wait_until(lambda: not causes(settings), deadline_seconds=GREEN_SECONDS, what="nothing wrong")


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def _write(url: str, value: bytes) -> None:
    client = connect(url)
    with contextlib.suppress(RedisUnavailable), translated_errors():
        client.set("value", value)
    client.close()


# --- beat ---------------------------------------------------------------------------------------------


@pytest.fixture
def beats(settings: Settings, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts beats, and ends them."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-A", "worker", "beat", "--loglevel=INFO"]
        env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)}
        with (tmp_path / f"beat{len(started)}.log").open("wb") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def beat_probes(settings: Settings, pid: int) -> str:
    client = connect(settings.redis_url)
    try:
        found = [seen.process for seen in Processes(client, settings.keys).seen(now=time.time())]
    finally:
        client.close()
    return next((process.probes for process in found if process.pid == pid), "")


def test_a_beat_that_ticks_and_one_that_stands_by_are_both_alive(
    settings: Settings, beats: Callable[[], subprocess.Popen[bytes]]
) -> None:
    processes = [beats(), beats()]
    for process in processes:
        wait_until(lambda pid=process.pid: beat_probes(settings, pid), deadline_seconds=30, what="a beat's probes")
    both = [Probed(beat_probes(settings, process.pid)) for process in processes]
    for probed in both:
        probed.turns_green("livez")
        probed.turns_green("readyz")
        assert 'connectbot_pulse_age_seconds{part="schedule"}' in probed.says("metrics")
    processes[0].send_signal(signal.SIGTERM)
    processes[0].wait(30)
    assert not beat_probes(settings, processes[0].pid), "who ends in good order is not missed"
    assert both[1].asks("livez") == 200


def test_check_names_the_beat_that_hangs(settings: Settings, ours: Clients) -> None:
    ours.stream.register("default", "default.somebody", lease_seconds=60)
    ours.redis.set(settings.keys.last_tick, repr(time.time() - 100))
    assert causes(settings, beat=True)["beat_silent"].endswith(" ago, and no beat runs.")
    beat = Process(role="beat", name="beat@here", pid=12)
    Processes(ours.redis, settings.keys).note(beat, now=time.time() - 60)
    assert "beat beat@here (pid 12) has not been heard of for 60 s" in causes(settings, beat=True)["beat_silent"]
    Processes(ours.redis, settings.keys).note(beat, now=time.time())
    assert causes(settings, beat=True)["beat_silent"].endswith(" ago, although a beat runs.")


# --- the commands -------------------------------------------------------------------------------------


def run(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(connectbot, arguments, env=environment(settings))


def test_check_says_all_that_is_wrong_and_how_to_help(ours: Clients, settings: Settings) -> None:
    ours.redis.xadd(settings.keys.dead, {"type": "user.created", "event": "secret-marker"})
    ours.redis.hset(settings.keys.java_breaker, "state", "open")
    done = run(settings, "check", "--json")
    assert done.exit_code == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is False
    names = [problem["name"] for problem in told["problems"] if not problem["is_advice"]]
    assert names == ["no_consumer", "no_consumer", "dead_letters", "breaker_open"]
    assert all(problem["cause"].endswith(".") and problem["remedy"].endswith(".") for problem in told["problems"])
    assert "secret-marker" not in done.stdout
    shown = run(settings, "check")
    assert shown.exit_code == 1
    assert "No worker serves lane java. Start one: celery -A worker worker -Q java." in shown.stdout


def test_check_is_content_when_all_is_well(settings: Settings, ours: Clients) -> None:
    for lane in LANES:
        ours.stream.register(lane, f"{lane}.somebody", lease_seconds=60)
    ours.redis.set(settings.keys.last_tick, repr(time.time()))
    done = run(settings, "check", "--json")
    assert (done.exit_code, json.loads(done.stdout)["ok"]) == (0, True)
    assert "✔ all" in run(settings, "check").stdout


def test_check_names_a_backlog_that_grows_or_is_old(
    settings: Settings, ours: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(count: int) -> None:
        event = b'{"id":"a","type":"user.login","data":{}}'
        with ours.redis.pipeline() as pipe:
            for _ in range(count):
                pipe.xadd(settings.keys.events, {"event": event})
            pipe.execute()

    ours.stream.register("default", "default.somebody", lease_seconds=60)
    long_ago = int((time.time() - 90) * 1000)
    ours.redis.xadd(settings.keys.events, {"event": b"{}"}, id=f"{long_ago}-0")
    add(999)
    monkeypatch.setattr("connectbot.diagnosis.time.sleep", lambda _: add(10))
    found = causes(dataclasses.replace(settings, max_backlog=1100))
    assert list(found) == ["backlog_full", "backlog_old", "backlog_grows"]
    assert found["backlog_full"] == "1,000 events wait in lane default; at 1,100 publishing fails."
    assert "The oldest of 1,000 events in lane default has waited 9" in found["backlog_old"]
    assert found["backlog_grows"].endswith("1,010 events waiting, 10 more than a second before.")


def test_stats_are_printed_once_or_again_and_again(settings: Settings, ours: Clients) -> None:
    ours.stream.register("default", "default.somebody", lease_seconds=60)
    env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "worker.cli", "stats", "--watch", "--json", "--interval", "0.2"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        first, second = (json.loads(watching.stdout.readline()) for _ in range(2))
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
    assert second["now"] > first["now"]
    [default, java] = first["lanes"]
    assert (default["consumers"], java["consumers"]) == (["default.somebody"], [])
    assert {"backlog", "lag", "oldest_age_seconds", "effects_per_second", "in_flight", "delayed", "parked"} <= set(java)
    shown = run(settings, "stats")
    assert shown.exit_code == 0, shown.stderr
    for words in ("backlog", "oldest", "parked", "leases", "dead letters", "Java breaker", "beat's last tick", "never"):
        assert words in shown.stdout, shown.stdout


def test_check_names_a_redis_that_is_not_there() -> None:
    [problem] = Diagnosis(Settings(redis_url="redis://:secret@127.0.0.1:1/0"), LANES).problems()
    assert problem.name == "redis_away"
    assert problem.cause == "Redis at redis://127.0.0.1:1/0 cannot be reached: nobody takes the connection."
