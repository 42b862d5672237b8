"""Menus of many users warmed inside Redis: who gets which, how a walk goes on, and how wishes are gathered."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import pytest

from connectbot.cache import Cache, CacheCodec
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Batch
from connectbot.events import new_event
from connectbot.menu_warmer import MOST_STENCILS, Progress
from connectbot.menus import BUILDERS, Menus
from connectbot.redis_client import RedisClient
from connectbot.users import NO_VERSION, KnownUser
from tasks import menus as tasks
from tasks.batch_run import BatchRun
from tasks.user_changes import UserChanges
from tasks.work import Work
from tests.support import Worker, wait_until

LANE = "default"
VERSION = NO_VERSION.replace("0", "1")
MANY = 1500  # more than Redis keeps in one small block, which HSCAN would answer as a whole


def know(ours: Clients, users: Iterable[tuple[int, str | None]]) -> None:
    effects = Effects()
    effects.add_for_users([KnownUser(user_id, VERSION, role) for user_id, role in users], [ours.users.remembering()])
    ours.stream.apply(effects)


def warm_all(ours: Clients) -> Progress:
    *_, last = ours.menus.warmer.everybody()
    return last


def listed(ours: Clients) -> list[int]:
    """Who stands in the index of what runs out, once for each time."""
    texts = ours.redis.zrange(ours.settings.keys.warm_menus, 0, -1)
    return sorted(int(id_) for text in texts for id_ in text.split())


def put_down(ours: Clients, user_ids: Iterable[int], *, runs_out: float, together: int = 7) -> None:
    """Note when menus run out, as for some users whose menus were written together."""
    ids = list(user_ids)
    texts = [" ".join(map(str, ids[at : at + together])) for at in range(0, len(ids), together)]
    ours.redis.zadd(ours.settings.keys.warm_menus, dict.fromkeys(texts, runs_out))


def cached(ours: Clients, user_ids: Iterable[int]) -> list[bool]:
    return [ours.menus.get(user_id, "main") is not None for user_id in user_ids]


def clear(ours: Clients, user_ids: Iterable[int]) -> None:
    ours.redis.delete(*[f":1:menu:user:{user_id}:main" for user_id in user_ids])


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectbot.menu_warmer.USERS_A_PAGE", 50)


# --- who gets which ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", ["pickle", "json"])
def test_everybody_gets_the_menus_of_the_role(ours: Clients, serializer: str) -> None:
    cache = Cache(ours.redis, CacheCodec(serializer), ours.settings.cache_keys)
    made = Menus(
        ours.redis, cache=cache, keys=ours.settings.keys, cache_keys=ours.settings.cache_keys,
        warm=tuple(BUILDERS), ttl_seconds=60,
    )  # fmt: skip
    lengths = [*(10**power + power for power in range(19)), 2**63 - 1, -1, -(2**63), 0]
    known = [
        (user_id, role) for user_id, role in zip(lengths, ["employee", "admin", "🔧 ☕\n", "a" * 64] * 6, strict=False)
    ]
    know(ours, known)
    (progress,) = made.warmer.everybody()
    assert progress == Progress("", len(known), len(known))
    for user_id, role in known:
        for menu_type, build in BUILDERS.items():
            menu = made.get(user_id, menu_type)
            assert menu is not None
            assert menu["data"] == build(user_id, role)
            assert 0 < ours.redis.pttl(f":1:menu:user:{user_id}:{menu_type}") <= 60_000
    assert listed(ours) == sorted(user_id for user_id, _ in known)


def test_deleted_users_get_none(ours: Clients) -> None:
    know(ours, [(7, None), (8, "admin")])
    assert warm_all(ours).done == 2
    assert cached(ours, [7, 8]) == [False, True]
    assert listed(ours) == [8]


def test_any_number_of_roles_is_served(ours: Clients) -> None:
    users = range(1000, 1000 + 3 * MOST_STENCILS)
    know(ours, [(user_id, f"role {user_id}") for user_id in users])
    warm_all(ours)
    assert all(ours.menus.get(user_id, "main")["data"]["role"] == f"role {user_id}" for user_id in users)  # type: ignore[index]


def test_a_role_that_changes_during_the_walk_is_never_overwritten(ours: Clients, small_pages: None) -> None:
    users = range(MANY)
    know(ours, [(user_id, "employee") for user_id in users])
    walk = ours.menus.warmer.everybody()
    next(walk)
    know(ours, [(user_id, "admin") for user_id in users])
    walked = ours.menus.warmer.everybody()
    for _ in walked:
        next(walk, None)  # the older one goes on writing beside it
    assert all(ours.menus.get(user_id, "main")["data"]["role"] == "admin" for user_id in users)  # type: ignore[index]


# --- what runs out ----------------------------------------------------------------------------------------


def test_only_what_runs_out_is_warmed(ours: Clients, small_pages: None) -> None:
    now = time.time()
    know(ours, [(user_id, "employee") for user_id in range(200)])
    soon, later = range(120), range(120, 200)
    put_down(ours, soon, runs_out=now + 10)
    put_down(ours, later, runs_out=now + 1000)
    assert sum(ours.menus.warmer.expiring(before=now + 300)) == len(soon)
    assert all(cached(ours, soon))
    assert not any(cached(ours, later))
    assert sum(ours.menus.warmer.expiring(before=now + 300)) == 0
    assert listed(ours) == list(range(200))


def test_what_was_written_again_since_is_left_alone(ours: Clients) -> None:
    """Whoever did it: its time is not over. It is no more in the index than once."""
    now, users = time.time(), range(5)
    know(ours, [(user_id, "employee") for user_id in users])
    warm_all(ours)
    put_down(ours, users, runs_out=now + 10, together=2)
    ours.redis.pexpire(":1:menu:user:1:main", 20_000)  # one of the menus of this user does run out
    ours.redis.persist(":1:menu:user:2:main")
    ours.redis.delete(":1:menu:user:3:preferences")
    before = [ours.redis.get(f":1:menu:user:{user_id}:main") for user_id in users]
    assert sum(ours.menus.warmer.expiring(before=now + 300)) == 2
    after = [ours.redis.get(f":1:menu:user:{user_id}:main") for user_id in users]
    assert [new != old for new, old in zip(after, before, strict=True)] == [False, True, False, True, False]
    assert ours.redis.ttl(":1:menu:user:2:main") == -1
    assert listed(ours) == [0, 1, 1, 2, 3, 3, 4], "once for the walk, and once for what was written now"


def test_what_was_removed_on_purpose_is_not_warmed(ours: Clients) -> None:
    know(ours, [(user_id, "employee") for user_id in range(4)])
    warm_all(ours)
    effects = Effects()
    for user_id in (1, 2):
        effects.add(*ours.menus.clearing(user_id, now=time.time()))
    ours.stream.apply(effects)
    changes = UserChanges(ours, [2])
    changes.rebuild(2)
    ours.stream.apply(changes.effects())
    for user_id in (0, 2, 3):
        ours.menus.delete(user_id)
    later = time.time() + ours.settings.menu_ttl_seconds
    assert sum(ours.menus.warmer.expiring(before=later)) == 3
    assert cached(ours, range(4)) == [True, False, True, True]
    assert 0 < ours.redis.ttl(ours.settings.keys.cleared_menus) <= ours.settings.menu_ttl_seconds


def test_who_is_put_down_twice_is_warmed_once(ours: Clients) -> None:
    know(ours, [(7, "employee"), (8, "employee")])
    put_down(ours, [7, 8], runs_out=1.0)
    put_down(ours, [8], runs_out=2.0)
    assert sum(ours.menus.warmer.expiring(before=time.time())) == 2
    assert listed(ours) == [7, 8]


def test_what_runs_out_is_warmed_for_any_number_of_roles(ours: Clients, small_pages: None) -> None:
    users = range(1000, 1000 + 3 * MOST_STENCILS)
    know(ours, [(user_id, f"role {user_id}") for user_id in users])
    put_down(ours, users, runs_out=1.0)
    assert sum(ours.menus.warmer.expiring(before=time.time())) == len(users)
    assert all(cached(ours, users))
    assert listed(ours) == list(users)


def test_events_put_down_when_menus_run_out(ours: Clients) -> None:
    now = time.time()
    changes = UserChanges(ours, [])
    for user_id in (7, 8, 9):
        changes.create(user_id, "employee", VERSION)
    ours.stream.apply(changes.effects())
    assert listed(ours) == [7, 8, 9]
    (_, runs_out), *_ = ours.redis.zrange(ours.settings.keys.warm_menus, 0, -1, withscores=True)
    assert 0 <= runs_out - now - ours.settings.menu_ttl_seconds < 60


def test_users_who_are_gone_leave_the_index(ours: Clients) -> None:
    know(ours, [(7, None), (8, "admin")])
    ours.redis.hset(ours.settings.keys.users, "10", "0" * 17 + "-" + "0" * 20)  # deleted by an id of microseconds
    put_down(ours, [7, 8, 9, 10], runs_out=1.0)
    assert sum(ours.menus.warmer.expiring(before=time.time())) == 1
    assert listed(ours) == [8]
    assert ours.users.look_up([9]) == {}


# --- how a walk goes on -----------------------------------------------------------------------------------


def test_a_walk_goes_on_where_another_one_stopped(ours: Clients, small_pages: None) -> None:
    users = range(MANY)
    know(ours, [(user_id, "employee") for user_id in users])
    *_, stopped = ours.menus.warmer.everybody(go_on=lambda: False)
    assert 0 < stopped.done < MANY == stopped.total
    first = {user_id for user_id in users if ours.menus.get(user_id, "main")}
    clear(ours, users)
    *_, last = ours.menus.warmer.everybody(place=stopped.place, done=stopped.done)
    assert last == Progress("", MANY, MANY)
    assert {user_id for user_id in users if ours.menus.get(user_id, "main")} == set(users) - first


def test_a_walk_whose_place_is_lost_begins_anew(ours: Clients, client: RedisClient, small_pages: None) -> None:
    users = range(MANY)
    know(ours, [(user_id, "employee") for user_id in users])
    walk = ours.menus.warmer.everybody()
    assert 0 < next(walk).done < MANY
    clear(ours, users)
    client.delete(*client.keys(ours.settings.keys.menu_walk_page("*")))
    *_, last = walk
    assert last == Progress("", MANY, MANY)
    assert all(cached(ours, users))


def test_who_stops_listening_to_a_walk_gets_the_next_answers(ours: Clients, small_pages: None) -> None:
    know(ours, [(user_id, "employee") for user_id in range(MANY)])
    for _ in range(3):
        walk = ours.menus.warmer.everybody()
        next(walk)
        walk.close()
    assert warm_all(ours) == Progress("", MANY, MANY)


def test_a_server_that_has_forgotten_its_scripts_is_told_them(ours: Clients, client: RedisClient) -> None:
    know(ours, [(7, "employee")])
    warm_all(ours)
    client.script_flush()
    assert warm_all(ours).done == 1


def test_a_place_in_another_server_is_worth_nothing(ours: Clients, small_pages: None) -> None:
    users = range(MANY)
    know(ours, [(user_id, "employee") for user_id in users])
    place = next(ours.menus.warmer.everybody()).place
    other = f"{'0' * 40}:{place.partition(':')[2]}"
    for nonsense in (other, "nonsense", "1"):
        clear(ours, users)
        *_, last = ours.menus.warmer.everybody(place=nonsense, done=700)
        assert last.done == MANY
        assert all(cached(ours, users))


# --- how wishes are gathered ------------------------------------------------------------------------------


def wish(ours: Clients, times: int = 1) -> None:
    for _ in range(times):
        ours.publisher.publish(new_event("menus.warm", {}, channel="connectbot:global"))


def work(ours: Clients, limit: int = 100) -> int:
    """Let a consumer work on what is new; answers how many entries that were."""
    entries = ours.stream.read(LANE, "a", limit=limit, wait_seconds=0.01)
    if not entries:
        return 0
    types = tuple(sorted({entry.type for entry in entries}))
    return BatchRun(ours, Batch(LANE, "a", types, entries[0].id, entries[-1].id, len(entries)), Work(tasks.walk)).run()


def walks(ours: Clients) -> int:
    """How many walks have begun."""
    texts = [fields[b"event"] for _, fields in ours.redis.xrange(ours.settings.keys.events)]
    return sum(json.loads(text)["data"].get("place") == "" for text in texts)


@pytest.fixture
def consumer(ours: Clients) -> None:
    ours.stream.register(LANE, "a", lease_seconds=60)


@pytest.fixture
def slow_walk(monkeypatch: pytest.MonkeyPatch, small_pages: None) -> None:
    """A step of the walk is one page."""
    monkeypatch.setattr("tasks.menus.STEP_SECONDS", 0.0)


@pytest.mark.usefixtures("consumer", "slow_walk")
@pytest.mark.parametrize("limit", [1, 100])
def test_wishes_before_a_walk_are_one(ours: Clients, limit: int) -> None:
    know(ours, [(user_id, "employee") for user_id in range(MANY)])
    wish(ours, 20)
    while work(ours, limit):
        pass
    assert all(cached(ours, range(MANY)))
    assert walks(ours) == 1


@pytest.mark.usefixtures("consumer", "slow_walk")
def test_wishes_during_a_walk_are_one_more(ours: Clients) -> None:
    know(ours, [(user_id, "employee") for user_id in range(MANY)])
    wish(ours)
    for _ in range(5):
        work(ours)
    clear(ours, range(MANY))
    wish(ours, 20)
    while work(ours):
        pass
    assert all(cached(ours, range(MANY))), "what was cleared behind the walk is warmed by the next one"
    assert walks(ours) == 2
    wish(ours)
    while work(ours):
        pass
    assert walks(ours) == 3, "a walk that is over keeps nobody from another one"


@pytest.mark.usefixtures("consumer", "slow_walk")
def test_a_walk_that_died_does_not_stop_the_next_for_ever(ours: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.menus.WALK_REMEMBERED_MS", 50)
    know(ours, [(user_id, "employee") for user_id in range(MANY)])
    wish(ours)
    work(ours)
    ours.redis.xtrim(ours.settings.keys.events, maxlen=0)  # its next step is lost
    wait_until(lambda: not list(ours.redis.scan_iter("*:walk")), deadline_seconds=5, what="the walk to be forgotten")
    wish(ours)
    while work(ours):
        pass
    assert all(cached(ours, range(MANY)))


@pytest.mark.usefixtures("consumer", "slow_walk")
def test_a_step_that_is_repeated_does_no_harm(ours: Clients) -> None:
    """Its worker was killed before the commit: the heir begins where the step began."""
    know(ours, [(user_id, "employee") for user_id in range(MANY)])
    wish(ours)
    work(ours)
    (entry,) = ours.stream.read(LANE, "a", limit=1, wait_seconds=0.01)
    tasks.walk(ours, [tasks.Received(entry, entry.event())])  # and never committed
    BatchRun(ours, Batch(LANE, "a", (entry.type,), entry.id, entry.id, 1), Work(tasks.walk)).run()
    while work(ours):
        pass
    assert all(cached(ours, range(MANY)))
    assert ours.redis.xpending(ours.settings.keys.events, LANE)["pending"] == 0


def test_a_storm_of_wishes_is_little_work_for_a_worker(ours: Clients, worker: Worker) -> None:
    know(ours, [(user_id, "employee") for user_id in range(MANY)])
    ours.publisher.publish(*(new_event("menus.warm", {}, channel="connectbot:global") for _ in range(100)))
    wait_until(lambda: all(cached(ours, range(MANY))), deadline_seconds=20, what="the menus")
    pending = lambda: ours.redis.xinfo_groups(ours.settings.keys.events)  # noqa: E731
    wait_until(
        lambda: next(g for g in pending() if g["name"] == b"default")["pending"] == 0,
        deadline_seconds=20,
        what="all done",
    )
    assert walks(ours) <= 2
