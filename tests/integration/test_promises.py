"""What must always hold, one promise after the other (docs/promises.md), on a real Redis without a worker.

The tests play the consumers themselves, so that each can be stopped at its worst moment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import redis

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Batch, Entry
from connectbot.errors import BacklogFull, FenceLost, Later, Never
from connectbot.events import new_event
from connectbot.publisher import EventPublisher
from connectbot.settings import MOST_IN_A_BATCH
from tasks import menus
from tasks.batch_run import BatchRun
from tasks.work import Handler, Received, Work

LANE = "default"


def publish(ours: Clients, *user_ids: int, role: str = "employee") -> None:
    ours.publisher.publish(
        *(
            new_event("user.created", {"user": {"id": id_, "role": role}}, channel="connectbot:global", user_id=id_)
            for id_ in user_ids
        )
    )


def register(ours: Clients, name: str, *, lease_seconds: float = 60) -> None:
    ours.stream.register(LANE, name, lease_seconds=lease_seconds)


def read(ours: Clients, consumer: str, limit: int = 100) -> Batch:
    entries = ours.stream.read(LANE, consumer, limit=limit, wait_seconds=0.01)
    types = tuple(sorted({entry.type for entry in entries}))
    return Batch(LANE, consumer, types, entries[0].id, entries[-1].id, len(entries))


def pending(ours: Clients) -> int:
    return int(ours.redis.xpending(ours.settings.keys.events, LANE)["pending"])


def run(ours: Clients, batch: Batch, handle: Handler) -> int:
    return BatchRun(ours, batch, Work(handle)).run()


def follow(ours: Clients, batch: Batch) -> int:
    return BatchRun(ours, batch, menus.follow_users.work).run()


def received(entries: Iterable[Entry]) -> list[Received]:
    """What the handler of users' events is given."""
    return [Received(entry, menus.follow_users.work.read(entry.text)) for entry in entries]


def mark(ours: Clients, received: Sequence[Received]) -> Effects:
    """A handler whose effect shows how often it was applied."""
    effects = Effects()
    for one in received:
        effects.add(("HINCRBY", "test:done", one.event.id, 1))
    return effects


def done(ours: Clients) -> list[int]:
    return [int(count) for count in ours.redis.hvals("test:done")]


# --- 1. an entry leaves the pending list only in the transaction that applies its effect, delays or buries it --------


def test_an_effect_that_fails_leaves_its_entry_pending(ours: Clients) -> None:
    register(ours, "a")
    publish(ours, 1)
    batch = read(ours, "a")
    ours.redis.set("test:done", "of the wrong type")
    effects = Effects()
    effects.add(("HINCRBY", "test:done", "x", 1))
    with pytest.raises(redis.ResponseError):
        ours.stream.commit(LANE, "a", [batch.first], effects)
    assert pending(ours) == 1


def test_an_effect_and_its_acknowledgement_come_together(ours: Clients) -> None:
    register(ours, "a")
    publish(ours, 1, 2, 3)
    run(ours, read(ours, "a"), mark)
    assert done(ours) == [1, 1, 1]
    assert pending(ours) == 0


def test_the_largest_batch_that_settings_allow_is_done_by_one_commit(ours: Clients) -> None:
    register(ours, "a")
    publish(ours, *range(MOST_IN_A_BATCH))
    entries = ours.stream.fetch(read(ours, "a", limit=MOST_IN_A_BATCH))
    effects = menus.follow(ours, received(entries))
    ours.stream.commit(LANE, "a", [entry.id for entry in entries], effects)
    assert pending(ours) == 0
    assert ours.redis.hlen(ours.settings.keys.users) == MOST_IN_A_BATCH


def test_a_commit_that_is_sent_again_changes_nothing(ours: Clients) -> None:
    register(ours, "a")
    publish(ours, 1)
    batch = read(ours, "a")
    effects = Effects()
    effects.add(("HINCRBY", "test:done", "x", 1))
    ours.stream.commit(LANE, "a", [batch.first], effects)
    with pytest.raises(FenceLost):
        ours.stream.commit(LANE, "a", [batch.first], effects)
    assert done(ours) == [1]


