"""Temporary data on a real Redis: kept, read, expired, and its owner told, once."""

from __future__ import annotations

import enum
import json
import pickle
import time
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from connectbot.clients import Clients
from connectbot.errors import UnreadableValue
from connectbot.temp_data import EXPIRED_AT_ONCE, Due
from tasks.upkeep import upkeep
from tests.support import wait_until

json_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(data=json_data, key=st.text(min_size=1, max_size=30).filter(lambda key: "\x1f" not in key))
@hypothesis_settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_stored_is_read_back(ours: Clients, data: object, key: str) -> None:
    ours.temp_data.store("default", key, data, now=time.time())
    assert ours.temp_data.get("default", key) == data


def test_the_record_is_v21s(ours: Clients) -> None:
    ours.temp_data.store("sessions", "s", {"a": [1]}, now=0.0, ttl_seconds=60)
    record = json.loads(_raw(ours, "sessions", "s"))
    assert record == {
        "data": {"a": [1]},
        "type": "dict",
        "created_at": "1970-01-01T00:00:00+00:00",
        "namespace": "sessions",
        "serialized": True,
    }
    ours.temp_data.store("sessions", "t", 5, now=0.0, ttl_seconds=60)
    record = json.loads(_raw(ours, "sessions", "t"))
    assert record["serialized"] is False
    assert pickle.loads(bytes.fromhex(record["data"])) == 5


class Step(enum.StrEnum):
    NAME = "name"

    def __str__(self) -> str:
        return "not the value"


class Level(enum.IntEnum):
    HIGH = 3

    def __int__(self) -> int:
        return 99


class Share(float, enum.Enum):
    HALF = 0.5


class Safe(str):
    """Such as Django's."""

    __slots__ = ()


@pytest.mark.parametrize("member", [Step.NAME, Level.HIGH, Share.HALF, Safe("<b>")])
def test_a_value_of_a_type_of_its_own_is_kept_as_the_plain_one(ours: Clients, member: Any) -> None:
    for data in (member, {"at": member, "all": [member]}):
        ours.temp_data.store("default", "k", data, now=time.time())
        read = ours.temp_data.get("default", "k")
        assert read == data
        plain = read["at"] if isinstance(read, dict) else read
        assert type(plain) in (str, int, float)
    ours.temp_data.store("default", "k", member, now=time.time())
    in_v21 = pickle.loads(bytes.fromhex(json.loads(_raw(ours, "default", "k"))["data"]))
    assert (type(in_v21), in_v21) == (type(plain), member)


@dataclass
class Photo:
    content: bytes


@pytest.mark.parametrize("binary", [b"ab", bytearray(b"ab"), memoryview(b"ab"), {b"ab"}, Photo(b"ab")])
def test_bytes_in_a_container_are_refused_not_made_another_text(ours: Clients, binary: object) -> None:
    with pytest.raises(TypeError, match=r"no form for (bytes|bytearray|memoryview)"):
        ours.temp_data.store("default", "k", {"photo": [binary]}, now=time.time())
    assert not list(ours.redis.scan_iter("*temp*"))
    ours.temp_data.store("default", "k", b"ab", now=time.time())
    assert ours.temp_data.get("default", "k") == b"ab"


@pytest.mark.parametrize("data", [{1, "a", (2, 3)}, set(), frozenset({1, "a"})])
def test_a_set_comes_back_as_it_was_to_us_and_to_v21(ours: Clients, data: object) -> None:
    ours.temp_data.store("default", "k", data, now=time.time())
    record = json.loads(_raw(ours, "default", "k"))
    assert (record["type"], record["serialized"]) == (type(data).__name__, False)
    for read in (ours.temp_data.get("default", "k"), pickle.loads(bytes.fromhex(record["data"]))):
        assert (type(read), read) == (type(data), data)


