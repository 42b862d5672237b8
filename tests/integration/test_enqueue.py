"""Tasks that go through the stream: run by the worker, tried again, and never lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import connectbot
from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.errors import BacklogFull, MalformedEvent, RedisUnavailable
from connectbot.events import new_event
from connectbot.integration.site import default_site
from connectbot.settings import Settings
from tests.support import ROOT, Worker, environment, wait_until

STREAM, DEAD = "connectbot:events", "connectbot:events:dead"


@pytest.fixture(autouse=True)
def enqueued_here(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``enqueue`` in this process leads to the Redis of the test."""
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    default_site.close()
    yield
    default_site.close()


def entries(ours: Clients) -> list[dict[str, Any]]:
    return [json.loads(fields[b"event"]) for _, fields in ours.redis.xrange(STREAM)]


def nothing_pending(ours: Clients, lane: str = "default") -> bool:
    return int(ours.redis.xpending(STREAM, lane)["pending"]) == 0


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("menus.rebuild", "task.enqueued"),
        ("temp_data.expire", "task.enqueued"),
        ("events.upkeep", "task.enqueued"),
        ("matching.request", "task.enqueued.java"),
        ("java.forward", "task.enqueued.java"),
    ],
)
def test_the_name_says_the_lane(name: str, type_: str, ours: Clients) -> None:
    id_ = connectbot.enqueue(name, [1, 2], menu_types=("main",))
    (event,) = entries(ours)
    assert (event["id"], event["type"]) == (id_, type_)
    assert event["data"] == {"task": name, "args": [[1, 2]], "kwargs": {"menu_types": ["main"]}}


def test_a_task_itself_may_be_given_and_any_name_of_argument(ours: Clients) -> None:
    from tasks.menus import rebuild

    connectbot.enqueue(rebuild, task="x", name="y")
    assert entries(ours)[0]["data"] == {"task": "menus.rebuild", "args": [], "kwargs": {"task": "x", "name": "y"}}


def test_it_raises_instead_of_losing(
    ours: Clients, settings: Settings, embedded_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MalformedEvent, match="cannot be written as JSON"):
        connectbot.enqueue("menus.rebuild", object())
    with pytest.raises(MalformedEvent, match="more than CONNECTBOT_MAX_EVENT_BYTES"):
        connectbot.enqueue("menus.rebuild", "x" * settings.max_event_bytes)
    embedded_redis.kill()
    with pytest.raises(RedisUnavailable):
        connectbot.enqueue("menus.rebuild", [1])
    embedded_redis.start()
    monkeypatch.setenv("CONNECTBOT_MAX_BACKLOG", "1")
    monkeypatch.setenv("CONNECTBOT_STREAM_KEEP", "1")
    default_site.close()
    connectbot.enqueue("menus.rebuild", [1])
    connectbot.enqueue("menus.rebuild", [1])
    with pytest.raises(BacklogFull):
        connectbot.enqueue("menus.rebuild", [1])


def test_the_function_is_the_function_even_after_its_module_was_imported() -> None:
    code = (
        "import connectbot.enqueueing, connectbot, sys; assert callable(connectbot.enqueue); "
        "assert not {'celery', 'kombu', 'django', 'tasks', 'worker'} & set(sys.modules); "
        "from connectbot import enqueue; assert enqueue is connectbot.enqueue; "
        "assert not hasattr(connectbot, 'enqueues')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_importing_connectbot_imports_next_to_nothing() -> None:
    code = "import sys, connectbot; assert not [name for name in sys.modules if name.startswith('connectbot.')]"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_enqueued_tasks_have_their_effect(ours: Clients, settings: Settings, worker: Worker) -> None:
    code = "import connectbot; [connectbot.enqueue('menus.rebuild', [id_]) for id_ in range(300)]"
    env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, check=True, timeout=60)
    wait_until(lambda: len(ours.users.look_up(range(300))) == 300, deadline_seconds=30, what="the effects")
    wait_until(lambda: nothing_pending(ours), deadline_seconds=20, what="nothing pending")
    assert ours.menus.get(299, "main")
    assert ours.redis.xlen(DEAD) == 0
    assert worker.is_alive()


def test_a_task_of_the_lane_java_sees_the_same_id_at_every_attempt(
    ours: Clients, settings: Settings, tmp_path: Path
) -> None:
    id_ = connectbot.enqueue("matching.request", [1, 2])
    with Worker(settings, tmp_path, lanes=["java"]) as worker:
        worker.wait_ready()
        wait_until(lambda: len(entries(ours)) >= 2, deadline_seconds=20, what="the request that the task publishes")
        wait_until(lambda: ours.redis.xlen(settings.keys.events) >= 2, deadline_seconds=20, what="it")
    enqueued, published = entries(ours)[:2]
    assert enqueued["id"] == id_
    assert published["type"] == "matching.request"
    assert published["data"]["request_id"] == id_


