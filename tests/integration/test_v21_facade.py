"""What v21's facade, classes and helpers answer, on a real Redis."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from socket import SocketKind
from typing import Any
from uuid import UUID

import pytest

import connectbot.integration as v21
from connectbot.cache import Cache, CacheCodec
from connectbot.cache_keys import CacheKeys
from connectbot.clients import Clients
from connectbot.compat import EnhancedRedisManager, RedisManager
from connectbot.events import decode
from connectbot.integration import MenuBuilder, MenuCache, RedisIntegration, TempDataManager, redis_integration
from connectbot.integration.site import SiteSource, default_site
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from tests.support import ROOT, environment


@pytest.fixture(autouse=True)
def process_settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`redis_integration`, the classes and the helpers work on the tests' Redis."""
    monkeypatch.setattr(default_site, "_load", lambda: settings)
    default_site.close()
    yield
    default_site.close()


@pytest.fixture
def cache(client: RedisClient) -> Cache:
    """Django's cache, as another process sees it."""
    return Cache(client, CacheCodec("pickle"), CacheKeys())


def published(client: RedisClient) -> list[dict[str, Any]]:
    return [json.loads(fields[b"event"]) for _, fields in client.xrange("connectbot:events")]


# --- menus --------------------------------------------------------------------------------------------------------


def test_a_menu_is_kept_and_read_as_a_class_and_as_an_attribute() -> None:
    assert MenuCache.set_user_menu(7, {"test": "data"}) is True
    before = time.time()
    for cache in (MenuCache, MenuCache(), redis_integration.menu_cache):
        menu = cache.get_user_menu(7)
        assert menu is not None
        assert menu["data"] == {"test": "data"}
        assert (menu["user_id"], menu["menu_type"]) == (7, "main")
        assert before - 60 < menu["cached_at"] <= time.time()
    assert MenuCache.get_user_menu(7, "admin") is None


def test_menus_are_removed() -> None:
    for menu_type in ("main", "preferences", "activities", "admin"):
        MenuCache.set_user_menu(7, {}, menu_type)
        MenuCache.set_user_menu(8, {}, menu_type)
    assert MenuCache.delete_user_menu(7, "admin") is True
    assert MenuCache.get_user_menu(7, "admin") is None
    assert MenuCache.get_user_menu(7) is not None
    assert MenuCache.clear_user_all_menus(7) is True
    assert MenuCache.get_user_menu(7) is None
    assert MenuCache.get_cached_users() == [8]


def test_a_refreshed_menu_has_its_whole_lifetime_again(cache: Cache) -> None:
    MenuCache.set_user_menu(7, {"old": 1}, timeout=10)
    assert MenuCache.refresh_user_menu(7, {"new": 1}) is True
    assert (MenuCache.get_user_menu(7) or {})["data"] == {"new": 1}
    assert (cache.ttl("menu:user:7:main") or 0) > 1700


def test_the_cached_users_are_told_whatever_the_prefix_looks_like(settings: Settings, redis_url: str) -> None:
    facades = [
        RedisIntegration(Settings(redis_url=redis_url, cache_key_prefix=prefix)) for prefix in ("a*", "ab", "[a]")
    ]
    for user_id, facade in enumerate(facades):
        facade.menu_cache.set_user_menu(user_id, {})
        facade.menu_cache.set_user_menu(user_id, {}, "preferences")
    assert [facade.menu_cache.get_cached_users() for facade in facades] == [[0], [1], [2]]
    for facade in facades:
        facade.close()


def test_a_menu_is_built_again_when_another_role_is_asked_for() -> None:
    assert len(MenuBuilder.build_main_menu(7, "employee")["options"]) == 3
    assert len(MenuBuilder.build_main_menu(7, "admin")["options"]) == 5
    assert (MenuCache.get_user_menu(7) or {})["data"]["role"] == "admin"
    assert len(MenuBuilder.build_main_menu(7, "employee")["options"]) == 3
    assert len(redis_integration.menu_builder.build_main_menu(7, "super_admin")["options"]) == 5


def test_without_a_role_a_menu_is_never_taken_from_an_administrator(client: RedisClient, settings: Settings) -> None:
    MenuBuilder.build_main_menu(7, "admin")
    assert MenuBuilder.build_main_menu(7)["role"] == "admin"
    client.hset(settings.keys.users, "8", f"{'0' * 14}-{'0' * 20} super_admin")
    assert MenuBuilder.build_main_menu(8)["role"] == "super_admin"
    assert MenuBuilder.build_main_menu(9)["role"] == "employee"


