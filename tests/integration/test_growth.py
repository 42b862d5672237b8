"""What the worker does again and again costs no more when much is stored: seen by what Redis itself has run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectbot.cache_keys import user_namespace
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Batch
from connectbot.events import new_event
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from connectbot.users import NO_VERSION, KnownUser
from tasks import menus
from tasks.batch_run import BatchRun
from tests.support import Worker, wait_until

FEW, MANY = 100, 5_000
SOME = range(1_000_000, 1_000_020)
LANE = "default"
NAMESPACE = "sessions"
WAITING = ("exists", "info", "config", "ping")
LOOKS_AT_ALL = {
    "KEYS", "SCAN", "HGETALL", "HKEYS", "HVALS", "SMEMBERS", "SSCAN", "HSCAN", "ZSCAN", "SORT", "SUNION", "SINTER",
    "SDIFF", "ZUNION", "ZINTER", "ZDIFF", "RANDOMKEY", "FLUSHALL", "FLUSHDB",
}  # fmt: skip
RANGES = {"ZRANGE", "ZREVRANGE", "LRANGE"}
RANGES_WITH_A_LIMIT = {"ZRANGEBYSCORE": "LIMIT", "ZREVRANGEBYSCORE": "LIMIT", "ZRANGEBYLEX": "LIMIT"}


def store(ours: Clients, count: int) -> None:
    """Users whose menus are warm for long, temporary data that lives long, events that are finished with."""
    effects = Effects()
    users = [KnownUser(user_id, NO_VERSION, "employee") for user_id in range(count)]
    effects.add_for_users(users, [ours.users.remembering()])
    ours.stream.apply(effects)
    ours.redis.zadd(ours.settings.keys.warm_menus, dict.fromkeys(range(count), time.time() + 86_400))  # one by one
    with ours.redis.pipeline(transaction=False) as pipe:
        for number in range(count):
            for command in ours.temp_data.storing(NAMESPACE, f"k{number}", {}, now=time.time(), ttl_seconds=86_400):
                pipe.execute_command(*command)
        pipe.execute()


def hear(ours: Clients, event_type: str, *user_ids: int) -> None:
    events = (
        new_event(event_type, {"user": {"id": user_id, "role": "admin"}}, channel="connectbot:global", user_id=user_id)
        for user_id in user_ids
    )
    ours.publisher.publish(*events)
    entries = ours.stream.read(LANE, "a", limit=1000, wait_seconds=0.01)
    BatchRun(
        ours, Batch(LANE, "a", (event_type,), entries[0].id, entries[-1].id, len(entries)), menus.follow_users.work
    ).run()


def work(ours: Clients) -> None:
    """A bit of everything that is done again and again, on as much each time."""
    keys, now = ours.settings.keys, time.time()
    for event_type in ("user.created", "user.updated", "user.login"):
        hear(ours, event_type, *SOME)
    ours.menus.get(SOME[0], "main")
    for user_id in SOME:
        ours.temp_data.store(user_namespace(user_id), "form_data_1", {"a": 1}, now=now)
        ours.temp_data.store(NAMESPACE, f"due {user_id}", {"a": 1}, now=now, ttl_seconds=0.01)
    ours.temp_data.get(user_namespace(SOME[0]), "form_data_1")
    ours.temp_data.extend(user_namespace(SOME[0]), "form_data_1", ttl_seconds=60, now=now)
    ours.temp_data.delete(NAMESPACE, f"due {SOME[0]}")
    for user_id in SOME:
        ours.menus.delete(user_id)
    ours.redis.zadd(keys.warm_menus, dict.fromkeys(SOME, now))
    assert sum(ours.menus.warmer.expiring(before=now + 1)) == len(SOME)
    wait_until(lambda: not ours.redis.exists(f":1:temp:{NAMESPACE}:due {SOME[-1]}"), deadline_seconds=5, what="expiry")
    assert ours.temp_data.expire(ours.temp_data.due(now=time.time(), limit=100)) == len(SOME) - 1
    hear(ours, "user.deleted", *SOME)
    ours.users.forget_deleted(before=time.time() + 1, limit=100)
    ours.stream.release_delayed(LANE, limit=100)
    ours.stream.take_over(LANE, "a", limit=100)
    ours.stream.renew_lease("a", lease_seconds=60)


def calls(ours: Clients, client: RedisClient) -> dict[str, int]:
    """What Redis ran for `work`, scripts' commands included: command → how often."""
    ours.stream.register(LANE, "a", lease_seconds=60)
    work(ours)  # connections are opened, scripts loaded
    client.config_resetstat()
    work(ours)
    return {name.removeprefix("cmdstat_"): row["calls"] for name, row in client.info("commandstats").items()}


