"""Tasks that Django enqueues by itself, from a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from connectbot.clients import Clients
from connectbot.menus import build_main_menu
from connectbot.settings import Settings
from tests.support import ROOT, Worker, environment, wait_until

BY_DELAY = "from worker import app; from tasks.menus import rebuild; rebuild.delay([8])"
BY_NAME = "from worker import app; app.send_task('menus.rebuild', args=[[8]], kwargs={'menu_types': ['preferences']})"


def run_python(code: str, settings: Settings) -> None:
    env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize(("code", "menu"), [(BY_DELAY, "main"), (BY_NAME, "preferences")])
def test_a_rebuild_enqueued_from_another_process(
    code: str, menu: str, ours: Clients, settings: Settings, worker: Worker
) -> None:
    run_python(code, settings)
    wait_until(lambda: ours.menus.get(8, menu), deadline_seconds=20, what=f"the menu {menu}")


def test_a_rebuild_keeps_the_role_of_the_menu_that_the_site_has_cached(
    ours: Clients, settings: Settings, worker: Worker
) -> None:
    ours.menus.store(8, "main", build_main_menu(8, "admin"), now=time.time())
    run_python(BY_DELAY, settings)
    wait_until(lambda: ours.menus.get(8, "preferences"), deadline_seconds=20, what="the menus")
    menu = ours.menus.get(8, "main")
    assert menu is not None
    assert menu["data"]["role"] == "admin"


def test_menus_are_cleared(ours: Clients, settings: Settings, worker: Worker) -> None:
    ours.publisher.publish_user_event(8, "user.created", {"user": {"id": 8}})
    wait_until(lambda: ours.menus.get(8, "main"), deadline_seconds=20, what="the menu")
    run_python("from worker import app; app.send_task('menus.clear', args=[[8]])", settings)
    wait_until(lambda: not ours.menus.get(8, "main"), deadline_seconds=20, what="the menu to go")


def test_menus_are_warmed_for_all_and_for_what_runs_out(ours: Clients, settings: Settings, worker: Worker) -> None:
    for id_ in (7, 8):
        ours.publisher.publish_user_event(id_, "user.created", {"user": {"id": id_}})
    wait_until(lambda: ours.menus.get(8, "main"), deadline_seconds=20, what="the menus")
    for scope in ("all", "expiring"):
        ours.redis.delete(":1:menu:user:7:main", ":1:menu:user:8:main")
        ours.redis.zadd(settings.keys.warm_menus, {"7": 1.0})
        run_python(f"from worker import app; app.send_task('menus.warm', kwargs={{'scope': {scope!r}}})", settings)
        wait_until(lambda: ours.menus.get(7, "main"), deadline_seconds=20, what=f"the menu of user 7 ({scope})")
    assert ours.menus.get(8, "main") is None, "expiring must touch only what runs out"


def test_a_stream_is_trimmed_below_what_every_lane_has_finished(
    ours: Clients, settings: Settings, worker: Worker
) -> None:
    stream, lanes = settings.keys.events, ("default", "java")
    for _ in range(30):
        ours.publisher.publish(*_events(1000))
    wait_until(lambda: ours.redis.hlen(settings.keys.users) == 1000, deadline_seconds=30, what="the effects")
    assert ours.redis.xlen(stream) == 30_000, "the lane java has not read them yet"
    last = ours.redis.xinfo_stream(stream)["last-generated-id"]
    ours.redis.execute_command("XGROUP", "SETID", stream, lanes[1], last)
    run_python("from worker import app; app.send_task('events.upkeep')", settings)
    wait_until(lambda: ours.redis.xlen(stream) <= 10_200, deadline_seconds=20, what="the stream to be trimmed")
    assert ours.redis.xlen(stream) >= 10_000


def _events(count: int) -> list[object]:
    from connectbot.events import new_event

    return [new_event("user.created", {"user": {"id": id_}}, channel="connectbot:global") for id_ in range(count)]