def test_a_cached_menu_is_answered_as_it_is() -> None:
    MenuBuilder.build_main_menu(7, "admin")
    cached = (MenuCache.get_user_menu(7) or {})["data"]
    cached["options"] = [{"key": "own", "label": "Own", "action": "own"}]
    MenuCache.set_user_menu(7, cached)
    assert MenuBuilder.build_main_menu(7, "admin")["options"] == cached["options"]


def test_the_other_menus() -> None:
    preferences = MenuBuilder.build_preferences_menu(7)
    assert [option["key"] for option in preferences["options"]] == ["interests", "notifications", "privacy", "back"]
    assert "role" not in preferences
    assert MenuBuilder.build_activities_menu(7)["options"][-1]["action"] == "main_menu"
    assert len(MenuBuilder.build_admin_menu(7)["options"]) > 1
    assert [option["key"] for option in MenuBuilder.build_admin_menu(7, "employee")["options"]] == ["back"]
    assert len(MenuBuilder.build_admin_menu(7)["options"]) > 1


@pytest.mark.parametrize("stored", [5, "no json", "[1]", '{"user_id": 7}', {"data": 1}, b"\x80bytes"])
def test_a_menu_of_another_form_is_no_menu(stored: object, cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    cache.set("menu:user:7:main", stored, 60)
    assert MenuCache.get_user_menu(7) is None
    assert MenuCache.get_user_menu(7) is None
    assert len(caplog.records) == 1
    assert "menu:user:7:main" in caplog.text
    assert MenuBuilder.build_main_menu(7, "admin")["role"] == "admin"
    assert MenuCache.get_user_menu(7) is not None


# --- events -------------------------------------------------------------------------------------------------------


def test_events_are_published_to_the_stream_and_on_their_channel(client: RedisClient) -> None:
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe("connectbot:*")
    listener.get_message(timeout=5)
    events = redis_integration.events
    assert events.publish_user_event(7, "user.login", {"timestamp": datetime.now(UTC)}) is True
    assert events.publish_global_event("system.maintenance", {"message": "Обслуживание"}) is True
    assert events.publish_microservice_event("matching", "matching.request", {"users": [1, 2]}) is True
    user, everybody, service = published(client)
    assert (user["channel"], user["user_id"]) == ("connectbot:user:7", 7)
    assert (everybody["channel"], everybody["data"]) == ("connectbot:global", {"message": "Обслуживание"})
    assert (service["channel"], service["data"]) == ("connectbot:service:matching", {"users": [1, 2]})
    for event in (user, everybody, service):
        assert datetime.fromisoformat(event["timestamp"]).tzinfo is not None
        assert event["source"] == "django-connectbot"
    heard = [json.loads(listener.get_message(timeout=5)["data"]) for _ in range(3)]
    assert heard == [user, everybody, service]
    listener.close()


def test_a_user_named_by_text_is_the_same_user(client: RedisClient) -> None:
    assert redis_integration.events.publish_user_event("7", "user.login", {}) is True  # type: ignore[arg-type]
    ((_, fields),) = client.xrange("connectbot:events")
    assert decode(fields[b"event"]).user_id == 7
    assert redis_integration.events.publish_user_event("me", "user.login", {}) is False  # type: ignore[arg-type]
    assert redis_integration.events.publish_user_event(2**63, "user.login", {}) is False
    assert client.xlen("connectbot:events") == 1


@pytest.mark.parametrize("data", [{"a": object()}, {"a": "\ud800"}, {"a": "x" * 1_048_576}, [1, 2], 5])
def test_what_cannot_be_published_is_answered_false(
    data: Any, client: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert redis_integration.events.publish_user_event(7, "user.login", data) is False
    assert "user.login" in caplog.text
    assert client.xlen("connectbot:events") == 0


def test_the_helpers_too_take_users_named_by_text(client: RedisClient) -> None:
    ids: Any = "7"
    assert v21.publish_user_created(ids)
    assert v21.publish_cache_cleared("menus", ids)
    assert v21.publish_matching_request([ids, 8])
    assert [event["data"] for event in published(client)] == [
        {"user": {"id": 7}},
        {"cache_type": "menus", "user_id": 7},
        {"users": [7, 8], "type": "coffee"},
    ]


@pytest.mark.parametrize(
    "publish",
    [
        lambda wrong: v21.publish_user_created(7, wrong),
        lambda wrong: v21.publish_user_created(wrong),
        lambda wrong: v21.publish_activity_scheduled(3, wrong),
        lambda wrong: v21.publish_matching_request(wrong),
        lambda wrong: v21.publish_matching_request([wrong]),
        lambda wrong: v21.publish_cache_cleared("menus", wrong),
    ],
)
def test_the_helpers_never_raise(publish: Callable[[object], bool], client: RedisClient) -> None:
    assert publish(object()) is False
    assert client.xlen("connectbot:events") == 0


def test_the_helpers_that_publish(client: RedisClient) -> None:
    assert v21.publish_user_created(7, {"role": "admin"})
    assert v21.publish_activity_scheduled(3, {"title": "Кофе"})
    assert v21.publish_matching_request([1, 2])
    assert v21.publish_cache_cleared("menus", 7)
    assert v21.publish_cache_cleared("all")
    assert v21.publish_user_action(7, "clicked", {"button": "profile"})
    assert [(event["type"], event["data"]) for event in published(client)] == [
        ("user.created", {"user": {"id": 7, "role": "admin"}}),
        ("activity.created", {"activity": {"id": 3, "title": "Кофе"}}),
        ("matching.request", {"users": [1, 2], "type": "coffee"}),
        ("system.cache_cleared", {"cache_type": "menus", "user_id": 7}),
        ("system.cache_cleared", {"cache_type": "all"}),
        ("user.action.clicked", {"button": "profile"}),
    ]


# --- temporary data -----------------------------------------------------------------------------------------------


def test_temporary_data_by_key(cache: Cache) -> None:
    assert TempDataManager.store_temp_data("key", {"a": 1}, timeout=300) is True
    assert redis_integration.temp_data.get_temp_data("key") == {"a": 1}
    assert TempDataManager.get_temp_data("key", "default", "other") == "default"
    assert 200 < (cache.ttl("temp:default:key") or 0) <= 300
    assert TempDataManager.delete_temp_data("key") is True
    assert TempDataManager.get_temp_data("key") is None


@pytest.mark.parametrize("key", [UUID(int=7), ("a", 1), True, datetime(2026, 1, 1, tzinfo=UTC), SocketKind.SOCK_STREAM])
def test_a_key_of_any_kind_is_what_it_is_as_text(key: Any, client: RedisClient) -> None:
    data = redis_integration.temp_data
    assert data.store_temp_data(key, {"a": 1}) is True
    assert data.get_temp_data(key) == data.get_temp_data(f"{key}") == {"a": 1}
    assert data.get_keys() == [f"{key}"]
    assert data.extend_timeout(key, 60) is True
    assert data.delete_temp_data(key) is True
    assert client.keys("*temp*") == []


def test_what_is_too_long_to_be_read_back_is_not_stored(client: RedisClient, caplog: pytest.LogCaptureFixture) -> None:
    assert redis_integration.temp_data.store_temp_data("photo", "x" * 10_000_000) is False
    assert "longer than" in caplog.text
    assert client.keys("*temp*") == []
    assert redis_integration.temp_data.store_temp_data("photo", ["x" * 10_000_000]) is True
    assert redis_integration.temp_data.get_temp_data("photo") == ["x" * 10_000_000]


def test_a_longer_timeout_does_not_rewrite_the_value(client: RedisClient, settings: Settings) -> None:
    TempDataManager.store_temp_data("key", {"a": 1}, timeout=300)
    before = client.get(":1:temp:default:key")
    assert TempDataManager.extend_timeout("key", 9000) is True
    assert client.get(":1:temp:default:key") == before
    assert client.ttl(":1:temp:default:key") > 8900
    [(_, due)] = client.zrange(settings.keys.temp_due, 0, -1, withscores=True)
    assert due > time.time() + 8900
    assert TempDataManager.extend_timeout("missing", 60) is False
    assert client.zcard(settings.keys.temp_due) == 1


def test_data_of_a_user() -> None:
    manager = redis_integration.get_user_manager(7)
    assert manager.store_form_data("step1", {"name": "Анна"}) is True
    assert manager.store_form_data("step2", {"age": 30}) is True
    assert manager.store_conversation_state({"at": 2}) is True
    assert v21.store_user_temp_data(7, "own", [1, 2]) is True
    assert v21.get_user_temp_data(7, "own") == [1, 2]
    assert v21.get_user_temp_manager(7).get_form_data("step1") == {"name": "Анна"}
    assert redis_integration.get_user_manager(8).get_form_data("step1") is None
    assert manager.clear_form_data("step1") is True
    assert manager.get_form_data("step1") is None
    assert manager.clear_all_form_data() is True
    assert manager.get_form_data("step2") is None
    assert manager.get_conversation_state() == {"at": 2}
    assert manager.clear_conversation_state() is True
    assert manager.get_conversation_state("none") == "none"


def test_sessions_activities_and_quick_data(cache: Cache) -> None:
    assert v21.SessionDataManager.store_session_data("s1", {"user": 7})
    assert v21.SessionDataManager.get_session_data("s1") == {"user": 7}
    assert v21.SessionDataManager.extend_session("s1", 99)
    assert (cache.ttl("temp:sessions:s1") or 0) <= 99
    assert v21.SessionDataManager.delete_session_data("s1")
    assert v21.SessionDataManager.get_session_data("s1") is None


def test_the_key_of_a_session_is_not_told(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    cache.set("temp:sessions:lets-me-in", "no JSON", 60)
    assert v21.SessionDataManager.get_session_data("lets-me-in") is None
    assert not v21.SessionDataManager.store_session_data("lets-me-in", object())
    assert len(caplog.records) == 2
    assert all("temp:sessions:…" in line for line in caplog.messages)
    assert "lets-me-in" not in caplog.text + str(redis_integration.health_check())
    activities = v21.ActivityTempDataManager()
    assert activities.store_matching_request("r1", {"users": [1, 2]})
    assert activities.get_matching_request("r1") == {"users": [1, 2]}
    assert 1700 < (cache.ttl("temp:matching_requests:r1") or 0) <= 1800
    assert activities.delete_matching_request("r1")
    assert activities.store_activity_draft(7, {"title": "Кофе"})
    assert activities.get_activity_draft(7) == {"title": "Кофе"}
    assert 3500 < (cache.ttl("temp:activity_drafts:activity_draft_7") or 0) <= 3600
    assert activities.delete_activity_draft(7)
    assert activities.get_activity_draft(7, "none") == "none"
    assert v21.store_quick_data("q", 5)
    assert v21.get_quick_data("q") == 5


NO_SECONDS = timedelta(hours=1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: v21.EventPublisher.publish_user_event(7, "a.b", ["secret"]),
            "data must be a dict, and is of type list",
        ),
        (lambda: v21.EventPublisher.publish_global_event("a.b", "secret"), "data must be a dict, and is of type str"),
        (
            lambda: v21.EventPublisher.publish_user_event(7, None, {}),
            "event_type must be text, and is of type NoneType",
        ),
        (lambda: v21.EventPublisher.publish_global_event(5, {}), "event_type must be text, and is of type int"),
        (lambda: v21.EventPublisher.publish_user_event(7, {"secret": 1}, "a.b"), "event_type must be text, and is of"),
        (lambda: v21.EventPublisher.publish_microservice_event("m", "", {}), "event_type must be text, and is empty"),
        (lambda: v21.publish_user_created(7, ["secret"]), "user_data must be a dict, and is of type list"),
        (lambda: v21.publish_activity_scheduled(7, "secret"), "activity_data must be a dict, and is of type str"),
        (lambda: v21.publish_matching_request(None), "users must be a list of ids, and is of type NoneType"),
        (lambda: v21.publish_matching_request("12"), "users must be a list of ids, and is of type str"),
        (
            lambda: TempDataManager.store_temp_data("k", {}, NO_SECONDS),
            "timeout must be a number of seconds, and is of",
        ),
        (
            lambda: TempDataManager.store_temp_data("k", {}, "300"),
            "timeout must be a number of seconds, and is of type",
        ),
        (lambda: TempDataManager.store_temp_data("k", {}, math.nan), "timeout must be a number of seconds, and is nan"),
        (lambda: TempDataManager.extend_timeout("k", None), "timeout must be a number of seconds, and is of type None"),
        (
            lambda: TempDataManager.store_temp_data("k", {("secret",): 1}),
            "data (of type dict) cannot be kept: keys must",
        ),
        (
            lambda: TempDataManager.store_temp_data("k", threading.Lock()),
            "data (of type lock) cannot be kept: TypeError",
        ),
        (lambda: MenuCache.set_user_menu(7, {"a": Own()}), "menu_data (of type dict) cannot be kept"),
        (
            lambda: MenuCache.set_user_menu(7, {"photo": b"secret"}),
            "menu_data (of type dict) cannot be kept: JSON has no form for bytes",
        ),
        (
            lambda: RedisManager.set_employee_data(7, threading.Lock()),
            "the cached emp:7: the value (of type lock) cannot be kept: TypeError; make it plain data",
        ),
        (
            lambda: RedisManager.set_employee_data(7, {}, "300"),
            "the cached emp:7: timeout must be a number of seconds, and is of type str",
        ),
        (lambda: MenuCache.set_user_menu(7, {}, "main", NO_SECONDS), "timeout must be a number of seconds, and is of"),
    ],
)
@pytest.mark.parametrize("spooled", [False, True])
def test_a_wrong_argument_is_named_with_its_type_and_not_shown(
    call: Callable[[], bool],
    said: str,
    spooled: bool,
    settings: Settings,
    client: RedisClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if spooled:
        monkeypatch.setattr(default_site, "_load", lambda: replace(settings, spool=str(tmp_path / "spool.db")))
    assert call() is False
    [record] = caplog.records
    assert said in record.message
    assert "secret" not in record.message
    assert client.keys("*") == []


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ({timedelta(days=1): "secret"}, "keys must be str, int, float, bool or None, not datetime.timedelta"),
        ({"chosen": {"secret"}}, "JSON has no form for set"),
    ],
)
def test_what_a_cache_in_json_cannot_keep_is_told_with_the_key_the_cause_and_what_to_do(
    value: object,
    cause: str,
    settings: Settings,
    client: RedisClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(default_site, "_load", lambda: replace(settings, cache_serializer="json"))
    cached = v21.cache_result(key_prefix="chosen")(lambda: value)
    assert RedisManager.set_employee_data(7, value) is False
    assert cached() == value
    for record, key in zip(caplog.records, ("emp:7", "result:chosen:"), strict=True):
        assert record.message.startswith(f"the cached {key}")
        assert f"the value (of type dict) cannot be kept: {cause}; make it plain data" in record.message
        assert "secret" not in record.message
    assert client.keys("*") == []


class Own:
    """Not plain data."""

    def __repr__(self) -> str:
        return "secret"


@pytest.mark.parametrize("timeout", [Decimal(60), Fraction(60), 60.0, True])
def test_any_number_of_seconds_is_a_timeout(timeout: Any) -> None:
    assert RedisManager.set_employee_data(7, {"a": 1}, timeout)
    assert MenuCache.set_user_menu(7, {}, "main", timeout)
    assert TempDataManager.store_temp_data("k", {}, timeout)


def test_what_could_not_be_read_back_is_not_stored(client: RedisClient, caplog: pytest.LogCaptureFixture) -> None:
    for data in (Own(), lambda: None, {"a": Own()}, {(1, 2): 3}, {"photo": b"ab"}):
        assert TempDataManager.store_temp_data("key", data) is False
    assert "temp:default:key" in caplog.text
    assert "JSON has no form for bytes" in caplog.text
    assert client.keys("*temp*") == []


# --- old manager --------------------------------------------------------------------------------------------------


def test_the_old_manager_forgets() -> None:
    RedisManager.set_employee_data(7, {"name": "Анна"})
    RedisManager.set_employee_interests(7, ["coffee"])
    RedisManager.set_activity_participants(3, [7, 8])
    RedisManager.set_user_session(7, {"a": 1})
    assert RedisManager.delete_activity_participants(3) is True
    assert RedisManager.get_activity_participants(3) is None
    assert RedisManager.delete_user_session(7) is True
    assert RedisManager.get_user_session(7) is None
    assert RedisManager.invalidate_employee_cache(7) is True
    assert RedisManager.get_employee_data(7) is None
    assert RedisManager.get_employee_interests(7) is None
    RedisManager.set_employee_data(7, {})
    assert asyncio.run(RedisManager.async_invalidate_employee_cache(7)) is True
    assert RedisManager.get_employee_data(7) is None


def test_every_method_of_the_managers_is_static() -> None:
    for manager in (RedisManager, EnhancedRedisManager):
        for name in dir(manager):
            if not name.startswith("_"):
                assert isinstance(inspect.getattr_static(manager, name), staticmethod), name
    assert inspect.iscoroutinefunction(RedisManager.async_invalidate_employee_cache)


def test_the_enhanced_manager_does_both() -> None:
    assert EnhancedRedisManager.set_employee_data(7, {"a": 1})
    assert EnhancedRedisManager.cache_user_menu(7, {"test": 1})
    assert (EnhancedRedisManager.get_cached_user_menu(7) or {})["data"] == {"test": 1}
    assert EnhancedRedisManager.publish_event(7, "user.login")
    assert EnhancedRedisManager.store_temp_data("k", [1])
    assert EnhancedRedisManager.get_temp_data("k") == [1]
    assert EnhancedRedisManager.health_check()["status"] == "healthy"


# --- helpers ------------------------------------------------------------------------------------------------------


def test_the_helpers_for_menus(client: RedisClient) -> None:
    assert v21.get_redis_integration() is redis_integration
    assert v21.cache_user_menu(7, {"test": 1}) is True
    assert (v21.get_cached_user_menu(7) or {})["data"] == {"test": 1}
    RedisManager.set_employee_data(7, {})
    assert v21.invalidate_user_cache(7) is True
    assert v21.get_cached_user_menu(7) is None
    assert RedisManager.get_employee_data(7) is None
    assert [event["type"] for event in published(client)] == ["user.cache_cleared"]


def test_a_result_is_cached_for_its_arguments() -> None:
    calls: list[tuple[Any, ...]] = []

    @v21.cache_result(timeout=60)
    def add(a: Any, b: Any = 1) -> Any:
        calls.append((a, b))
        return None if a == 0 else [a, b]

    assert add(1) == add(1) == [1, 1]
    assert add(1, b=2) == [1, 2]
    assert add("1") == ["1", 1]
    assert add(True) == [True, 1]
    assert add(0) is None
    assert add(0) is None
    assert len(calls) == 5
    own = Own()
    assert add(own) == [own, 1]
    assert add(own) == [own, 1], "cannot be told apart from others: never cached"
    assert len(calls) == 7


class Grade(IntEnum):
    JUNIOR = 1


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NOON, NOON.astimezone(timezone(timedelta(hours=3)))),
        (Decimal(1), "1"),
        (NOON.date(), "2026-01-01"),
        (Grade.JUNIOR, 1),
        ([1], (1,)),
        ({"a": [Decimal(1)]}, {"a": ["1"]}),
    ],
)
def test_arguments_that_look_alike_are_told_apart(one: Any, other: Any) -> None:
    calls = []

    @v21.cache_result(timeout=60)
    def kind(value: Any) -> str:
        calls.append(value)
        return repr(value)

    assert [kind(one), kind(other), kind(one), kind(other)] == [repr(one), repr(other)] * 2
    assert len(calls) == 2


