"""``connectbot check`` and ``connectbot stats``: what is wrong, in a sentence, and what is going on."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import msgspec
import pytest
from click.testing import CliRunner, Result

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.errors import BacklogFull
from connectbot.events import new_event
from connectbot.publisher import EventPublisher
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from connectbot.watching.diagnosis import Diagnosis
from connectbot.watching.processes import Process, Processes
from tests.probes import causes
from tests.support import LANES, ROOT, environment
from worker.cli import connectbot


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
    monkeypatch.setattr("connectbot.watching.diagnosis.time.sleep", lambda _: add(10))
    found = causes(dataclasses.replace(settings, max_backlog=1100))
    assert list(found) == ["backlog_full", "backlog_old", "backlog_grows"]
    assert found["backlog_full"] == "1,000 events wait in lane default; at 1,100 publishing fails."
    assert "The oldest of 1,000 events in lane default has waited 9" in found["backlog_old"]
    assert found["backlog_grows"].endswith("1,010 events waiting, 10 more than a second before.")


def test_check_names_the_group_for_which_the_stream_is_kept(
    settings: Settings, ours: Clients, client: RedisClient
) -> None:
    settings = dataclasses.replace(settings, max_backlog=200, stream_keep=10)
    stream, group = settings.keys.events, "matching-service"

    def told() -> dict[str, str]:
        return {p.name: f"{p.cause} {p.remedy}" for p in Diagnosis(settings, LANES).problems()}

    client.xgroup_create(stream, group, id="0")
    events = [new_event("user.login", {}, channel="connectbot:global") for _ in range(settings.room)]
    publisher = EventPublisher(ours.redis, keys=settings.keys, room=settings.room)
    publisher.publish(*events)
    for lane in LANES:
        assert told().keys() & {"backlog_full", "stream_full"} == {"backlog_full"}, "a lane has read nothing either"
        ours.stream.register(lane, f"{lane}.somebody", lease_seconds=60)
        read = ours.stream.read(lane, f"{lane}.somebody", limit=settings.room, wait_seconds=1)
        ours.stream.commit(lane, f"{lane}.somebody", [entry.id for entry in read], Effects())
    assert ours.stream.trim(keep=settings.stream_keep) == 0
    with pytest.raises(BacklogFull, match="connectbot check"):
        publisher.publish(events[0])

    never_read = told()
    assert not {"backlog_full", "backlog_old"} & never_read.keys()
    assert f"group {group}, which is no lane, has not finished with the oldest." in never_read["stream_full"]
    assert never_read["stream_full"].endswith(f"remove it: XGROUP DESTROY {stream} {group}.")
    client.xreadgroup(group, "somebody", {stream: ">"})
    assert "stream_full" in told(), "it was read, and not acknowledged"
    client.xgroup_destroy(stream, group)
    assert ours.stream.trim(keep=settings.stream_keep) > 0
    assert "stream_full" not in told()


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


def test_stats_go_on_where_there_is_no_terminal(settings: Settings, ours: Clients) -> None:
    env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "worker.cli", "stats", "--watch", "--interval", "0.2"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        titles = (line for line in watching.stdout if "lanes, " in line)
        assert [next(titles), next(titles)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0


def test_stats_that_were_interrupted_did_not_succeed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("worker.commands.stats.time.sleep", interrupt)
    assert run(settings, "stats").exit_code == 130


def test_check_names_a_redis_that_is_not_there() -> None:
    [problem] = Diagnosis(Settings(redis_url="redis://:secret@127.0.0.1:1/0"), LANES).problems()
    assert problem.name == "redis_away"
    assert problem.cause == "Redis at redis://127.0.0.1:1/0 cannot be reached: nobody takes the connection."


def test_check_names_a_host_that_has_no_address(settings: Settings, ours: Clients) -> None:
    unknown = "redis://:secret@no-such-host.invalid:6379/0"  # RFC 6761: it never resolves
    [problem] = Diagnosis(Settings(redis_url=unknown), LANES).problems()
    assert problem.name == "redis_away"
    told = "at redis://no-such-host.invalid:6379/0 cannot be reached: the name of its host does not resolve ("
    assert problem.cause.startswith(f"Redis {told}")
    assert problem.remedy == "Start Redis, or correct REDIS_URL; no event is lost meanwhile."
    found = Diagnosis(dataclasses.replace(settings, celery_broker_url=unknown), LANES).problems()
    [broker] = [problem for problem in found if problem.name == "broker_away"]
    assert broker.cause.startswith(f"The broker's Redis {told}")
    assert broker.remedy == "Start Redis, or correct CELERY_BROKER_URL; no event is lost meanwhile."


def test_check_does_not_say_that_nobody_is_there_where_somebody_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        [problem] = Diagnosis(Settings(redis_url=url), LANES).problems()
        thread.join()
    assert problem.cause.startswith(f"Redis at {url} cannot be reached: ")
    assert "nobody" not in problem.cause


def test_check_names_sentinels_without_a_master() -> None:
    [problem] = Diagnosis(Settings(redis_url="sentinel://127.0.0.1:1/service/0"), LANES).problems()
    assert problem.cause.endswith(" cannot be reached: no sentinel answers and names a master.")


@pytest.mark.parametrize("ahead_seconds", [-3600, 3600])
def test_a_process_whose_host_has_another_time_counts_as_heard_of_until_it_is_silent(
    settings: Settings, ours: Clients, ahead_seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes, beat, now = Processes(ours.redis, settings.keys), Process(role="beat", name="b@x", pid=1), time.time
    with monkeypatch.context() as there:
        there.setattr(time, "time", lambda: now() + ahead_seconds)
        processes.note(beat)
    assert [one.is_silent for one in processes.seen()] == [False]
    ours.redis.zincrby(settings.keys.processes, -60, msgspec.json.encode(beat))
    assert [one.is_silent for one in processes.seen()] == [True]


def test_check_names_the_beat_that_hangs(settings: Settings, ours: Clients) -> None:
    ours.stream.register("default", "default.somebody", lease_seconds=60)
    ours.redis.set(settings.keys.last_tick, repr(time.time() - 100))
    assert causes(settings, beat=True)["beat_silent"].endswith(" ago, and no beat runs.")
    beat = Process(role="beat", name="beat@here", pid=12)
    Processes(ours.redis, settings.keys).note(beat)
    ours.redis.zincrby(settings.keys.processes, -60, msgspec.json.encode(beat))
    assert "beat beat@here (pid 12) has not been heard of for 60 s" in causes(settings, beat=True)["beat_silent"]
    Processes(ours.redis, settings.keys).note(beat)
    assert causes(settings, beat=True)["beat_silent"].endswith(" ago, although a beat runs.")


def test_a_schedule_that_has_just_begun_is_given_time(settings: Settings, ours: Clients) -> None:
    def begin(role: str, *, seconds_ago: float) -> None:
        lanes = LANES if role == "worker" else ()
        process = Process(role=role, name="it@here", pid=1, lanes=lanes, started_at=time.time() - seconds_ago)
        if role == "beat":
            ours.redis.delete(settings.keys.processes)
        Processes(ours.redis, settings.keys).note(process)

    for lane in LANES:
        ours.stream.register(lane, f"{lane}.somebody", lease_seconds=60)
    begin("beat", seconds_ago=5)
    begin("worker", seconds_ago=90)
    done = run(settings, "check", "--json")
    [told] = [one for one in json.loads(done.stdout)["problems"] if one["name"].startswith("beat")]
    assert (done.exit_code, told["name"], told["is_advice"]) == (0, "beat_begins", True)
    assert told["cause"] == "The schedule has not ticked in the 5 s for which beat and a worker for it have run."
    begin("beat", seconds_ago=90)
    begin("worker", seconds_ago=5)
    assert not causes(settings, beat=True), "who is to work the tick off has just begun"
    begin("beat", seconds_ago=90)
    begin("worker", seconds_ago=90)
    assert causes(settings, beat=True) == {"beat_silent": "The schedule has never ticked, although a beat runs."}


def test_check_and_stats_tell_how_long_the_oldest_parked_job_has_waited(settings: Settings, ours: Clients) -> None:
    ours.redis.hset(settings.keys.java_breaker, "state", "open")
    assert causes(settings)["breaker_open"] == "The circuit breaker of the Java service is open; jobs parked: 0."
    assert "oldest parked event" not in run(settings, "stats").stdout
    for hours in (1, 3):
        came_ms = int((time.time() - hours * 3600) * 1000)
        ours.redis.zadd(settings.keys.parked("default"), {f"{came_ms}-0/1-0": came_ms})
    assert "; jobs parked: 2, the oldest of them 108" in causes(settings)["breaker_open"]
    assert re.search(r"oldest parked event +3 h", run(settings, "stats").stdout)


def test_jobs_that_pass_again_are_no_fault(settings: Settings, ours: Clients) -> None:
    ours.stream.register("default", "default.somebody", lease_seconds=60)
    ours.redis.hset(settings.keys.java_breaker, "state", "half_open")
    [told] = [p for p in Diagnosis(settings, ["default"]).problems() if p.name.startswith("breaker")]
    assert (told.name, told.is_advice) == ("breaker_half_open", True)


def test_check_names_who_says_itself_that_it_stands_still(settings: Settings, ours: Clients) -> None:
    ours.stream.register("default", "default.somebody", lease_seconds=60)
    beat = Process(role="beat", name="beat@here", pid=12, probes="127.0.0.1:9")
    Processes(ours.redis, settings.keys).note(beat, still=["schedule"])
    [found] = [p for p in Diagnosis(settings, ["default"]).problems() if not p.is_advice]
    assert found.cause.startswith("Beat beat@here (pid 12) runs, but its schedule stood still when"), found
    assert found.remedy == "Restart it; http://127.0.0.1:9/livez says what stands still."
