"""What unmodified v21 code publishes by pub/sub enters the stream once, and what was missed is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectbot.admission import Admission, Candidate
from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.errors import BacklogFull, RedisUnavailable
from connectbot.events import decode
from connectbot.listener import Message
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from connectbot.tracing.trace import Tracer
from tests.support import Worker, wait_until
from worker import bridge
from worker.bridge import Bridge

STREAM = "connectbot:events"


def v21_text(id_: str, user_id: int = 7, **changes: Any) -> str:
    """An event as v21's ``json.dumps`` writes it."""
    event = {
        "id": id_,
        "type": "user.created",
        "data": {"user": {"id": user_id, "role": "admin"}},
        "timestamp": "2026-01-01T12:00:00.123456",
        "channel": f"connectbot:user:{user_id}",
        "user_id": user_id,
        "source": "django-connectbot",
    }
    return json.dumps({**event, **changes})


def count(ours: Clients, counter: str) -> int:
    return int(ours.redis.hget(ours.settings.keys.counters, counter) or 0)


def listeners(ours: Clients) -> int:
    return int(ours.redis.pubsub_numpat())


@contextmanager
def bridging(ours: Clients, *, how_many: int = 1) -> Iterator[list[Bridge]]:
    """Bridges that listen, each to three patterns; they are stopped at the end."""
    bridges = [Bridge(ours) for _ in range(how_many)]
    for one in bridges:
        one.run()
    try:
        wait_until(lambda: listeners(ours) >= 3, deadline_seconds=10, what="a bridge that listens")
        wait_until(lambda: ours.redis.exists(ours.settings.keys.bridge_heard), deadline_seconds=10, what="its note")
        yield bridges
    finally:
        for one in bridges:
            one.stop()


@pytest.fixture
def lost_after() -> Callable[[Clients], int]:
    """Makes the bridge believe that it noted its listening an hour ago; answers the gaps counted so far."""

    def age(ours: Clients) -> int:
        heard = int(ours.redis.get(ours.settings.keys.bridge_heard) or 0)
        ours.redis.set(ours.settings.keys.bridge_heard, heard - 3_600_000)
        return count(ours, "bridge_gaps")

    return age


