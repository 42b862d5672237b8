"""The figures of ``stats``, ``check`` and ``/metrics`` are exact, whatever the version of Redis."""

from __future__ import annotations

import time

import pytest

from connectbot import aside
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.events import new_event
from connectbot.settings import Settings
from connectbot.users import NO_VERSION
from connectbot.watching import ages, figures
from connectbot.watching.figures import Figures, LaneFigures, read_figures
from tasks.user_changes import UserChanges
from tests.support import LANES


def read(ours: Clients) -> Figures:
    return read_figures(ours.redis, ours.settings, LANES)


def lane(ours: Clients, name: str = "default") -> LaneFigures:
    [found] = [one for one in read(ours).lanes if one.lane == name]
    return found


def publish(ours: Clients, count: int) -> None:
    for _ in range(0, count, 500):
        event = new_event("user.login", {"user_id": 1}, channel="connectbot:global")
        ours.publisher.publish(*[event] * min(500, count))


def join(ours: Clients, name: str) -> None:
    ours.stream.register("default", name, lease_seconds=60)


def test_nothing_at_all(settings: Settings) -> None:
    ours = Clients.open(settings)
    found = read(ours)
    assert [(one.backlog, one.oldest_age_seconds, one.consumers) for one in found.lanes] == [(0, 0, [])] * 2
    assert (found.last_tick, found.dead, found.breaker) == (None, 0, "closed")
    ours.redis.close()


@pytest.mark.parametrize("many", [100, 3 * figures.USERS_SAMPLED])
def test_how_many_users_have_menus(ours: Clients, many: int) -> None:
    changes = UserChanges(ours, [])
    for user_id in range(many):
        changes.create(user_id, "employee", NO_VERSION)
    ours.stream.apply(changes.effects())
    assert (read(ours).users_known, read(ours).users_with_menus) == (many, many)
    for user_id in range(many // 2):
        ours.menus.delete(user_id)
    with_menus = read(ours).users_with_menus
    assert with_menus == many // 2 if many < figures.USERS_SAMPLED else 0.3 < with_menus / many < 0.7


def test_every_entry_is_in_one_figure(ours: Clients) -> None:
    publish(ours, 10)
    assert (lane(ours).lag, lane(ours).pending, lane(ours).backlog) == (10, 0, 10)
    join(ours, "alive")
    join(ours, "fallen")
    mine = ours.stream.read("default", "alive", limit=4, wait_seconds=0.1)
    ours.stream.read("default", "fallen", limit=3, wait_seconds=0.1)
    ours.redis.delete(ours.settings.keys.lease("fallen"))
    ours.stream.commit("default", "alive", [mine[0].id], Effects())
    found = lane(ours)
    assert (found.lag, found.pending, found.in_flight, found.backlog) == (3, 6, 3, 9)
    assert (found.consumers, found.fallen) == (["alive"], ["fallen"])
    assert (lane(ours, "java").lag, lane(ours, "java").pending) == (10, 0)


def test_the_oldest_parked_is_as_old_as_its_event(ours: Clients) -> None:
    join(ours, "alive")
    for seconds_ago in (100, 50):
        came = f"{int((time.time() - seconds_ago) * 1000)}-0"
        ours.redis.xadd(ours.settings.keys.events, {"event": b'{"id":"a","type":"user.login","data":{}}'}, id=came)
    assert lane(ours).oldest_parked_age_seconds == 0
    for entry in reversed(ours.stream.read("default", "alive", limit=2, wait_seconds=0.1)):
        effects = Effects()
        effects.add(*aside.parking(ours.settings.keys, "default", entry, deadline=None, tries=0))
        ours.stream.commit("default", "alive", [entry.id], effects)
    assert 100 <= lane(ours).oldest_parked_age_seconds < 110
    assert lane(ours, "java").oldest_parked_age_seconds == 0


def test_what_was_put_aside_is_counted_apart(ours: Clients) -> None:
    publish(ours, 2)
    join(ours, "alive")
    one, other = ours.stream.read("default", "alive", limit=2, wait_seconds=0.1)
    effects = Effects()
    effects.add(*aside.delaying(ours.settings.keys, "default", one, due=time.time() + 60, attempts=1, tries=1))
    effects.add(*aside.parking(ours.settings.keys, "default", other, deadline=None, tries=0))
    ours.stream.commit("default", "alive", [one.id, other.id], effects)
    found = lane(ours)
    assert (found.backlog, found.delayed, found.parked) == (0, 1, 1)
    assert found.oldest_age_seconds == 0


def test_the_age_is_that_of_the_oldest_entry_delivered_or_not(ours: Clients) -> None:
    def add(seconds_ago: float) -> None:
        event = b'{"id":"a","type":"user.login","data":{}}'
        ours.redis.xadd(ours.settings.keys.events, {"event": event}, id=f"{int((time.time() - seconds_ago) * 1000)}-0")

    add(100)
    add(50)
    assert 100 <= lane(ours).oldest_age_seconds < 110
    join(ours, "alive")
    [first] = ours.stream.read("default", "alive", limit=1, wait_seconds=0.1)
    assert 100 <= lane(ours).oldest_age_seconds < 110
    ours.stream.commit("default", "alive", [first.id], Effects())
    assert 50 <= lane(ours).oldest_age_seconds < 60


@pytest.mark.parametrize("delivered", [0, 1, 999, 1000, 1001, 2999, 3000])
def test_the_lag_is_exact_where_redis_does_not_tell_it(
    delivered: int, ours: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis 6.2 never tells it, and Redis 7 does not after a deletion from the middle."""
    publish(ours, 3000)
    join(ours, "alive")
    if delivered:
        entries = ours.stream.read("default", "alive", limit=delivered, wait_seconds=0.1)
        ours.redis.xdel(ours.settings.keys.events, entries[-1].id)
    left = 3000 - delivered
    assert (lane(ours).lag, lane(ours).lag_is_exact) == (left, True)
    monkeypatch.setattr(figures, "MOST_COUNTED", 1000)
    found = lane(ours)
    assert found.lag == left or (found.lag <= left and not found.lag_is_exact)


def test_ages_are_counted_once_for_each_event() -> None:
    now = 1_000_000.0
    ids = [f"{int((now - age) * 1000)}-{n}" for n, age in enumerate((0, 0.004, 0.2, 3, 3, 86_400))]
    held: dict[bytes, bytes] = {}
    for command, key, field, by in ages.counting("key", ids, now=now):
        assert (command, key) == ("HINCRBY", "key")
        held[str(field).encode()] = str(int(held.get(str(field).encode(), 0)) + by).encode()
    read_back = ages.Ages.read(held)
    assert read_back.count == 6
    assert dict(read_back.buckets)["0.005"] == 2
    assert dict(read_back.buckets)["0.25"] == 3
    assert dict(read_back.buckets)["5.0"] == 5
    assert read_back.sum_seconds == pytest.approx(86_406.204)


def test_a_clock_behind_that_of_redis_makes_no_negative_age() -> None:
    assert ages.counting("key", ["2000-0"], now=1.0)[-1] == ("HINCRBY", "key", "sum_ms", 0)
    assert ages.counting("key", [], now=1.0) == []
