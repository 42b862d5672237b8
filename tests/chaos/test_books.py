"""The parts of chaos that need no worker: its schedule, its books, its verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from connectbot.redis_client import RedisClient
from worker.chaos.ledger import Ledger
from worker.chaos.schedule import KILLS, OUTAGES, Attack, Kind, duration_seconds, make_schedule
from worker.chaos.scorecard import Durations, Scorecard
from worker.chaos.target import ForeignKeys, OperatorsRedis

NOTHING = Durations.of([])
GOOD = Scorecard(
    system="connectbot", seed=1, workers=3, seconds=1.0, events=1, kills=0, stops=0, freezes=0, redis_outages=0,
    lost=0, doubled=0, dead_letters=0, stale_menus=0, executions_per_event=1.0,
    recovery=NOTHING, recovery_to_effect=NOTHING, outage_to_effect=NOTHING, outages={}, pending=0, gone_with_redis=0,
)  # fmt: skip


def schedule(seed: int) -> tuple[Attack, ...]:
    return make_schedule(seed=seed, kills=100, workers=3, redis_outages=2 * len(OUTAGES))


def test_a_seed_plays_the_same_attacks_again() -> None:
    assert schedule(1) == schedule(1)
    assert schedule(1) != schedule(2)


def test_a_schedule_holds_what_was_asked_for() -> None:
    kinds = Counter(attack.kind for attack in schedule(1))
    assert sum(kinds[kind] for kind in set(KILLS)) == 100
    assert kinds[Kind.STOP] == kinds[Kind.FREEZE] == 20
    assert {kind: kinds[kind] for kind in OUTAGES} == dict.fromkeys(OUTAGES, 2)
    assert {attack.victim for attack in schedule(1)} == {0, 1, 2}
    assert 200 < duration_seconds(schedule(1)) < 500


def test_what_is_owed_and_has_no_effect_is_lost() -> None:
    ledger = Ledger()
    ledger.record([1, 2, 3], [], certain=True)
    ledger.record([4, 5], [], certain=False)
    verdict = ledger.judge({1: 1, 2: 2, 5: 2})
    assert (verdict.published, verdict.lost, verdict.doubled) == (3, 1, 2)


def test_nothing_is_owed_for_what_went_with_redis_but_a_double_is_remembered() -> None:
    ledger = Ledger()
    ledger.record([1, 2], [(7, "old")], certain=True)
    ledger.forget({1: 2}, unfinished={2})
    ledger.record([3], [], certain=True)
    verdict = ledger.judge({3: 1})
    assert (verdict.published, verdict.lost, verdict.doubled) == (3, 0, 1)
    assert ledger.stale({}) == 0
    assert ledger.forgotten == 1


def test_what_was_lost_before_redis_came_back_empty_stays_lost() -> None:
    ledger = Ledger()
    ledger.record([1, 2, 3], [], certain=True)
    ledger.record([4], [], certain=False)
    ledger.forget({1: 1}, unfinished=frozenset({2}))
    assert ledger.judge({}).lost == 1


def test_a_menu_must_show_the_newest_role_or_one_that_may_be_newer() -> None:
    ledger = Ledger()
    ledger.record([], [(7, "a"), (7, "b"), (8, "a")], certain=True)
    ledger.record([], [(8, "b"), (9, "a")], certain=False)
    assert ledger.stale({7: "b", 8: "a", 9: "a"}) == 0
    assert ledger.stale({7: "b", 8: "b"}) == 0
    assert ledger.stale({7: "a", 8: "b"}) == 1
    assert ledger.stale({8: "b"}) == 1


def test_durations_are_ranked() -> None:
    assert Durations.of([float(second) for second in range(200, 0, -1)]) == Durations(200, 100.0, 198.0, 200.0)


@pytest.mark.parametrize(
    ("worse", "named"),
    [
        ({"lost": 1}, "lost"),
        ({"doubled": 1}, "twice"),
        ({"dead_letters": 1}, "dead letters"),
        ({"stale_menus": 1}, "menus"),
        ({"pending": 1}, "pending"),
        ({"recovery": Durations.of([10.5])}, "recovery"),
        ({"outage_to_effect": Durations.of([5.5])}, "outage"),
    ],
)
def test_a_broken_promise_is_named(worse: dict[str, object], named: str) -> None:
    assert GOOD.broken == ()
    (words,) = replace(GOOD, **worse).broken  # type: ignore[arg-type]
    assert named in words


def test_a_database_with_other_keys_is_refused(client: RedisClient, redis_url: str) -> None:
    client.set("connectbot-chaos-1:left-behind", 1)
    target = OperatorsRedis(redis_url, namespace="connectbot-chaos-2", foreign_keys_allowed=False)
    target.start()
    client.set("connectbot:events", 1)
    with pytest.raises(ForeignKeys, match="--allow-foreign-keys"):
        target.start()
    OperatorsRedis(redis_url, namespace="connectbot-chaos-2", foreign_keys_allowed=True).start()


def test_only_our_own_keys_are_removed(client: RedisClient, redis_url: str) -> None:
    for key in ("connectbot-chaos-1:a", "connectbot-chaos-2:b", "connectbot:events"):
        client.set(key, 1)
    OperatorsRedis(redis_url, namespace="connectbot-chaos-2", foreign_keys_allowed=True).stop()
    assert sorted(client.scan_iter()) == [b"connectbot-chaos-1:a", b"connectbot:events"]