def test_two_functions_of_one_prefix_keep_their_own_results(client: RedisClient) -> None:
    @v21.cache_result(60, "employee")
    def profile(user_id: int) -> str:
        return f"profile of {user_id}"

    @v21.cache_result(60, "employee")
    def friends(user_id: int) -> list[int]:
        return [user_id]

    for _ in range(2):
        assert profile(7) == "profile of 7"
        assert friends(7) == [7]
    assert len(client.keys(":1:result:employee:*")) == 2
    assert redis_integration.clear_all_cache()
    assert client.keys(":1:result:*") == []


def test_a_result_of_a_coroutine_is_cached() -> None:
    calls = []

    @v21.cache_result(60, "prefix")
    async def slow(a: int) -> int:
        calls.append(a)
        return a * 2

    async def twice() -> tuple[int, int]:
        return await slow(4), await slow(4)

    assert asyncio.run(twice()) == (8, 8)
    assert calls == [4]


# --- clearing, health, figures ------------------------------------------------------------------------------------


def test_clearing_removes_what_is_ours_and_nothing_else(client: RedisClient, settings: Settings, cache: Cache) -> None:
    for user_id in range(300):
        MenuBuilder.build_main_menu(user_id)
        redis_integration.get_user_manager(user_id).store_form_data("1", {"a": 1})
    cache.set("temp:user_1:form_data_v21", '{"data": 1, "serialized": true}', 60)
    cache.set("act:5:participants", [1], 60)
    for key in ("emp:1", "int:1", "sess:1"):
        cache.set(key, 1, 60)
    others = {
        b":1:django.contrib.sessions.cacheabc": b"session",
        b":1:emporium": b"1",
        b":2:menu:user:7:main": b"other version",
        b"other:1:menu:user:7:main": b"other prefix",
        b"celery": b"queue",
        b":1:temp:matching_results:r-1": b"an answer of the Java service",
        b":1:temp:java_results:j-1": b"another",
    }
    client.mset(others)
    assert redis_integration.clear_all_cache() is True
    left = set(client.keys("*"))
    assert left == {*others, settings.keys.events.encode()}
    assert [event["data"] for event in published(client)] == [{"cache_type": "all"}]