# --- 2. a commit counts only while its fence stands -------------------------------------------------------------------


def test_a_zombie_changes_nothing(ours: Clients) -> None:
    register(ours, "zombie")
    publish(ours, 1, 2)
    batch = read(ours, "zombie")
    ours.redis.delete(ours.settings.keys.lease("zombie"))
    register(ours, "heir")
    ours.stream.take_over(LANE, "heir", limit=1)
    assert pending(ours) == 2, "one entry is still pending under the name of the zombie"
    left = [id_ for id_ in (batch.first, batch.last) if id_ in ours.stream.pending(LANE, "zombie", limit=9)]
    effects = Effects()
    effects.add(("SET", "test:zombie", "was here"))
    with pytest.raises(FenceLost):
        ours.stream.commit(LANE, "zombie", left, effects)
    assert not ours.redis.exists("test:zombie")


# --- 3. every pending entry belongs to a live consumer, or does soon -----------------------------------------------


def test_what_the_dead_held_finds_exactly_one_heir(ours: Clients) -> None:
    register(ours, "dead", lease_seconds=0.001)
    publish(ours, *range(50))
    read(ours, "dead")
    register(ours, "alive")
    register(ours, "other")
    ours.redis.delete(ours.settings.keys.lease("dead"))
    first = ours.stream.take_over(LANE, "alive", limit=30)
    second = ours.stream.take_over(LANE, "other", limit=30)
    assert (first.fallen, second.fallen) == (("dead",), ())
    assert [len(first.entries), len(second.entries)] == [30, 20]
    assert {entry.id for entry in first.entries}.isdisjoint(entry.id for entry in second.entries)
    assert {entry.deliveries for entry in (*first.entries, *second.entries)} == {2}
    assert ours.stream.take_over(LANE, "alive", limit=30).entries == ()
    assert {info["name"] for info in ours.redis.xinfo_consumers("connectbot:events", LANE)} == {b"alive", b"other"}


def test_the_living_are_left_alone(ours: Clients) -> None:
    register(ours, "alive")
    publish(ours, 1)
    read(ours, "alive")
    register(ours, "greedy")
    assert ours.stream.take_over(LANE, "greedy", limit=9) == ours.stream.take_over(LANE, "greedy", limit=9)
    assert ours.stream.pending(LANE, "alive", limit=9)


# --- 4. nothing that must survive lives in a process's memory ------------------------------------------------------


def test_a_delay_survives_everybody(ours: Clients) -> None:
    register(ours, "a")
    publish(ours, 1)

    def not_yet(ours: Clients, received: Sequence[Received]) -> Effects:
        raise Later("not yet", delay_seconds=30)

    run(ours, read(ours, "a"), not_yet)
    assert pending(ours) == 0
    assert ours.stream.release_delayed(LANE, limit=9) == 0
    again = Clients.open(ours.settings)  # nothing of the process that delayed it
    assert again.stream.release_delayed(LANE, limit=9, ahead_seconds=31) == 1
    (entry,) = again.stream.read(LANE, "a", limit=9, wait_seconds=0.01)
    assert entry.event().data == {"user": {"id": 1, "role": "employee"}}
    assert (entry.attempts, entry.lane) == (1, LANE)
    again.redis.close()