def test_what_is_inside_a_container_comes_back_as_json_has_it(ours: Clients) -> None:
    data = {"chosen": {"coffee"}, "more": [frozenset({1})], "pair": (1, 2), "day": date(2025, 10, 9)}
    ours.temp_data.store("default", "k", data, now=time.time())
    assert ours.temp_data.get("default", "k") == {
        "chosen": ["coffee"], "more": [[1]], "pair": [1, 2], "day": "2025-10-09",
    }  # fmt: skip


def _raw(ours: Clients, namespace: str, key: str) -> str:
    from connectbot.cache import CacheCodec

    raw = ours.redis.get(f":1:temp:{namespace}:{key}")
    return str(CacheCodec("pickle").decode(raw))


def test_a_hostile_record_is_refused(ours: Clients) -> None:
    hostile = pickle.dumps({"data": "x"}).hex()
    ours.temp_data.store("default", "k", {}, now=time.time())
    from connectbot.cache import Cache, CacheCodec

    cache = Cache(ours.redis, CacheCodec("pickle"), ours.settings.cache_keys)
    for text in ("no json", "[]", '{"serialized": false, "data": "zz"}', '{"serialized": true}',
                 json.dumps({"serialized": False, "data": b"cos\nsystem\n(S'true'\ntR.".hex()})):  # fmt: skip
        cache.set("temp:default:k", text, 60)
        with pytest.raises(UnreadableValue):
            ours.temp_data.get("default", "k")
    cache.set("temp:default:k", json.dumps({"serialized": False, "data": hostile}), 60)
    assert ours.temp_data.get("default", "k") == {"data": "x"}


def expire(ours: Clients) -> int:
    return ours.temp_data.expire(ours.temp_data.due(now=time.time(), limit=100))


def events(ours: Clients) -> list[dict[str, object]]:
    return [json.loads(fields[b"event"]) for _, fields in ours.redis.xrange(ours.settings.keys.events)]


def test_what_expires_is_told_to_its_owner_once(ours: Clients) -> None:
    ours.temp_data.store("user_7", "form_data_1", {"a": 1}, now=time.time(), ttl_seconds=0.05)
    ours.temp_data.store("activity_drafts", "d", {"a": 1}, now=time.time(), ttl_seconds=0.05)
    ours.temp_data.store("user_7", "stays", {"a": 1}, now=time.time(), ttl_seconds=60)
    wait_until(lambda: len(ours.temp_data.due(now=time.time(), limit=9)) == 2, deadline_seconds=5, what="two due")
    wait_until(lambda: expire(ours) or len(events(ours)) == 2, deadline_seconds=5, what="two events")
    assert expire(ours) == 0
    told = {event["data"]["key"]: event for event in events(ours)}  # type: ignore[index]
    assert told["form_data_1"]["data"] == {"namespace": "user_7", "key": "form_data_1", "owner": 7}
    assert told["form_data_1"]["user_id"] == 7
    assert told["form_data_1"]["channel"] == "connectbot:user:7"
    assert told["d"]["data"] == {"namespace": "activity_drafts", "key": "d", "owner": None}
    assert ours.temp_data.keys_of("user_7") == ["stays"]


def test_much_that_expires_at_once_is_told_part_by_part_and_once_each(ours: Clients) -> None:
    keys = {f"k{number}" for number in range(2 * EXPIRED_AT_ONCE + 1)}
    for key in keys:
        ours.temp_data.store("user_7", key, {"a": 1}, now=time.time(), ttl_seconds=0.01)
    gone = lambda: all(ours.temp_data.get("user_7", key) is None for key in keys)  # noqa: E731
    wait_until(gone, deadline_seconds=5, what="all to be gone")
    due = ours.temp_data.due(now=time.time(), limit=len(keys) + 1)
    assert ours.temp_data.expire(due) == len(keys)
    assert ours.temp_data.expire(due) == 0
    assert sorted(event["data"]["key"] for event in events(ours)) == sorted(keys)  # type: ignore[index]
    assert ours.temp_data.keys_of("user_7") == []