def test_v21_events_have_their_effect_once_however_many_workers_listen(
    ours: Clients, settings: Settings, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        for name in ("first", "second"):
            worker = stack.enter_context(Worker(settings, tmp_path, lanes=["default"], name=name))
            worker.wait_ready()
        wait_until(lambda: ours.redis.pubsub_numsub("connectbot:x") is not None, deadline_seconds=5, what="pub/sub")
        wait_until(
            lambda: ours.redis.publish("connectbot:global", v21_text("probe", 1)) == 2,
            deadline_seconds=20,
            what="two bridges that listen",
        )
        for id_ in range(100, 200):
            assert ours.redis.publish(f"connectbot:user:{id_}", v21_text(f"event-{id_}", id_)) == 2
        wait_until(lambda: len(ours.users.look_up(range(100, 200))) == 100, deadline_seconds=20, what="the effects")
    assert ours.redis.xlen(STREAM) == 101
    assert count(ours, "bridge_events") == 101


def test_ids_that_v21_passed_on_as_text_and_no_data_have_their_effect(
    ours: Clients, settings: Settings, tmp_path: Path
) -> None:
    with Worker(settings, tmp_path, lanes=["default"]) as worker:
        worker.wait_ready()
        wait_until(lambda: ours.redis.publish("connectbot:global", "probe"), deadline_seconds=20, what="a bridge")
        user = {"id": "7", "role": "admin"}
        ours.redis.publish("connectbot:user:7", v21_text("a", user_id="7", data={"user": user}))  # type: ignore[arg-type]
        ours.redis.publish("connectbot:user:8", v21_text("b", 8, data=None))
        wait_until(lambda: len(ours.users.look_up([7, 8])) == 2, deadline_seconds=20, what="both users")
        ours.menus.delete(7, "main")
        cleared = {"cache_type": "menu", "user_id": "7"}
        ours.redis.publish("connectbot:global", v21_text("c", type="system.cache_cleared", data=cleared))
        wait_until(lambda: ours.menus.get(7, "main"), deadline_seconds=20, what="the menu that was cleared")
    assert ours.users.look_up([7])[7].role == "admin"
    assert ours.redis.xlen(ours.settings.keys.dead) == 0
    assert count(ours, "bridge_events") == 3


def test_every_channel_of_v21_is_heard_and_others_are_not(ours: Clients) -> None:
    with bridging(ours):
        for channel in ("connectbot:user:7", "connectbot:global", "connectbot:service:matching"):
            ours.redis.publish(channel, v21_text(f"on {channel}", channel=channel))
        ours.redis.publish("connectbot:elsewhere", v21_text("elsewhere"))
        ours.redis.publish("connectbot:global", v21_text("last"))
        wait_until(lambda: count(ours, "bridge_events") == 4, deadline_seconds=10, what="the events")
    texts = [fields[b"event"].decode() for _, fields in ours.redis.xrange(STREAM)]
    assert [json.loads(text)["id"] for text in texts][-1] == "last"
    assert not any("elsewhere" in text for text in texts)


def test_what_we_publish_is_not_doubled(ours: Clients) -> None:
    with bridging(ours, how_many=2):
        for id_ in range(50):
            assert ours.publisher.publish_user_event(id_, "user.created", {"user": {"id": id_}})
        (_, fields), *_ = ours.redis.xrange(STREAM)
        rewritten = json.dumps(json.loads(fields[b"event"]))  # passed on by somebody with a formatting of his own
        ours.redis.publish("connectbot:global", rewritten)
        ours.redis.publish("connectbot:global", v21_text("the end"))
        wait_until(lambda: count(ours, "bridge_events") == 1, deadline_seconds=10, what="the one event of v21")
    assert ours.redis.xlen(STREAM) == 51


def test_an_event_on_two_channels_enters_once(ours: Clients) -> None:
    with bridging(ours, how_many=2):
        ours.redis.publish("connectbot:global", v21_text("same"))
        ours.redis.publish("connectbot:user:7", v21_text("same"))
        ours.redis.publish("connectbot:global", v21_text("other"))
        wait_until(lambda: count(ours, "bridge_events") == 2, deadline_seconds=10, what="both events")
    assert ours.redis.xlen(STREAM) == 2


def test_what_is_no_event_is_counted_once_logged_without_its_text_and_dropped(
    ours: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    malformed = [b"", b"secret hello", b"[1]", b"\xff\xfe", v21_text("").encode(), v21_text("x", type=7).encode()]
    with bridging(ours, how_many=2):
        for text in malformed:
            ours.redis.publish("connectbot:global", text)
        ours.redis.publish("connectbot:global", v21_text("good"))
        wait_until(lambda: count(ours, "bridge_events") == 1, deadline_seconds=10, what="the good one")
        wait_until(lambda: count(ours, "bridge_malformed") == len(malformed), deadline_seconds=10, what="the others")
    assert ours.redis.xlen(STREAM) == 1
    assert ours.redis.xlen(ours.settings.keys.dead) == 0
    assert "are no events" in caplog.text
    assert "secret" not in caplog.text


def test_a_gap_is_counted_once_by_those_who_come_back(
    ours: Clients, lost_after: Callable[[Clients], int], caplog: pytest.LogCaptureFixture
) -> None:
    with bridging(ours):
        pass
    assert count(ours, "bridge_gaps") == 0, "the first start is no gap"
    lost_after(ours)
    with bridging(ours, how_many=2):
        wait_until(lambda: count(ours, "bridge_gaps") == 1, deadline_seconds=10, what="the gap")
        wait_until(lambda: listeners(ours) == 3, deadline_seconds=10, what="both")
    assert count(ours, "bridge_gaps") == 1
    assert 3_600_000 <= count(ours, "bridge_gap_ms") < 3_700_000
    assert "nobody listened to v21's channels for 36" in caplog.text


def test_who_has_listened_all_the_time_has_no_gap(ours: Clients, lost_after: Callable[[Clients], int]) -> None:
    with bridging(ours):
        lost_after(ours)
        before = int(ours.redis.get(ours.settings.keys.bridge_heard))
        wait_until(
            lambda: int(ours.redis.get(ours.settings.keys.bridge_heard)) > before, deadline_seconds=10, what="a note"
        )
    assert count(ours, "bridge_gaps") == 0


def test_a_redis_that_lost_its_data_is_told_of_the_gap(ours: Clients, client: RedisClient) -> None:
    admission = Admission(ours.redis, ours.settings.keys, room=1)
    first = admission.note_listening(sent_ms=0, silent_seconds=0.0, shortest_gap_seconds=2.0)
    assert first.gap_seconds == 0
    client.flushall()
    assert admission.note_listening(sent_ms=0, silent_seconds=60.0, shortest_gap_seconds=2.0).gap_seconds == 60
    assert admission.note_listening(sent_ms=0, silent_seconds=60.0, shortest_gap_seconds=2.0).gap_seconds == 0
    assert (count(ours, "bridge_gaps"), count(ours, "bridge_gap_ms")) == (1, 60_000)


def test_a_note_that_comes_late_does_not_count(ours: Clients) -> None:
    admission = Admission(ours.redis, ours.settings.keys, room=1)
    now_ms = admission.note_listening(sent_ms=0, silent_seconds=0.0, shortest_gap_seconds=2.0).redis_ms
    noted = ours.redis.get(ours.settings.keys.bridge_heard)
    with pytest.raises(RedisUnavailable):
        admission.note_listening(sent_ms=now_ms - 2000, silent_seconds=0.0, shortest_gap_seconds=2.0)
    assert ours.redis.get(ours.settings.keys.bridge_heard) == noted


def test_the_bridge_survives_redis_and_counts_what_it_missed(
    ours: Clients, embedded_redis: EmbeddedRedis, lost_after: Callable[[Clients], int]
) -> None:
    with bridging(ours):
        lost_after(ours)
        embedded_redis.kill()
        embedded_redis.start()
        wait_until(lambda: listeners(ours) == 3, deadline_seconds=20, what="the bridge to listen again")
        wait_until(lambda: count(ours, "bridge_gaps") == 1, deadline_seconds=10, what="the gap to be counted")
        ours.redis.publish("connectbot:global", v21_text("afterwards"))
        wait_until(lambda: count(ours, "bridge_events") == 1, deadline_seconds=10, what="the event")


def test_a_frozen_redis_is_noticed(
    ours: Clients, embedded_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with bridging(ours):
        embedded_redis.freeze()
        wait_until(lambda: "subscribes anew" in caplog.text, deadline_seconds=20, what="the bridge to notice")
        embedded_redis.thaw()
        wait_until(lambda: count(ours, "bridge_gaps") == 1, deadline_seconds=20, what="the gap to be counted")
        ours.redis.publish("connectbot:global", v21_text("afterwards"))
        wait_until(lambda: count(ours, "bridge_events") == 1, deadline_seconds=10, what="the event")


def test_a_full_stream_takes_the_events_later(ours: Clients, settings: Settings) -> None:
    small = Clients.open(replace(settings, max_backlog=3, stream_keep=2))
    with bridging(small):
        for id_ in range(5):
            ours.redis.xadd(STREAM, {"event": v21_text(f"filler-{id_}")})
        for id_ in range(3):
            ours.redis.publish("connectbot:global", v21_text(f"event-{id_}"))
        heard = int(ours.redis.get(settings.keys.bridge_heard))
        wait_until(lambda: ours.redis.publish("connectbot:global", v21_text("event-3")), deadline_seconds=5, what="it")
        assert ours.redis.xlen(STREAM) == 5
        ours.redis.xtrim(STREAM, maxlen=0)
        wait_until(lambda: count(ours, "bridge_events") == 4, deadline_seconds=10, what="the events")
        assert int(ours.redis.get(settings.keys.bridge_heard)) >= heard
    assert ours.redis.xlen(STREAM) == 4


def test_admission_does_nothing_without_room(ours: Clients, client: RedisClient) -> None:
    admission = Admission(ours.redis, ours.settings.keys, room=1)
    candidates = [Candidate.of(Message(b"connectbot:global", v21_text(id_).encode())) for id_ in ("a", "b")]
    with pytest.raises(BacklogFull):
        admission.admit([candidate for candidate in candidates if candidate])
    assert client.keys("*bridge:seen*") == []
    assert count(ours, "bridge_events") == 0
    assert admission.admit([candidates[0]] * 2 if candidates[0] else []).events == 1


def test_an_event_whose_trace_cannot_be_written_comes_in_once(ours: Clients, client: RedisClient) -> None:
    tracer = Tracer(ours.settings.keys, 1.0)
    admission = Admission(ours.redis, ours.settings.keys, room=10, tracer=tracer)
    candidate = Candidate.of(Message(b"connectbot:global", v21_text("a").encode()))
    assert candidate is not None
    client.set(tracer.admitting(decode(candidate.text))[0], "no stream")
    assert [admission.admit([candidate]).events for _ in range(2)] == [1, 0]
    assert client.xlen(STREAM) == 1


def test_markers_have_a_lifetime_and_a_bounded_length(ours: Clients, client: RedisClient) -> None:
    admission = Admission(ours.redis, ours.settings.keys, room=10)
    long = Candidate.of(Message(b"connectbot:global", v21_text("x" * 10_000).encode()))
    assert long is not None
    admission.admit([long])
    (marker,) = client.keys("*bridge:seen*")
    assert len(marker) < 150
    assert 0 < ours.redis.ttl(marker) <= 600


def test_who_has_hung_for_long_throws_away_what_it_holds(
    ours: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with bridging(ours):
        monkeypatch.setattr(bridge, "LONGEST_SLEEP_SECONDS", -1.0)
        wait_until(lambda: "hung for more than" in caplog.text, deadline_seconds=10, what="the bridge to notice")
        monkeypatch.setattr(bridge, "LONGEST_SLEEP_SECONDS", 300.0)
        wait_until(lambda: listeners(ours) == 3, deadline_seconds=10, what="the bridge to listen again")
        ours.redis.publish("connectbot:global", v21_text("afterwards"))
        wait_until(lambda: count(ours, "bridge_events") == 1, deadline_seconds=10, what="the event")


def test_what_was_held_through_a_long_outage_does_not_come_in_as_news(
    ours: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    late = Bridge(ours)
    held = Candidate.of(Message(b"connectbot:global", v21_text("old").encode()))
    assert held is not None
    late._held, late._awake_at = [held], -bridge.LONGEST_SLEEP_SECONDS
    late.run()
    try:
        wait_until(lambda: listeners(ours) == 3, deadline_seconds=10, what="the bridge to listen")
        wait_until(lambda: "drops 1 messages" in caplog.text, deadline_seconds=10, what="the bridge to notice")
        wait_until(lambda: ours.redis.publish("connectbot:global", v21_text("new")), deadline_seconds=10, what="news")
        wait_until(lambda: count(ours, "bridge_events") == 1, deadline_seconds=10, what="the new event")
    finally:
        late.stop()
    assert [json.loads(fields[b"event"])["id"] for _, fields in ours.redis.xrange(STREAM)] == ["new"]


def test_it_can_be_switched_off_and_is_not_for_the_lane_java(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    off = replace(settings, bridge=False)
    with (
        Worker(off, tmp_path, lanes=["default"], name="off") as default,
        Worker(settings, tmp_path, lanes=["java"], name="java") as java,
    ):
        default.wait_ready()
        java.wait_ready()
        assert ours.redis.publish("connectbot:global", v21_text("unheard")) == 0