def test_the_same_work_takes_the_same_commands_however_much_is_stored(ours: Clients, client: RedisClient) -> None:
    store(ours, FEW)
    few = calls(ours, client)
    store(ours, MANY)
    # Some depend on the moment: into how many ages events fall, how often `work` looks whether something has expired.
    grown_by = {name: (few.get(name, 0), many) for name, many in calls(ours, client).items() if name not in WAITING}
    assert {name: counts for name, counts in grown_by.items() if counts[1] > counts[0] + len(SOME) / 2} == {}


def test_a_burst_about_one_user_is_one_rebuild(ours: Clients, client: RedisClient) -> None:
    ours.stream.register(LANE, "a", lease_seconds=60)
    hear(ours, "user.created", 7)
    client.config_resetstat()
    hear(ours, "user.updated", *[7] * 500)
    stats = client.info("commandstats")
    values_set = sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("set", "msetex"))
    assert values_set == len(ours.settings.warm_menus)
    assert stats["cmdstat_hset"]["calls"] == 1


def commands(client: RedisClient, monitor: Iterator[dict[str, str]]) -> list[list[str]]:
    """What MONITOR has seen up to now."""
    client.echo("seen")
    seen = []
    for row in monitor:
        words = row["command"].split(" ")
        if words == ["ECHO", "seen"]:
            return seen
        seen.append([words[0].upper(), *words[1:]])
    raise AssertionError("MONITOR has ended")


def looks_at_all(client: RedisClient, words: list[str]) -> bool:
    """Whether a command looks at all of something that has grown."""
    name, key = words[0], words[1] if len(words) > 1 else ""
    if name in ("KEYS", "SCAN"):
        return True
    if name in LOOKS_AT_ALL or (name in RANGES and words[2:4] == ["0", "-1"]):
        return grown(client, key)
    return name in RANGES_WITH_A_LIMIT and RANGES_WITH_A_LIMIT[name] not in map(str.upper, words) and grown(client, key)


def grown(client: RedisClient, key: str) -> bool:
    sizes = {b"hash": client.hlen, b"set": client.scard, b"zset": client.zcard, b"list": client.llen}
    size = sizes.get(client.type(key))
    return size is not None and size(key) > FEW


def test_nothing_looks_at_all_that_has_grown(
    ours: Clients, client: RedisClient, settings: Settings, tmp_path: Path
) -> None:
    store(ours, MANY)
    with Worker(settings, tmp_path, lanes=[LANE]) as worker, client.monitor() as monitor:
        worker.wait_ready()
        commands(client, monitor.listen())
        for event_type in ("user.created", "user.updated", "user.login", "user.deleted"):
            ours.publisher.publish_user_event(7, event_type, {"user": {"id": 7, "role": "admin"}})
        ours.redis.zadd(settings.keys.warm_menus, {"8": 1.0})
        ours.temp_data.store(NAMESPACE, "due", {}, now=time.time(), ttl_seconds=0.01)
        for task in ("menus.warm", "temp_data.expire", "events.upkeep"):
            ours.publisher.publish(
                new_event("task.enqueued", {"task": task, "args": [], "kwargs": {}}, channel="connectbot:global")
            )
        wait_until(lambda: ours.menus.get(8, "main"), deadline_seconds=20, what="what runs out to be warmed")
        wait_until(
            lambda: ours.redis.xpending(settings.keys.events, LANE)["pending"] == 0,
            deadline_seconds=20,
            what="all done",
        )
        seen = commands(client, monitor.listen())
    assert {"SET", "ZADD", "XADD", "HMGET", "EVALSHA"} <= {words[0] for words in seen}
    # One step of the walk over all keys, of a size that does not grow (see TempData.limit_lives).
    assert [words[2:] for words in seen if looks_at_all(client, words)] == [["MATCH", ":1:temp:*", "COUNT", "2000"]]


@pytest.mark.parametrize(
    "command",
    [
        ("KEYS", "connectbot:*"), ("SCAN", 0), ("HGETALL", "connectbot:users"), ("HSCAN", "connectbot:users", 0),
        ("ZRANGE", "connectbot:menus:warm", 0, -1), ("SMEMBERS", "connectbot:temp:keys:sessions"),
        ("ZRANGEBYSCORE", "connectbot:temp:due", "-inf", "+inf"),
    ],
    ids=lambda command: str(command[0]),
)  # fmt: skip
def test_who_looks_at_all_is_seen(ours: Clients, client: RedisClient, command: tuple[str, ...]) -> None:
    store(ours, MANY)
    with client.monitor() as monitor:
        client.execute_command(*command)
        words = commands(client, monitor.listen())[-1]
    assert looks_at_all(client, words)