def test_a_namespace_of_what_is_no_id_holds_up_nobody(ours: Clients) -> None:
    for number in ("9" * 5_000, str(2**63), str(2**63 - 1)):
        ours.temp_data.store(f"user_{number}", "k", {}, now=time.time(), ttl_seconds=0.01)
    wait_until(lambda: len(ours.temp_data.due(now=time.time(), limit=9)) == 3, deadline_seconds=5, what="three due")
    wait_until(lambda: expire(ours) or len(events(ours)) == 3, deadline_seconds=5, what="three events")
    assert {event["user_id"] for event in events(ours)} == {None, 2**63 - 1}


def test_what_v21_gave_more_time_is_put_off(ours: Clients) -> None:
    ours.temp_data.store("user_7", "k", {"a": 1}, now=time.time() - 100, ttl_seconds=99)
    ours.redis.set(":1:temp:user_7:k", "stored anew by v21", px=60_000)
    assert [item.key for item in ours.temp_data.due(now=time.time(), limit=9)] == ["k"]
    assert expire(ours) == 0
    assert ours.temp_data.due(now=time.time(), limit=9) == []
    assert [item.key for item in ours.temp_data.due(now=time.time() + 61, limit=9)] == ["k"]


def test_a_clock_that_runs_ahead_expires_nothing_early(ours: Clients) -> None:
    ours.temp_data.store("user_7", "k", {"a": 1}, now=time.time(), ttl_seconds=3600)
    ahead = ours.temp_data.due(now=time.time() + 86_400, limit=9)
    assert [item.key for item in ahead] == ["k"]
    assert ours.temp_data.expire(ahead) == 0
    assert ours.temp_data.get("user_7", "k") == {"a": 1}
    assert events(ours) == []


def test_what_is_looked_at_in_its_last_millisecond_is_told_all_the_same(ours: Clients) -> None:
    for number in range(20):
        due = Due("user_7", f"k{number}", 0.0)
        ours.temp_data.store(due.namespace, due.key, {}, now=time.time(), ttl_seconds=0.005)
        while ours.redis.exists(f":1:temp:user_7:{due.key}"):
            ours.redis.zadd(ours.settings.keys.temp_due, {f"user_7\x1f{due.key}": 0.0})  # by a clock that is behind
            ours.temp_data.expire([due])
        wait_until(lambda: expire(ours) or len(events(ours)) > number, deadline_seconds=5, what="an event")  # noqa: B023


def test_what_is_deleted_is_not_told(ours: Clients) -> None:
    ours.temp_data.store("user_7", "k", {"a": 1}, now=time.time(), ttl_seconds=0.01)
    ours.temp_data.delete("user_7", "k")
    assert ours.temp_data.due(now=time.time() + 10, limit=9) == []
    assert ours.temp_data.keys_of("user_7") == []


def test_what_was_written_without_an_expiry_gets_one_and_nothing_else_does(
    ours: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.process._open", lambda _pid: ours)
    ours.redis.set(":1:temp:forms:by-hand", "x")
    ours.redis.set(":1:temp:forms:short", "x", px=50_000)
    ours.redis.set(":1:menu:user:7:main", "x")
    ours.redis.set("connectbot:else", "x")
    upkeep()
    ttl_ms = ours.settings.temp_data_ttl_seconds * 1000
    assert 0 < ours.redis.pttl(":1:temp:forms:by-hand") <= ttl_ms
    assert 0 < ours.redis.pttl(":1:temp:forms:short") <= 50_000
    assert ours.redis.pttl(":1:menu:user:7:main") == ours.redis.pttl("connectbot:else") == -1


def test_a_scan_over_many_keys_goes_on_at_the_next_call(ours: Clients) -> None:
    many = {f":1:temp:forms:{number}": "x" for number in range(5_000)}
    ours.redis.mset(many)
    first = ours.temp_data.limit_lives()
    assert 0 < first < len(many)
    found = first
    while int(ours.redis.get(ours.settings.keys.temp_scan)):
        found += ours.temp_data.limit_lives()
    assert found == len(many)