def test_health_tells_what_works() -> None:
    health = redis_integration.health_check()
    assert health["status"] == "healthy"
    assert health["redis"]["ok"] is True
    assert {name: part["ok"] for name, part in health["components"].items()} == {
        "cache": True,
        "events": True,
        "temp_data": True,
    }
    assert health["spool"] is None


def test_health_leaves_nothing_behind(client: RedisClient) -> None:
    redis_integration.health_check()
    assert client.keys("*") == []


def test_health_tells_what_does_not_work(client: RedisClient, settings: Settings) -> None:
    client.set(settings.keys.events, "a string")
    health = redis_integration.health_check()
    assert health["status"] == "degraded"
    assert health["components"]["cache"]["ok"] is True
    assert "connectbot:events" in health["components"]["events"]["cause"]
    assert redis_integration.events.publish_global_event("system.maintenance", {}) is False


@pytest.mark.parametrize("parameter", ["protocol=3", "decode_responses=True"])
def test_parameters_for_the_sites_own_cache_change_no_answer(parameter: str, settings: Settings) -> None:
    settings = replace(settings, redis_url=f"{settings.redis_url}?{parameter}")
    facade, subscriber, heard = RedisIntegration(settings), v21.EventSubscriber(settings), []
    subscriber.subscribe_to_global_events(heard.append)
    subscriber.listen_for_messages(0)
    assert facade.temp_data.store_temp_data("ключ", {"a": 1}) is True
    assert facade.temp_data.get_temp_data("ключ") == {"a": 1}
    assert facade.temp_data.get_keys() == ["ключ"]
    assert facade.health_check()["status"] == "healthy"
    assert facade.events.publish_global_event("system.maintenance", {}) is True
    assert subscriber.listen_for_messages(0.3) == len(heard) == 1
    subscriber.close()
    facade.close()