def test_a_delay_does_not_depend_on_the_clocks_of_workers(ours: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    register(ours, "a")
    publish(ours, 1)

    def not_yet(ours: Clients, received: Sequence[Received]) -> Effects:
        raise Later("not yet", delay_seconds=30)

    true_time = time.time
    monkeypatch.setattr("time.time", lambda: true_time() + 86_400)
    run(ours, read(ours, "a"), not_yet)
    assert ours.stream.release_delayed(LANE, limit=9) == 0
    monkeypatch.setattr("time.time", lambda: true_time() - 86_400)
    assert ours.stream.release_delayed(LANE, limit=9, ahead_seconds=31) == 1


# --- 5. among events about one user the newest wins, in whatever order the workers finish -------------------------


def test_the_newest_word_about_a_user_wins(ours: Clients) -> None:
    register(ours, "a")
    publish(ours, 7, role="employee")
    old = read(ours, "a")
    publish(ours, 7, role="admin")
    new = read(ours, "a")
    entries = ours.stream.fetch(old)
    effects = menus.follow(ours, received(entries))
    follow(ours, new)
    ours.stream.commit(LANE, "a", [old.first], effects)  # worked out before the new one was known, and written after
    assert pending(ours) == 0
    menu = ours.menus.get(7, "main")
    assert menu is not None
    assert menu["data"]["role"] == "admin"
    assert ours.users.look_up([7])[7].role == "admin"


def test_a_late_event_does_not_bring_a_deleted_user_back(ours: Clients) -> None:
    register(ours, "a")
    publish(ours, 7)
    old = read(ours, "a")
    ours.publisher.publish_user_event(7, "user.deleted", {"user": {"id": 7}})
    new = read(ours, "a")
    follow(ours, new)
    follow(ours, old)
    assert ours.menus.get(7, "main") is None


# --- 6. trimmed only below what every lane has finished; publishing fails loudly when the backlog is full ----------


def test_what_a_lane_still_needs_is_not_trimmed(ours: Clients) -> None:
    register(ours, "a")
    publish(ours, *range(1000))
    first = read(ours, "a", limit=300)
    read(ours, "a", limit=700)
    ours.redis.execute_command("XGROUP", "SETID", "connectbot:events", "java", "$")
    assert ours.stream.trim(keep=10) == 0, "all of it is pending"
    run(ours, first, mark)
    assert 0 < ours.stream.trim(keep=10) <= 300
    assert ours.redis.xlen("connectbot:events") >= 700


def test_a_full_backlog_refuses_and_drops_nothing(ours: Clients) -> None:
    publisher = EventPublisher(ours.redis, keys=ours.settings.keys, room=10)
    events = [new_event("user.login", {}, channel="connectbot:global", user_id=id_) for id_ in range(11)]
    publisher.publish(*events[:10])
    with pytest.raises(BacklogFull, match="CONNECTBOT_MAX_BACKLOG"):
        publisher.publish(events[10])
    assert publisher.publish_global_event("user.login", {}) is False
    assert ours.redis.xlen("connectbot:events") == 10


# --- 9. no payload in a log line or an error -----------------------------------------------------------------------


def test_no_payload_is_shown(ours: Clients, caplog: pytest.LogCaptureFixture) -> None:
    marker = "Marker-4711"
    register(ours, "a")
    for data in ({"user": {"id": marker}}, {"user": {"id": 1, "role": [marker]}}, {"user": {"id": 1}, "x": marker}):
        ours.publisher.publish_global_event("user.created", data)

    def clumsy(ours: Clients, received: Sequence[Received]) -> Effects:
        raise ValueError(f"cannot work with {received[0].event.data}")

    def refusing(ours: Clients, received: Sequence[Received]) -> Effects:
        menus.follow(ours, received)
        raise Never("refused")

    with caplog.at_level(logging.DEBUG):
        BatchRun(ours, read(ours, "a"), replace(menus.follow_users.work, handle=refusing)).run()
        publish(ours, 3, role=marker)
        run(ours, read(ours, "a"), clumsy)
    assert len(caplog.records) >= 4
    assert marker not in caplog.text
    for _, fields in ours.redis.xrange("connectbot:events:dead"):
        assert marker.encode() not in fields[b"error"] + fields[b"reason"]


def entry(**fields: Any) -> Entry:
    return Entry("1-1", {name.encode(): value for name, value in fields.items()})


def test_versions_sort_by_age_whatever_the_number_of_digits() -> None:
    ids = [b"999-9", b"1000-0", b"1000-5", b"1000-10", b"99999999999999-0"]
    versions = [entry(origin=id_).version for id_ in ids]
    assert versions == sorted(versions)
    assert len({len(version) for version in versions}) == 1
