"""Redis goes and comes back: handlers are answered at once, and what they published arrives once."""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectbot.embedded import HOST, EmbeddedRedis
from connectbot.integration import RedisIntegration
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from tests.support import ROOT, environment, wait_until
from worker.chaos.proxy import Proxy

Facades = Callable[..., RedisIntegration]


@pytest.fixture
def spooled(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a spool of their own."""
    return replace(settings, spool=str(tmp_path / "spool.db"))


@pytest.fixture
def facade(spooled: Settings, embedded_redis: EmbeddedRedis) -> Iterator[RedisIntegration]:
    """A facade with a spool; its Redis runs again afterwards."""
    facade = RedisIntegration(spooled)
    yield facade
    embedded_redis.start()
    embedded_redis.thaw()
    facade.close()


@pytest.fixture
def bare(settings: Settings, embedded_redis: EmbeddedRedis) -> Iterator[RedisIntegration]:
    """A facade without a spool."""
    facade = RedisIntegration(settings)
    yield facade
    embedded_redis.start()
    facade.close()


def publish(facade: RedisIntegration, number: int) -> bool:
    return facade.events.publish_user_event(7, "user.action.count", {"number": number})


def numbers(client: RedisClient) -> list[int]:
    """The numbers of the events in the stream, in its order."""
    rows = client.xrange("connectbot:events")
    return [json.loads(fields[b"event"])["data"]["number"] for _, fields in rows]


def until_sent(facade: RedisIntegration) -> None:
    def sent() -> bool:
        health = facade.health_check()
        return health["redis"]["ok"] and not health["outage"]["now"] and health["spool"]["waiting"] == 0

    wait_until(sent, deadline_seconds=20, what="the spool to be sent")


# --- without Redis ------------------------------------------------------------------------------------------------


def test_without_a_spool_everything_is_answered_and_nothing_raises(
    bare: RedisIntegration, embedded_redis: EmbeddedRedis
) -> None:
    bare.menu_builder.build_main_menu(7, "admin")
    embedded_redis.kill()
    assert publish(bare, 1) is False
    assert bare.temp_data.store_temp_data("k", {"a": 1}) is False
    assert bare.temp_data.get_temp_data("k", "default") == "default"
    assert bare.temp_data.delete_temp_data("k") is False
    assert bare.temp_data.extend_timeout("k", 60) is False
    assert bare.menu_cache.get_user_menu(7) is None
    assert bare.menu_cache.get_cached_users() == []
    assert bare.clear_all_cache() is False
    manager = bare.get_user_manager(7)
    assert manager.store_form_data("1", {}) is False
    assert manager.clear_all_form_data() is False
    assert bare.get_cache_stats()["status"] == "unavailable"
    health = bare.health_check()
    assert health["status"] == "unhealthy"
    assert "Connection refused" in health["outage"]["now"]["cause"]
    assert all("Connection refused" in part["cause"] for part in health["components"].values())


def test_the_cause_is_logged_once(
    bare: RedisIntegration, embedded_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    publish(bare, 0)
    embedded_redis.kill()
    for number in range(100):
        publish(bare, number)
        bare.menu_cache.get_user_menu(number)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Connection refused" in caplog.text


def test_menus_are_built_and_remembered_by_the_process(bare: RedisIntegration, embedded_redis: EmbeddedRedis) -> None:
    embedded_redis.kill()
    assert bare.menu_cache.get_user_menu(7) is None
    assert len(bare.menu_builder.build_main_menu(7, "admin")["options"]) == 5
    cached = bare.menu_cache.get_user_menu(7)
    assert cached is not None
    assert cached["data"]["role"] == "admin"
    assert len(bare.menu_builder.build_main_menu(7)["options"]) == 5
    assert len(bare.menu_builder.build_main_menu(7, "employee")["options"]) == 3
    assert bare.menu_cache.set_user_menu(8, {"test": "data"}) is False
    assert bare.menu_cache.get_user_menu(8) == {
        "data": {"test": "data"},
        "user_id": 8,
        "menu_type": "main",
        "cached_at": pytest.approx(cached["cached_at"], abs=60),
    }
    assert bare.menu_cache.delete_user_menu(8) is False
    assert bare.menu_cache.get_user_menu(8) is None


def test_a_remembered_menu_is_a_copy_and_lives_as_long_as_it_is_to(
    bare: RedisIntegration, embedded_redis: EmbeddedRedis
) -> None:
    embedded_redis.kill()
    for _ in range(3):
        menu = bare.menu_builder.build_main_menu(7)
        assert len(menu["options"]) == 3
        menu["options"].append({"key": "own"})
    assert bare.menu_cache.set_user_menu(8, {"test": "data"}, timeout=0) is False
    assert bare.menu_cache.get_user_menu(8) is None
    assert bare.menu_cache.set_user_menu(8, {"test": object()}) is False
    assert bare.menu_cache.get_user_menu(8) is None


def test_what_was_remembered_is_forgotten_when_redis_is_back(
    bare: RedisIntegration, embedded_redis: EmbeddedRedis
) -> None:
    bare.menu_builder.build_main_menu(7, "employee")
    embedded_redis.kill()
    bare.menu_builder.build_main_menu(7, "admin")
    embedded_redis.start()
    wait_until(lambda: bare.health_check()["outage"]["now"] is None, deadline_seconds=20, what="Redis to be seen")
    assert bare.menu_builder.build_main_menu(7)["role"] == "employee"
    assert bare.get_cache_stats()["local_menus"] == 0
    assert bare.health_check()["outage"]["last"]["seconds"] > 0


def test_a_redis_that_is_full_is_away_until_it_has_room(
    facade: RedisIntegration, client: RedisClient, embedded_redis: EmbeddedRedis
) -> None:
    client.config_set("maxmemory", "1")
    try:
        assert publish(facade, 1) is True
        assert facade.health_check()["spool"]["waiting"] == 1
        assert facade.health_check()["status"] != "healthy"
    finally:
        client.config_set("maxmemory", "0")
    until_sent(facade)
    assert numbers(client) == [1]


# --- a Redis that only refuses to write ---------------------------------------------------------------------------


@pytest.fixture(params=["maxmemory", "min-replicas-to-write", "replica"])
def refuse_writes(request: pytest.FixtureRequest, client: RedisClient) -> Iterator[Callable[[bool], None]]:
    """Has Redis refuse all writes (OOM, NOREPLICAS, READONLY), and no longer."""

    def switch(refuse: bool) -> None:
        if request.param == "replica":
            client.replicaof(*((HOST, 1) if refuse else ("NO", "ONE")))
        else:
            client.config_set(request.param, int(refuse))

    yield switch
    switch(False)


def until_written(facade: RedisIntegration) -> None:
    wait_until(lambda: facade._site().outage.now is None, deadline_seconds=20, what="Redis to take writes")


def test_a_redis_that_refuses_to_write_is_read_all_the_same(
    bare: RedisIntegration,
    refuse_writes: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = bare.get_user_manager(7)
    assert manager.store_conversation_state({"step": 3}) is True
    bare.menu_builder.build_main_menu(7, "admin")
    refuse_writes(True)
    assert publish(bare, 1) is False
    outage = bare.health_check()["outage"]["now"]
    assert outage["refuses_writes"] is True
    monkeypatch.setattr(bare._site().clients.menus, "store", None)  # asking it again would be a complaint in the log
    for _ in range(2):
        assert manager.get_conversation_state() == {"step": 3}
        assert bare.menu_builder.build_main_menu(7)["role"] == "admin"
        assert bare.menu_cache.get_cached_users() == [7]
        assert bare.get_cache_stats()["status"] == "available"
        assert manager.store_conversation_state({"step": 4}) is False
        assert bare.menu_cache.set_user_menu(7, {}, "admin") is False
        assert manager.extend_data("conversation_state", 60) is False
    assert bare.health_check()["status"] == "degraded"
    assert bare.health_check()["outage"]["now"] == outage
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    refuse_writes(False)
    until_written(bare)
    assert manager.store_conversation_state({"step": 4}) is True


def test_a_menu_that_redis_does_not_take_is_answered_before_the_one_that_it_has(
    bare: RedisIntegration, refuse_writes: Callable[[bool], None]
) -> None:
    bare.menu_cache.set_user_menu(7, {"old": 1})
    refuse_writes(True)
    assert bare.menu_cache.set_user_menu(7, {"new": 1}) is False
    assert (bare.menu_cache.get_user_menu(7) or {})["data"] == {"new": 1}
    refuse_writes(False)
    until_written(bare)
    assert (bare.menu_cache.get_user_menu(7) or {})["data"] == {"old": 1}


def test_with_a_spool_forms_are_stored_and_cleared_while_redis_refuses_to_write(
    facade: RedisIntegration, refuse_writes: Callable[[bool], None]
) -> None:
    manager = facade.get_user_manager(7)
    manager.store_form_data("1", "there")
    refuse_writes(True)
    assert manager.store_form_data("2", "waiting") is True
    assert [manager.get_form_data(step) for step in ("1", "2")] == ["there", "waiting"]
    assert manager.clear_all_form_data() is True
    assert [manager.get_form_data(step) for step in ("1", "2")] == [None, None]
    refuse_writes(False)
    until_sent(facade)
    assert [manager.get_form_data(step) for step in ("1", "2")] == [None, None]


def test_no_connection_that_was_read_from_stays_with_a_server_that_refused(
    bare: RedisIntegration, refuse_writes: Callable[[bool], None]
) -> None:
    """Behind sentinels it may be a master that was replaced."""
    refuse_writes(True)
    assert publish(bare, 1) is False
    pool = bare._site().clients.redis.connection_pool
    connections = [pool.get_connection() for _ in range(3)]
    for connection in connections:
        pool.release(connection)
    assert bare.temp_data.get_temp_data("k", "default") == "default"
    refuse_writes(False)
    until_written(bare)
    assert not any(connection.is_connected for connection in connections)


def test_a_redis_that_refused_to_write_may_go_altogether_and_come_back(
    bare: RedisIntegration, client: RedisClient, embedded_redis: EmbeddedRedis
) -> None:
    client.config_set("maxmemory", "1")
    assert publish(bare, 1) is False
    embedded_redis.kill()
    assert bare.temp_data.get_temp_data("k", "default") == "default"
    absence = bare.health_check()["outage"]["now"]
    assert absence["refuses_writes"] is False
    assert "maxmemory" not in absence["cause"]
    embedded_redis.start()
    until_written(bare)
    assert publish(bare, 2) is True


# --- the spool ----------------------------------------------------------------------------------------------------


def test_what_is_published_meanwhile_arrives_in_order_and_once(
    facade: RedisIntegration, embedded_redis: EmbeddedRedis, client: RedisClient
) -> None:
    for number in range(1000):
        if number == 300:
            embedded_redis.kill()
        if number == 700:
            embedded_redis.start()
        assert publish(facade, number) is True
    until_sent(facade)
    assert numbers(client) == list(range(1000))


def test_what_another_process_has_left_is_sent_by_who_only_reads(
    spooled: Settings, embedded_redis: EmbeddedRedis, client: RedisClient
) -> None:
    leaver = RedisIntegration(spooled)
    embedded_redis.kill()
    assert publish(leaver, 1) is True
    leaver.close()
    embedded_redis.start()
    reader = RedisIntegration(spooled)
    assert reader.menu_cache.get_user_menu(7) is None
    wait_until(lambda: numbers(client) == [1], deadline_seconds=20, what="the event")
    reader.close()


def test_temporary_data_is_read_back_from_the_spool(
    facade: RedisIntegration, embedded_redis: EmbeddedRedis, client: RedisClient
) -> None:
    manager = facade.get_user_manager(7)
    manager.store_form_data("old", {"a": 0})
    embedded_redis.kill()
    assert manager.store_form_data("1", {"a": 1}) is True
    assert manager.store_form_data("1", {"a": 2}) is True
    assert manager.store_form_data("2", "text") is True
    assert manager.get_form_data("1") == {"a": 2}
    assert manager.get_form_data("2") == "text"
    assert manager.clear_form_data("2") is True
    assert manager.get_form_data("2", "gone") == "gone"
    assert manager.extend_data("form_data_1", 9000) is True
    assert manager.get_form_data("old") is None
    embedded_redis.start()
    until_sent(facade)
    assert manager.get_form_data("1") == {"a": 2}
    assert manager.get_form_data("2") is None
    assert manager.get_form_data("old") == {"a": 0}
    assert 8_000_000 < client.pttl(":1:temp:user_7:form_data_1") < 9_000_000
    assert client.smembers("connectbot:temp:keys:user_7") == {b"form_data_1", b"form_data_old"}


def test_what_ran_out_meanwhile_is_not_brought_back(
    facade: RedisIntegration, embedded_redis: EmbeddedRedis, client: RedisClient
) -> None:
    embedded_redis.kill()
    assert facade.temp_data.store_temp_data("short", {"a": 1}, timeout=0.05) is True
    wait_until(lambda: facade.temp_data.get_temp_data("short") is None, deadline_seconds=5, what="it to run out")
    embedded_redis.start()
    until_sent(facade)
    assert facade.temp_data.get_temp_data("short") is None
    assert client.zcard("connectbot:temp:due") == 1, "its owner is still to be told"


def test_what_was_removed_meanwhile_is_no_key(facade: RedisIntegration, embedded_redis: EmbeddedRedis) -> None:
    embedded_redis.kill()
    for key in ("kept", "removed"):
        assert facade.temp_data.store_temp_data(key, {"a": 1}) is True
    assert facade.temp_data.delete_temp_data("removed") is True
    assert facade.temp_data.get_keys() == ["kept"]


def test_what_is_given_more_time_meanwhile_has_it(
    facade: RedisIntegration, embedded_redis: EmbeddedRedis, client: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded_redis.kill()
    a_while_ago = time.time() - 60
    with monkeypatch.context() as then:
        then.setattr(time, "time", lambda: a_while_ago)
        assert facade.temp_data.store_temp_data("form", {"a": 1}, timeout=30) is True
        assert facade.temp_data.extend_timeout("form", 600) is True
    assert facade.temp_data.get_temp_data("form") == {"a": 1}
    embedded_redis.start()
    until_sent(facade)
    assert facade.temp_data.get_temp_data("form") == {"a": 1}
    assert client.zcard("connectbot:temp:due") == 1


def test_a_time_long_before_now_does_not_hold_up_what_comes_after(
    facade: RedisIntegration, embedded_redis: EmbeddedRedis, client: RedisClient
) -> None:
    embedded_redis.kill()
    assert facade.temp_data.store_temp_data("form", {"a": 1}) is True
    in_milliseconds_by_mistake = time.time() - time.time() * 1000
    assert facade.temp_data.extend_timeout("form", in_milliseconds_by_mistake) is True
    assert facade.temp_data.get_temp_data("form") is None
    assert publish(facade, 1) is True
    embedded_redis.start()
    until_sent(facade)
    assert numbers(client) == [1]
    assert facade.temp_data.get_temp_data("form") is None


def test_a_publishing_that_was_broken_off_and_came_through_is_not_repeated(
    facade: RedisIntegration, embedded_redis: EmbeddedRedis, client: RedisClient
) -> None:
    assert publish(facade, 0)
    embedded_redis.freeze()  # takes the command in, answers too late
    assert publish(facade, 1) is True
    assert publish(facade, 2) is True
    embedded_redis.thaw()
    until_sent(facade)
    assert publish(facade, 3) is True
    assert numbers(client) == [0, 1, 2, 3]


def test_a_full_stream_refuses_and_what_waits_stays(
    spooled: Settings, embedded_redis: EmbeddedRedis, client: RedisClient
) -> None:
    facade = RedisIntegration(replace(spooled, max_backlog=5, stream_keep=1))
    assert [publish(facade, number) for number in range(6)] == [True] * 6
    assert publish(facade, 6) is False
    client.xtrim("connectbot:events", maxlen=3)
    embedded_redis.kill()
    assert [publish(facade, number) for number in range(7, 12)] == [True] * 5
    embedded_redis.start()
    wait_until(lambda: "is full" in str(facade.health_check()["spool"]["cause"]), deadline_seconds=20, what="the cause")
    assert facade.health_check()["status"] == "degraded"
    client.delete("connectbot:events")
    until_sent(facade)
    assert numbers(client) == [7, 8, 9, 10, 11]
    facade.close()


def test_of_many_connections_that_broke_unheard_only_the_first_is_waited_for(
    spooled: Settings, embedded_redis: EmbeddedRedis
) -> None:
    proxy = Proxy(embedded_redis.port)
    proxy.start()
    facade = RedisIntegration(replace(spooled, redis_url=f"redis://127.0.0.1:{proxy.port}/0"))
    pool = facade._site().clients.redis.connection_pool
    connections = [pool.get_connection() for _ in range(4)]
    for connection in connections:
        pool.release(connection)
    proxy.silence()
    proxy.resume()
    assert facade.menu_cache.set_user_menu(7, {"test": "data"}) is False
    wait_until(lambda: facade._site().outage.now is None, deadline_seconds=20, what="Redis to be seen")
    for connection in connections:
        connection.send_command("PING")
        assert connection.read_response() == b"PONG"
    facade.close()
    proxy.stop()


@pytest.mark.parametrize("has_spool", [True, False])
def test_publishing_is_not_held_up_by_what_reading_has_found(
    has_spool: bool, settings: Settings, spooled: Settings, embedded_redis: EmbeddedRedis
) -> None:
    proxy = Proxy(embedded_redis.port)
    proxy.start()
    settings = spooled if has_spool else settings
    facade = RedisIntegration(replace(settings, redis_url=f"redis://127.0.0.1:{proxy.port}/0"))
    assert publish(facade, 1) is True
    assert facade.menu_cache.set_user_menu(7, {"test": "data"}) is True
    proxy.silence()
    proxy.resume()
    assert facade.menu_cache.set_user_menu(7, {"test": "data"}) is False
    wait_until(lambda: facade._site().outage.now is None, deadline_seconds=20, what="Redis to be seen")
    assert publish(facade, 2) is True
    assert facade._site().outage.now is None
    facade.close()
    proxy.stop()


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize(
    "never",
    [
        lambda facade: facade.events.publish_global_event(None, {}),
        lambda facade: facade.events.publish_global_event(True, {}),
        lambda facade: facade.temp_data.store_temp_data(None, {"a": 1}, namespace="sessions"),
        lambda facade: facade.temp_data.store_temp_data("k", {"a": 1}, timeout=9.3e15),
    ],
)
def test_what_redis_would_never_take_does_not_hold_up_what_comes_after(
    never: Callable[[RedisIntegration], bool],
    is_there: bool,
    facade: RedisIntegration,
    embedded_redis: EmbeddedRedis,
    client: RedisClient,
) -> None:
    if not is_there:
        embedded_redis.kill()
        assert publish(facade, 0) is True
    assert never(facade) is False
    assert publish(facade, 1) is True
    embedded_redis.start()
    until_sent(facade)
    assert numbers(client) == ([1] if is_there else [0, 1])


def test_what_the_sites_user_may_not_do_now_waits_until_it_may(
    spooled: Settings, embedded_redis: EmbeddedRedis, client: RedisClient
) -> None:
    client.execute_command("ACL", "SETUSER", "site", "on", ">word", "~*", "&*", "+@all")
    address = f"redis://site:word@{HOST}:{embedded_redis.port}/0"
    facade = RedisIntegration(replace(spooled, redis_url=address))
    assert publish(facade, 1) is True
    client.execute_command("ACL", "SETUSER", "site", "-xadd")
    assert publish(facade, 2) is True
    wait_until(lambda: facade.health_check()["status"] == "degraded", deadline_seconds=20, what="the hindrance")
    client.execute_command("ACL", "SETUSER", "site", "+xadd")
    until_sent(facade)
    assert numbers(client) == [1, 2]
    facade.close()
    client.execute_command("ACL", "DELUSER", "site")


def test_text_of_a_class_of_its_own_is_text(facade: RedisIntegration, embedded_redis: EmbeddedRedis) -> None:
    class Safe(str):  # such as Django's SafeString
        __slots__ = ()

    assert facade.temp_data.store_temp_data(Safe("there"), {"a": Safe("b")}) is True
    embedded_redis.kill()
    assert facade.temp_data.store_temp_data(Safe("away"), {"a": Safe("b")}) is True
    assert facade.events.publish_global_event(Safe("user.action.count"), {Safe("number"): Safe("1")}) is True
    embedded_redis.start()
    until_sent(facade)
    assert [facade.temp_data.get_temp_data(key) for key in ("there", "away")] == [{"a": "b"}] * 2


def test_an_event_that_cannot_be_published_is_answered_false_when_it_is_traced(
    spooled: Settings, embedded_redis: EmbeddedRedis
) -> None:
    facade = RedisIntegration(replace(spooled, trace="1"))
    no_type: Any = None
    assert facade.events.publish_global_event(no_type, {}) is False
    facade.close()


def test_what_hinders_the_spool_is_told_and_hinders_it_no_longer_than_it_lasts(
    facade: RedisIntegration, embedded_redis: EmbeddedRedis, client: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.set("connectbot:events", "no stream")
    embedded_redis.kill()
    assert publish(facade, 1) is True
    embedded_redis.start()
    wait_until(lambda: "WRONGTYPE" in str(facade.health_check()["spool"]["cause"]), deadline_seconds=20, what="a cause")
    client.delete("connectbot:events")
    until_sent(facade)
    assert numbers(client) == [1]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_a_spool_that_cannot_be_opened_is_told_and_used_once_it_can_be(
    settings: Settings, tmp_path: Path, embedded_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "missing"
    facade = RedisIntegration(replace(settings, spool=str(directory / "spool.db")))
    assert publish(facade, 1) is True
    assert facade.health_check()["status"] == "degraded"
    assert "CONNECTBOT_SPOOL" in facade.health_check()["spool"]["cause"]
    wait_until(lambda: "CONNECTBOT_SPOOL" in caplog.text, deadline_seconds=20, what="a line in the log")
    embedded_redis.kill()
    assert publish(facade, 2) is False
    directory.mkdir()
    assert publish(facade, 3) is True
    embedded_redis.start()
    until_sent(facade)
    assert facade.health_check()["status"] == "healthy"
    facade.close()


def test_a_handler_of_the_log_may_publish_when_it_hears_of_a_spool_that_cannot_be_opened(
    settings: Settings, tmp_path: Path, client: RedisClient
) -> None:
    heard: list[bool] = []

    class Handler(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            if not heard:
                heard.append(publish(facade, 1))
            return True

    facade, handler = RedisIntegration(replace(settings, spool=str(tmp_path / "missing" / "spool.db"))), Handler()
    logging.getLogger("connectbot").addHandler(handler)
    try:
        opened = threading.Thread(target=facade.get_cache_stats, daemon=True)
        opened.start()
        wait_until(lambda: heard, deadline_seconds=20, what="the handler's own event")
    finally:
        logging.getLogger("connectbot").removeHandler(handler)
    facade.close()
    assert numbers(client) == [1]


def test_a_damaged_parcel_is_told_and_what_comes_after_is_kept(
    facade: RedisIntegration, spooled: Settings, embedded_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    embedded_redis.kill()
    assert publish(facade, 1) is True
    with closing(sqlite3.connect(spooled.spool)) as file, file:
        file.execute("UPDATE parcel SET body = x'c1'")
    embedded_redis.start()
    wait_until(lambda: "malformed" in str(facade.health_check()["spool"]["cause"]), deadline_seconds=20, what="a cause")
    assert facade.health_check()["status"] == "degraded"
    assert publish(facade, 2) is True
    assert facade.health_check()["spool"]["waiting"] == 2
    assert [record.exc_info for record in caplog.records] == [None, None]


# --- processes that are killed ------------------------------------------------------------------------------------

PUBLISHER = """
import sys
from connectbot.integration import redis_integration
first = int(sys.argv[1])
for number in range(first, first + 1_000_000):
    if redis_integration.events.publish_user_event(7, "user.action.count", {"number": number}):
        print(number, flush=True)
"""


class Publisher:
    """A process that publishes numbers from ``first`` as fast as it can, and notes those that were answered True."""

    def __init__(self, settings: Settings, directory: Path, *, first: int) -> None:
        self.first = first
        self._log = directory / f"{first}.txt"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PUBLISHER, str(first)],
                cwd=ROOT,
                env={**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)},
                stdout=log,
            )

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def answered(self) -> list[int]:
        """A line cut off by the kill does not count."""
        return [int(line) for line in self._log.read_text().split("\n")[:-1]]

    def until_more(self, count: int) -> None:
        goal = len(self.answered()) + count
        wait_until(lambda: len(self.answered()) >= goal, deadline_seconds=30, what=f"{goal} events")


def test_processes_that_share_a_spool_are_killed_and_nothing_is_lost_or_doubled(
    spooled: Settings, embedded_redis: EmbeddedRedis, client: RedisClient, tmp_path: Path
) -> None:
    publishers = [Publisher(spooled, tmp_path, first=first) for first in (0, 1_000_000)]
    try:
        for publisher in publishers:
            publisher.until_more(100)
        embedded_redis.kill()
        for publisher in publishers:
            publisher.until_more(500)
        publishers[0].kill()
        embedded_redis.start()
        publishers[1].until_more(500)
    finally:
        for publisher in publishers:
            publisher.kill()
    facade = RedisIntegration(spooled)
    assert publish(facade, 5_000_000) is True
    until_sent(facade)
    facade.close()
    found = numbers(client)
    for publisher in publishers:
        ours = [number for number in found if publisher.first <= number < publisher.first + 1_000_000]
        assert ours == sorted(set(ours)), "each once, in order"
        assert set(publisher.answered()) <= set(ours)
        assert len(ours) - len(publisher.answered()) <= 1, "only the last answer may have been cut off"
    assert found[-1] == 5_000_000, "what comes later goes behind what waited"


def test_a_process_that_ends_sends_what_waits_on_its_way_out(
    spooled: Settings, embedded_redis: EmbeddedRedis, client: RedisClient
) -> None:
    facade = RedisIntegration(spooled)
    embedded_redis.kill()
    for number in range(100):
        publish(facade, number)
    facade.close()
    embedded_redis.start()
    code = """
from connectbot.integration import redis_integration
assert redis_integration.events.publish_user_event(7, "user.action.count", {"number": 100})
"""
    env = {**os.environ, **environment(spooled), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, timeout=60)
    assert numbers(client) == list(range(101))


# --- the promise of issue 3, shortened -----------------------------------------------------------------------------


def test_a_kill_under_load_from_many_threads(
    facade: RedisIntegration, embedded_redis: EmbeddedRedis, client: RedisClient
) -> None:
    menus: list[dict[str, Any]] = []

    def work(thread: int) -> None:
        for number in range(thread * 1000, thread * 1000 + 250):
            assert publish(facade, number) is True
            if number % 10 == 0:
                menus.append(facade.menu_builder.build_main_menu(number, "admin"))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    embedded_redis.kill()
    for thread in threads:
        thread.join()
    embedded_redis.start()
    until_sent(facade)
    found = numbers(client)
    assert sorted(found) == [number for thread in range(8) for number in range(thread * 1000, thread * 1000 + 250)]
    for thread in range(8):
        own = [number for number in found if number // 1000 == thread]
        assert own == sorted(own)
    assert len(menus) == 200
    assert all(len(menu["options"]) == 5 for menu in menus)