def test_health_tells_a_parameter_that_cannot_be_used(settings: Settings) -> None:
    facade = RedisIntegration(replace(settings, redis_url=f"{settings.redis_url}?unheard_of=1"))
    assert facade.health_check()["status"] == "unhealthy"
    assert facade.menu_builder.build_main_menu(7, "admin")["role"] == "admin"
    facade.close()


def test_health_shows_no_password(redis_url: str) -> None:
    facade = RedisIntegration(Settings(redis_url=redis_url.replace("redis://", "redis://name:s3cret@")))
    health = facade.health_check()
    assert health["status"] == "unhealthy"
    assert "s3cret" not in json.dumps(health)
    facade.close()


def test_figures_of_the_cache(client: RedisClient) -> None:
    MenuBuilder.build_main_menu(7)
    TempDataManager.store_temp_data("a", 1)
    TempDataManager.store_temp_data("b", 1)
    redis_integration.events.publish_global_event("system.maintenance", {})
    stats = redis_integration.get_cache_stats()
    assert stats["status"] == "available"
    assert (stats["menus"], stats["temp_data"], stats["events"]) == (1, 2, 1)
    assert stats["memory_bytes"] > 0
    json.dumps(stats)


# --- hostile values -----------------------------------------------------------------------------------------------


def test_a_hostile_pickle_runs_nothing(client: RedisClient, caplog: pytest.LogCaptureFixture) -> None:
    ran = "test_a_hostile_pickle_ran"
    hostile = b"cbuiltins\nexec\n(S'import os; os.environ[\"" + ran.encode() + b'"] = "1"\'\ntR.'
    for key in ("menu:user:7:main", "temp:default:key", "sess:7", "emp:7"):
        client.set(f":1:{key}", hostile)
    client.set(":1:temp:default:hex", json.dumps({"data": hostile.hex(), "serialized": False}))
    cache = Cache(client, CacheCodec("pickle"), CacheKeys())
    cache.set("temp:default:hex", json.dumps({"data": hostile.hex(), "serialized": False}), 60)
    assert MenuCache.get_user_menu(7) is None
    assert TempDataManager.get_temp_data("key", "default") == "default"
    assert TempDataManager.get_temp_data("hex", "default") == "default"
    assert RedisManager.get_user_session(7) is None
    assert RedisManager.get_employee_data(7) is None
    assert ran not in os.environ
    for key in ("menu:user:7:main", "temp:default:key", "temp:default:hex", "sess:7", "emp:7"):
        assert key in caplog.text
    assert caplog.text.count("refused a pickle") == 5


