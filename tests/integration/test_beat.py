"""Two beats on one schedule: one ticks, the other stands by."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from connectbot.embedded import EmbeddedRedis
from connectbot.redis_client import RedisClient, connect
from connectbot.settings import Settings
from tests.failover import Beat, running_beat
from tests.support import ROOT, wait_until
from worker.schedule import SCHEDULE


@pytest.fixture
def two_beats(settings: Settings, tmp_path: Path) -> Iterator[tuple[Beat, Beat]]:
    """One that ticks, and one that stands by."""
    active = Beat(settings, tmp_path / "active.log")
    beats = [active]
    try:
        active.wait_ready()
        beats.append(Beat(settings, tmp_path / "standby.log"))
        wait_until(lambda: beats[1].said("beat: Starting"), deadline_seconds=60, what="the second beat")
        yield beats[0], beats[1]
    finally:
        for beat in beats:
            beat.end()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_second_beat_goes_on_when_the_first_is_gone(
    how: signal.Signals, two_beats: tuple[Beat, Beat], client: RedisClient
) -> None:
    active, standby = two_beats
    wait_until(lambda: active.ticks() and client.llen("default"), deadline_seconds=20, what="a tick")
    assert not standby.ticks()
    active.end(how)
    wait_until(lambda: len(standby.ticks()) >= 2, deadline_seconds=30, what="ticks of the second beat")
    for name, entry in SCHEDULE.items():
        sent = sorted(active.ticks(name) + standby.ticks(name))
        gaps = [after - before for before, after in pairwise(sent)]
        assert not [gap for gap in gaps if gap < entry["schedule"] * 0.9], f"{name} ticked twice: {sent}"
    wait_until(lambda: client.llen("default") >= 3, deadline_seconds=10, what="all that was said to be sent")
    tasks = client.lrange("default", 0, -1)
    assert len(tasks) == len(set(tasks)), "no task was sent twice"
    banner, _, lines = standby.log.read_text().partition('\n{"')
    assert "scheduler -> worker.beat.WatchedScheduler" in banner
    assert {json.loads(line)["logger"] for line in f'{{"{lines}'.splitlines()} >= {"celery.beat", "worker.probes"}


def test_the_schedule_comes_back_when_redis_came_back_empty(
    two_beats: tuple[Beat, Beat], settings: Settings, client: RedisClient
) -> None:
    active, standby = two_beats
    wait_until(lambda: active.ticks(), deadline_seconds=20, what="a tick")
    client.delete(*client.scan_iter(match=f"{settings.keys.beat_prefix}*"))
    before = len(active.ticks()) + len(standby.ticks())
    wait_until(
        lambda: len(active.ticks()) + len(standby.ticks()) >= before + 2,
        deadline_seconds=40,
        what="ticks of the schedule that was written again",
    )


def move_last_run(name: str, settings: Settings, client: RedisClient, *, years: int) -> None:
    key = f"{settings.keys.beat_prefix}{name}"
    meta = json.loads(client.hget(key, "meta"))
    meta["last_run_at"]["year"] += years
    client.hset(key, "meta", json.dumps(meta))
    client.zincrby(f"{settings.keys.beat_prefix}:schedule", years * 365 * 86_400, key)


def test_a_beat_goes_on_although_a_clock_was_a_year_ahead(
    two_beats: tuple[Beat, Beat], settings: Settings, client: RedisClient
) -> None:
    active, standby = two_beats
    wait_until(lambda: active.ticks(), deadline_seconds=20, what="a tick")
    active.end(signal.SIGKILL)
    for name in SCHEDULE:
        move_last_run(name, settings, client, years=1)
    wait_until(lambda: len(standby.ticks()) >= 2, deadline_seconds=30, what="ticks of the second beat")
    assert len(standby.ticks("menus-warm")) == 0, "what has run is not done again at once"


def sent(queues: RedisClient, task: str) -> int:
    return sum(json.loads(message)["headers"]["task"] == task for message in queues.lrange("default", 0, -1))


@pytest.mark.parametrize(("trouble", "has_run"), [("away", True), ("refuses", False)])
def test_what_the_broker_does_not_take_is_sent_once_when_it_does(
    trouble: str, has_run: bool, settings: Settings, client: RedisClient, tmp_path: Path
) -> None:
    with (
        EmbeddedRedis(tmp_path / "broker") as broker,
        connect(broker.url) as queues,
        running_beat(replace(settings, celery_broker_url=broker.url), tmp_path) as beat,
    ):
        wait_until(lambda: queues.llen("default"), deadline_seconds=20, what="a tick")
        if trouble == "away":
            broker.kill()
        else:
            queues.config_set("min-replicas-to-write", 1)
        move_last_run("menus-warm", settings, client, years=-1)
        if not has_run:
            client.hdel(f"{settings.keys.beat_prefix}menus-warm", "meta")
        wait_until(lambda: len(beat.ticks("menus-warm")) > 1, deadline_seconds=30, what="two attempts")
        broker.start()
        queues.config_set("min-replicas-to-write", 0)
        wait_until(lambda: sent(queues, "menus.warm"), deadline_seconds=30, what="the task")
        attempts = len(beat.ticks("temp-data-expire"))
        wait_until(lambda: len(beat.ticks("temp-data-expire")) > attempts, deadline_seconds=30, what="the next tick")
        assert sent(queues, "menus.warm") == 1
        assert beat.log.read_text().count("the broker does not take what is due") == 1


def test_a_beat_that_still_waits_for_redis_ends_when_it_is_told_to(settings: Settings, tmp_path: Path) -> None:
    away = replace(settings, redis_url="redis://127.0.0.1:1/0")
    refused = replace(settings, redis_url=settings.redis_url.replace("//", "//nobody:wrong@"))
    with Beat(away, tmp_path / "away.log") as first, Beat(refused, tmp_path / "refused.log") as second:
        for beat, how in ((first, signal.SIGTERM), (second, signal.SIGINT)):
            wait_until(lambda beat=beat: beat.said("beat waits for Redis"), deadline_seconds=60, what="it waiting")
            assert beat.end(how) == 0
            assert "Traceback" not in beat.log.read_text()


def test_every_scheduled_task_exists() -> None:
    code = "from worker import app; app.loader.import_default_modules(); print(*app.tasks)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    assert {entry["task"] for entry in SCHEDULE.values()} <= set(done.stdout.split())
