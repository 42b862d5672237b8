"""What a user's events do to the user's menus: published, carried by the stream, done by a real worker."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from connectbot.cache_keys import menu_key, user_namespace
from connectbot.clients import Clients
from connectbot.events import new_event
from connectbot.menus import build_main_menu
from tests.support import Worker, wait_until

pytestmark = pytest.mark.usefixtures("worker")


def publish(ours: Clients, event_type: str, data: dict[str, Any], user_id: int | None = None) -> None:
    ours.publisher.publish(new_event(event_type, data, channel="connectbot:global", user_id=user_id))


def create(ours: Clients, user_id: int, role: str | None = None) -> None:
    publish(ours, "user.created", {"user": {"id": user_id} | ({"role": role} if role else {})})


def options(ours: Clients, user_id: int) -> list[str]:
    cached = ours.menus.get(user_id, "main")
    return [option["key"] for option in cached["data"]["options"]] if cached else []


def until_options(ours: Clients, user_id: int, count: int) -> None:
    wait_until(
        lambda: len(options(ours, user_id)) == count,
        deadline_seconds=20,
        what=f"a main menu of user {user_id} with {count} options",
    )


def test_a_created_user_gets_the_menus_of_the_role(ours: Clients) -> None:
    create(ours, 7, "admin")
    create(ours, 8)
    until_options(ours, 7, 5)
    until_options(ours, 8, 3)
    preferences = ours.menus.get(8, "preferences")
    assert preferences is not None
    assert preferences["data"]["options"][-1] == {"key": "back", "label": "⬅️ Назад", "action": "main_menu"}
    assert preferences["user_id"] == 8
    assert preferences["cached_at"] > 0


def test_a_promoted_user_loses_the_old_menus(ours: Clients) -> None:
    create(ours, 7, "employee")
    until_options(ours, 7, 3)
    ours.redis.set(f":1:{menu_key(7, 'activities')}", "made for an employee")
    publish(ours, "user.updated", {"user": {"id": 7, "role": "super_admin"}})
    until_options(ours, 7, 5)
    assert not ours.redis.exists(f":1:{menu_key(7, 'activities')}")


def test_who_is_created_anew_loses_the_old_menus(ours: Clients) -> None:
    create(ours, 7, "employee")
    until_options(ours, 7, 3)
    ours.redis.set(f":1:{menu_key(7, 'activities')}", "made for an employee")
    create(ours, 7, "admin")
    until_options(ours, 7, 5)
    assert not ours.redis.exists(f":1:{menu_key(7, 'activities')}")


def test_what_the_site_has_cached_for_a_new_user_stays(ours: Clients) -> None:
    ours.redis.set(f":1:{menu_key(7, 'activities')}", "made since the user is there")
    create(ours, 7, "admin")
    until_options(ours, 7, 5)
    assert ours.redis.get(f":1:{menu_key(7, 'activities')}") == b"made since the user is there"


def test_an_update_without_a_role_keeps_the_role(ours: Clients) -> None:
    create(ours, 7, "admin")
    until_options(ours, 7, 5)
    ours.redis.delete(f":1:{menu_key(7, 'main')}")
    publish(ours, "user.updated", {"changed": ["name"]}, user_id=7)
    until_options(ours, 7, 5)


def test_a_deleted_user_leaves_nothing_behind(ours: Clients) -> None:
    create(ours, 7, "admin")
    until_options(ours, 7, 5)
    ours.temp_data.store(user_namespace(7), "form_data_1", {"a": 1}, ttl_seconds=60, now=1e10)
    publish(ours, "user.deleted", {"user": {"id": 7}})
    wait_until(lambda: ours.menus.get(7, "main") is None, deadline_seconds=20, what="the menu to go")
    assert ours.temp_data.get(user_namespace(7), "form_data_1") is None
    assert ours.users.look_up([7])[7].role is None


def test_a_user_with_very_much_temporary_data_can_be_deleted(ours: Clients) -> None:
    create(ours, 7, "admin")
    until_options(ours, 7, 5)
    index = ours.settings.keys.temp_namespace(user_namespace(7))
    ours.redis.sadd(index, *range(9000))  # more than Lua hands to one command
    publish(ours, "user.deleted", {"user": {"id": 7}})
    wait_until(lambda: not ours.redis.exists(index), deadline_seconds=20, what="all of it to go")


def test_a_login_warms_what_is_missing_and_leaves_what_is_warm(ours: Clients) -> None:
    create(ours, 7, "admin")
    create(ours, 8, "admin")
    until_options(ours, 8, 5)
    before = ours.menus.get(8, "main")
    ours.redis.delete(f":1:{menu_key(7, 'main')}")
    publish(ours, "user.login", {}, user_id=8)
    publish(ours, "user.login", {}, user_id=7)
    until_options(ours, 7, 5)
    assert ours.menus.get(8, "main") == before


def cache_as_the_site_does(ours: Clients, user_id: int, role: str) -> None:
    ours.menus.store(user_id, "main", build_main_menu(user_id, role), now=time.time())


def until_all_is_done(ours: Clients) -> None:
    """The last event is about a user of its own."""
    create(ours, 999)
    until_options(ours, 999, 3)


@pytest.mark.parametrize("event_type", ["user.login", "user.updated", "user.created"])
def test_a_menu_that_the_site_has_cached_tells_the_role_of_whom_no_event_has(event_type: str, ours: Clients) -> None:
    cache_as_the_site_does(ours, 7, "admin")
    publish(ours, event_type, {"user": {"id": 7}})
    wait_until(lambda: ours.menus.get(7, "preferences"), deadline_seconds=20, what="the menus that were missing")
    assert len(options(ours, 7)) == 5
    assert ours.users.look_up([7])[7].role == "admin"
    publish(ours, "user.updated", {"user": {"id": 7, "role": "employee"}})
    until_options(ours, 7, 3)


def test_the_menus_of_somebody_unknown_are_left_to_the_site(ours: Clients) -> None:
    publish(ours, "user.login", {}, user_id=7)
    ours.redis.set(f":1:{menu_key(8, 'main')}", "no menu that could be read")
    publish(ours, "user.updated", {}, user_id=8)
    cache_as_the_site_does(ours, 9, "admin")
    ours.menus.delete(9)
    publish(ours, "system.cache_cleared", {"user_id": 9})
    until_all_is_done(ours)
    assert not any(ours.redis.exists(f":1:{menu_key(id_, 'main')}") for id_ in (7, 8, 9))
    assert set(ours.users.look_up([7, 8, 9, 999])) == {999}


def test_a_cleared_cache_is_rebuilt_for_everybody(ours: Clients) -> None:
    users = range(1, 1201)
    ours.publisher.publish(
        *(new_event("user.created", {"user": {"id": id_}}, channel="connectbot:global") for id_ in users)
    )
    until_options(ours, 1200, 3)
    ours.redis.delete(*[f":1:{menu_key(id_, 'main')}" for id_ in users])
    publish(ours, "system.cache_cleared", {"cache_type": "all"})
    wait_until(
        lambda: ours.redis.exists(*[f":1:{menu_key(id_, 'main')}" for id_ in users]) == len(users),
        deadline_seconds=20,
        what="the menus of all users",
    )


def test_a_cleared_cache_of_one_user_is_rebuilt(ours: Clients) -> None:
    create(ours, 7, "admin")
    until_options(ours, 7, 5)
    ours.redis.delete(f":1:{menu_key(7, 'main')}")
    publish(ours, "system.cache_cleared", {"type": "menu", "user_id": 7})
    until_options(ours, 7, 5)


def test_xadd_from_anywhere_with_nothing_but_the_event_is_heard(ours: Clients, worker: Worker) -> None:
    event = {
        "id": "a",
        "type": "user.created",
        "data": {"user": {"id": 7, "role": "admin"}},
        "timestamp": "2026-01-01T00:00:00+00:00",
        "channel": "connectbot:global",
        "user_id": 7,
        "source": "test",
    }
    ours.redis.xadd("connectbot:events", {"event": json.dumps(event)})
    until_options(ours, 7, 5)


def test_what_is_acknowledged_leaves_no_trace_in_the_group(ours: Clients) -> None:
    create(ours, 7)
    until_options(ours, 7, 3)
    wait_until(
        lambda: ours.redis.xpending("connectbot:events", "default")["pending"] == 0,
        deadline_seconds=10,
        what="nothing pending",
    )