# --- many at once -------------------------------------------------------------------------------------------------


def test_threads_and_coroutines_share_a_facade_and_leak_nothing(client: RedisClient) -> None:
    others = len(client.client_list())
    deadline = time.monotonic() + 3
    errors: list[BaseException] = []

    def one(number: int) -> None:
        assert redis_integration.events.publish_user_event(number, "user.login", {}) is True
        assert redis_integration.menu_builder.build_main_menu(number, "admin")["user_id"] == number
        assert redis_integration.temp_data.store_temp_data(f"k{number}", {"a": number}) is True
        assert redis_integration.temp_data.get_temp_data(f"k{number}") == {"a": number}

    def thread(number: int) -> None:
        try:
            while time.monotonic() < deadline:
                one(number)
        except BaseException as error:
            errors.append(error)

    async def coroutine(number: int) -> None:
        aio = redis_integration.aio
        while time.monotonic() < deadline:
            assert await aio.events.publish_user_event(number, "user.login", {}) is True
            menu = await aio.menu_builder.build_main_menu(number, "admin")
            assert menu["user_id"] == number
            manager = aio.get_user_manager(number)
            assert await manager.store_form_data("1", number) is True
            assert await manager.get_form_data("1") == number

    async def coroutines() -> None:
        await asyncio.gather(*[coroutine(1000 + number) for number in range(200)])

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(20)]
    for started in threads:
        started.start()
    asyncio.run(coroutines())
    for started in threads:
        started.join()
    assert errors == []
    assert len(client.client_list()) - others <= 20 + 16 + 5


