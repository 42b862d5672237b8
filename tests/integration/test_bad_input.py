"""Whatever is put into the stream: the good events have their effect, the bad ones a reason."""

from __future__ import annotations

import json
from typing import Any

from connectbot.clients import Clients
from tests.support import Worker, wait_until

GOOD = {"id": "g", "timestamp": "2026-01-01T00:00:00+00:00", "channel": "connectbot:global", "source": "test"}


def text(id_: int, **changes: Any) -> bytes:
    event = {**GOOD, "type": "user.created", "data": {"user": {"id": id_}}, "user_id": id_, **changes}
    return json.dumps({name: value for name, value in event.items() if value is not ...}).encode()


MALFORMED: dict[str, dict[str, bytes]] = {
    "no JSON": {"event": b"hello"},
    "cut off": {"event": text(1)[:-5]},
    "empty": {"event": b""},
    "no field of that name": {"payload": text(1)},
    "a list": {"event": b"[1, 2]"},
    "a number": {"event": b"7"},
    "data is a list": {"event": text(1, data=[1])},
    "no id": {"event": text(1, id=...)},
    "no type": {"event": text(1, type=...)},
    "type is a number": {"event": text(1, type=7)},
    "no data": {"event": text(1, data=...)},
    "user id is a name": {"event": text(1, data={"user": {"id": "me"}})},
    "user id is true": {"event": text(1, data={"user": {"id": True}})},
    "user id of 100 digits": {"event": text(1, data={"user": {"id": 10**100}})},
    "role is a list": {"event": text(1, data={"user": {"id": 1, "role": ["admin"]}})},
    "no user at all": {"event": text(1, data={}, user_id=None)},
    "5 MB": {"event": text(1, data={"user": {"id": 1}, "note": "x" * 5_000_000})},
    "5 MB with its type": {"type": b"user.created", "event": text(1, data={"note": "x" * 5_000_000})},
    "not UTF-8": {"event": b'{"id": "\xff\xfe", "type": "user.created", "data": {}}'},
    "not even JSON of bytes": {"event": b"\x80\x04\x95\x00\xff"},
    "type is empty": {"type": b"", "event": text(1, type=...)},
    "type not UTF-8": {"type": b"\xff\xfe", "event": b"\xff\xfe"},
    "nested 100,000 deep": {"event": b"[" * 100_000 + b"]" * 100_000},
    "data nested 100,000 deep": {"type": b"user.created", "event": b'{"id":"a","type":"user.created","data":{"a":'
                                 + b"[" * 100_000 + b"]" * 100_000 + b"}}"},
    "field and JSON disagree": {"type": b"user.deleted", "event": text(1)},
}  # fmt: skip

HARMLESS: dict[str, dict[str, bytes]] = {
    "unknown field": {"event": text(101, surprise={"a": 1})},
    "user id only outside of data": {"event": text(102, data={})},
    "user id is text": {"event": text(1, data={"user": {"id": "106"}})},
    "no timestamp, channel, source": {"event": text(103, timestamp=..., channel=..., source=...)},
    "attempts is nonsense": {"event": text(104), "attempts": b"many"},
    "origin is nonsense": {"event": text(105), "origin": b"long ago"},
    "type is empty, the JSON tells one of ours": {"type": b"", "event": text(107)},
    "type is empty, the JSON tells another's": {"type": b"", "event": text(1, type="notification.sent")},
}


def test_bad_events_die_with_a_reason_and_good_ones_live(ours: Clients, worker: Worker) -> None:
    good = iter(range(1000, 2000))
    expected = set()
    for fields in [*MALFORMED.values(), *HARMLESS.values()]:
        expected.add(next(good))
        ours.redis.xadd("connectbot:events", {"event": text(max(expected))})
        ours.redis.xadd("connectbot:events", fields)
    expected |= {101, 102, 103, 104, 105, 106, 107}
    ours.redis.xadd("connectbot:events", {"event": text(1, type="coffee.spilled")})
    ours.redis.xadd("connectbot:events", {"event": text(1, type="user.action.waved")})
    ours.redis.xadd("connectbot:events", {"event": text(1), "type": "user.created", "lane": "Default"})
    ours.redis.xadd("connectbot:events", {"event": text(999)})

    wait_until(
        lambda: set(ours.users.look_up(expected | {999})) == expected | {999},
        deadline_seconds=30,
        what="the effects of the good events",
    )
    wait_until(
        lambda: ours.redis.xpending("connectbot:events", "default")["pending"] == 0,
        deadline_seconds=30,
        what="nothing pending",
    )
    dead = [fields for _, fields in ours.redis.xrange("connectbot:events:dead")]
    assert len(dead) == len(MALFORMED)
    assert {row[b"reason"] for row in dead} == {b"malformed"}
    assert {row[b"lane"] for row in dead} == {b"default"}
    events = sorted(row[b"event"] for row in dead)
    assert events == sorted(fields.get("event", b"") for fields in MALFORMED.values())
    for row in dead:
        assert set(row) == {b"type", b"event", b"lane", b"reason", b"error", b"attempts", b"entry_id", b"died_at"}
        assert len(row[b"error"].split()) >= 3, f"no reason that a person understands: {row[b'error']!r}"
    assert ours.redis.hget("connectbot:counters", "unknown_type") == b"2"
    assert worker.is_alive()


def test_a_counter_that_is_no_number_holds_nothing_up(ours: Clients, worker: Worker) -> None:
    ours.redis.hset("connectbot:counters", "unknown_type", "many")
    ours.redis.xadd("connectbot:events", {"event": text(8, type="coffee.spilled")})
    ours.redis.xadd("connectbot:events", {"event": text(9)})
    wait_until(lambda: ours.users.look_up([9]), deadline_seconds=10, what="the effect of the event after it")
    wait_until(
        lambda: ours.redis.xpending("connectbot:events", "default")["pending"] == 0,
        deadline_seconds=10,
        what="nothing pending",
    )