NEVER: list[tuple[dict[str, Any], str]] = [
    ({"task": "os.system", "args": ["true"], "kwargs": {}}, "unknown_task"),
    ({"task": "menus.follow_users", "args": [], "kwargs": {}}, "unknown_task"),
    ({"task": "events.call_task", "args": [], "kwargs": {}}, "unknown_task"),
    ({"task": "celery.backend_cleanup", "args": [], "kwargs": {}}, "unknown_task"),
    ({"task": "menus.rebuild", "args": [], "kwargs": {"nonsense": 1}}, "wrong_arguments"),
    ({"task": "menus.rebuild", "args": [], "kwargs": {}}, "wrong_arguments"),
    ({"task": 7}, "malformed"),
    ({"task": "menus.rebuild", "args": {}}, "malformed"),
]


def test_what_can_never_run_is_a_dead_letter_at_once(ours: Clients, worker: Worker) -> None:
    for number, (data, _) in enumerate(NEVER):
        event = new_event("task.enqueued", data, channel="connectbot:service:tasks", event_id=str(number))
        ours.publisher.publish(event)
    wait_until(lambda: ours.redis.xlen(DEAD) == len(NEVER), deadline_seconds=20, what="the dead letters")
    wait_until(lambda: nothing_pending(ours), deadline_seconds=20, what="nothing pending")
    dead = [fields for _, fields in ours.redis.xrange(DEAD)]
    reasons = {int(json.loads(fields[b"event"])["id"]): fields[b"reason"].decode() for fields in dead}
    assert reasons == {number: reason for number, (_, reason) in enumerate(NEVER)}
    assert {fields[b"attempts"] for fields in dead} == {b"1"}
    assert worker.is_alive()


def test_a_task_that_raises_is_tried_again(ours: Clients, worker: Worker) -> None:
    connectbot.enqueue("menus.warm", scope="secret-marker")
    delayed = ours.settings.keys.delayed("default")
    wait_until(lambda: ours.redis.zcard(delayed) == 1, deadline_seconds=20, what="the event to be put aside")
    assert nothing_pending(ours)
    assert "secret-marker" not in worker.log.read_text()


def test_a_worker_killed_in_the_middle_runs_them_all(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    for id_ in range(2000):
        connectbot.enqueue("menus.rebuild", [id_])
    settings = replace(settings, lease_seconds=2)
    with Worker(settings, tmp_path, lanes=["default"], arguments=["--concurrency=2"]) as worker:
        wait_until(lambda: int(ours.redis.hlen(settings.keys.users)) > 100, deadline_seconds=30, what="some effects")
        worker.kill()
        worker.start()
        wait_until(lambda: int(ours.redis.hlen(settings.keys.users)) == 2000, deadline_seconds=60, what="every effect")
        wait_until(lambda: nothing_pending(ours), deadline_seconds=30, what="nothing pending")
    assert ours.redis.xlen(DEAD) == 0


def test_a_pool_grows_with_what_waits_as_far_as_it_may(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, batch_size=1, java_calls_per_process=1)
    for number in range(10):
        connectbot.enqueue("slow.work", str(number), 60)
    arguments = ["--concurrency=1", "--autoscale=5,1"]
    with Worker(settings, tmp_path, lanes=["default"], app="tests.delivery_app", arguments=arguments):
        wait_until(lambda: ours.redis.llen("begun") == 5, deadline_seconds=30, what="five processes at work")


def test_a_task_whose_process_dies_runs_again(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    """Even one that outlives its batch: the process was at another batch already."""
    settings = replace(settings, java_service_timeout_seconds=1, batch_time_limit_seconds=5)
    connectbot.enqueue("slow.work", "a", 3)
    with Worker(settings, tmp_path, lanes=["default"], app="tests.delivery_app"):
        wait_until(lambda: ours.redis.lrange("begun", 0, -1) == [b"a"], deadline_seconds=30, what="its beginning")
        connectbot.enqueue("menus.rebuild", [1])
        wait_until(lambda: ours.users.look_up([1]), deadline_seconds=20, what="the next batch")
        os.kill(int(ours.redis.get("process")), signal.SIGKILL)
        wait_until(lambda: ours.redis.lrange("done", 0, -1) == [b"a"], deadline_seconds=30, what="its end")
        wait_until(lambda: nothing_pending(ours), deadline_seconds=20, what="nothing pending")
    assert ours.redis.lrange("begun", 0, -1) == [b"a", b"a"]
    assert ours.redis.xlen(DEAD) == 0