def test_who_finds_all_connections_in_use_waits_for_one(settings: Settings) -> None:
    facade = RedisIntegration(replace(settings, redis_url=f"{settings.redis_url}?max_connections=2"))
    begin = threading.Barrier(16)

    def publish(number: int) -> list[bool]:
        begin.wait()
        return [facade.events.publish_user_event(7, "user.login", {"number": number}) for _ in range(5)]

    with ThreadPoolExecutor(16) as threads:
        answers = [answer for answers in threads.map(publish, range(16)) for answer in answers]
    assert answers == [True] * 80
    assert facade.health_check()["outage"] == {"now": None, "last": None}
    facade.close()


def test_a_loop_goes_on_while_redis_hangs(settings: Settings, embedded_redis: Any) -> None:
    async def ticks_while(call: Any) -> int:
        task, ticks = asyncio.ensure_future(call), 0
        while not task.done():
            ticks += 1
            await asyncio.sleep(0.001)
        assert await task is False
        return ticks

    async def hang() -> int:
        assert await redis_integration.aio.events.publish_global_event("system.maintenance", {}) is True
        embedded_redis.freeze()
        return await ticks_while(redis_integration.aio.events.publish_global_event("system.maintenance", {}))

    try:
        assert asyncio.run(hang()) > 20
    finally:
        embedded_redis.thaw()


def test_everything_can_be_awaited() -> None:
    async def all_of_it() -> None:
        aio = redis_integration.aio
        assert await aio.menu_cache.set_user_menu(7, {"test": 1}) is True
        assert (await aio.menu_cache.get_user_menu(7))["data"] == {"test": 1}
        assert await (await aio.get_user_manager(7)).store_form_data("1", {}) is True
        assert await aio.get_user_manager(7).get_form_data("1") == {}
        assert aio.get_user_manager(7).user_id == 7
        assert aio.event_types.USER_LOGIN == "user.login"
        assert (await aio.health_check())["status"] == "healthy"
        assert (await aio.get_cache_stats())["menus"] == 1
        assert await aio.clear_all_cache() is True
        assert await v21.awaitable(v21.publish_user_created, 7) is True

    asyncio.run(all_of_it())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_opens_connections_of_its_own(settings: Settings, client: RedisClient) -> None:
    code = """
import os, sys
from connectbot.integration import redis_integration as r
assert r.events.publish_user_event(1, "user.login", {})
children = []
for number in range(2, 6):
    pid = os.fork()
    if not pid:
        for _ in range(50):
            assert r.events.publish_user_event(number, "user.login", {})
            assert r.menu_builder.build_main_menu(number)["user_id"] == number
        os._exit(0)
    children.append(pid)
for _ in range(50):
    assert r.menu_builder.build_main_menu(1)["user_id"] == 1
for pid in children:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    run_python(code, settings)
    assert client.xlen("connectbot:events") == 201


def test_a_process_that_was_forked_without_pythons_knowledge_opens_a_site_of_its_own(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uWSGI forks its workers so, unless it is told ``py-call-uwsgi-fork-hooks``."""
    source = SiteSource(lambda: settings)
    parents = source()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    childs = source()
    assert childs is not parents
    assert childs is source()
    source.finish()
    source.close()
    parents.close()


def run_python(code: str, settings: Settings, **more: str) -> str:
    env = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_opened_site_is_one_for_all_threads(settings: Settings) -> None:
    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(lambda _: id(default_site()), range(64)))) == 1
    assert Clients.open(settings).redis is not default_site().clients.redis
