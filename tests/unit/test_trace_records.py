"""Traces: records come back as they were written, and whatever they say can be told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectbot.entries import Entry
from connectbot.errors import SettingsError
from connectbot.events import Event
from connectbot.keys import Keys
from connectbot.settings import Settings
from connectbot.tracing.event_way import way
from connectbot.tracing.trace import (
    BUCKETS,
    LONGEST_TEXT,
    Call,
    Published,
    Record,
    Tracer,
    Worked,
    calls_collected,
    collect_calls,
    noting,
)
from worker.commands.trace import Told

KEYS = Keys()
TEXT = st.text(max_size=300)
EVENT_IDS = st.text(min_size=1, max_size=100)
ENTRIES = st.builds(lambda ms, seq: f"{ms}-{seq}", st.integers(0, 10**13), st.integers(0, 2**64 - 1))
SECONDS = st.floats(0, 1e6)
CALLS = st.builds(Call, TEXT, st.none() | st.integers(100, 599), SECONDS, SECONDS)
PUBLISHED = st.builds(
    Published, event=EVENT_IDS, type=TEXT, channel=TEXT, source=TEXT, made=TEXT, by=TEXT, bridge=st.booleans(),
    entry=st.just("") | ENTRIES,
)  # fmt: skip
WORKED = st.builds(
    Worked, event=EVENT_IDS, entry=ENTRIES, lane=st.sampled_from(["default", "java"]), consumer=TEXT,
    end=st.sampled_from(["done", "delayed", "parked", "dead"]), seconds=st.none() | SECONDS,
    origin=st.just("") | ENTRIES, deliveries=st.integers(1, 9), attempts=st.integers(0, 9),
    calls=st.lists(CALLS, max_size=3).map(tuple), reason=TEXT, error=TEXT,
    until=st.none() | st.floats(0, allow_infinity=False),
)  # fmt: skip
RECORDS = PUBLISHED | WORKED


class OneBucket:
    """A Redis that holds what was written, whatever the key."""

    def __init__(self, *fields: dict[bytes, bytes]) -> None:
        self.rows = [(f"{1000 + at}-0".encode(), held) for at, held in enumerate(fields)]

    def xrange(self, _key: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return self.rows


def stored(record: Record) -> dict[bytes, bytes]:
    """The fields of the step that tells a record."""
    add, _ = Tracer(KEYS, 1.0).writing(record)
    return dict(zip((name.encode() for name in add[6::2]), add[7::2], strict=True))


@given(st.lists(RECORDS, max_size=10), EVENT_IDS)
def test_what_is_written_is_read_again(records: list[Record], event_id: str) -> None:
    mine = [msgspec.structs.replace(record, event=event_id) for record in records]
    others = [Published(event=event_id + "x", type="user.login")]
    read = Tracer(KEYS, 1.0).read(OneBucket(*map(stored, [*mine, *others])), event_id)
    assert [record for _, record in read] == mine
    assert [at for at, _ in read] == [1 + at / 1000 for at in range(len(mine))]


@given(st.binary(max_size=50), st.dictionaries(TEXT, TEXT | st.integers() | st.none()))
def test_what_another_release_wrote_is_passed_over(junk: bytes, other: dict[str, Any]) -> None:
    steps = [junk, json.dumps(other).encode(), b'{"what":"worked","event":"one","end":"eaten"}']
    bucket = OneBucket(*({b"step": step} for step in steps), {}, stored(Published(event="one", type="user.login")))
    assert len(Tracer(KEYS, 1.0).read(bucket, "one")) == 1


def test_the_script_tells_the_entry_of_what_was_published() -> None:
    held = {**stored(Published(event="one", type="user.login")), b"entry": b"17-0"}
    ((_, record),) = Tracer(KEYS, 1.0).read(OneBucket(held), "one")
    assert record.entry == "17-0"


@given(st.lists(RECORDS, max_size=10))
def test_every_way_can_be_told(records: list[Record]) -> None:
    steps = list(way([(at, record) for at, record in enumerate(records)], through="unknown"))
    shown = Told(id="one", type="t", steps=steps, now=[], note="")
    lines = shown.lines()
    assert len(lines) == len(steps) + 1
    assert all(line.isprintable() for line in lines)
    told = json.loads(json.dumps(shown.shown()))["steps"]
    assert [step["what"] for step in told] == [step.what for step in steps]
    ends = [record.end for record in records if isinstance(record, Worked)]
    assert [step.what for step in steps if step.what in ("done", "delayed", "parked", "dead")] == ends


@given(EVENT_IDS, st.floats(0, 1), st.floats(0, 1))
def test_who_is_followed_is_decided_by_the_id_alone(event_id: str, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert Tracer(KEYS, one).follows(event_id) is Tracer(Keys("elsewhere"), one).follows(event_id)
    assert Tracer(KEYS, more).follows(event_id) or not Tracer(KEYS, less).follows(event_id)
    assert Tracer(KEYS, 1.0).follows(event_id)
    assert not Tracer(KEYS, 0.0).follows(event_id)


def test_the_share_is_kept_and_buckets_are_filled_evenly() -> None:
    ids = [f"event-{number}" for number in range(20_000)]
    followed = [id_ for id_ in ids if Tracer(KEYS, 0.1).follows(id_)]
    assert 1_500 < len(followed) < 2_500
    add = (Tracer(KEYS, 1.0).writing(Published(event=id_, type="t"))[0] for id_ in followed)
    assert len({command[1] for command in add}) == BUCKETS


def test_a_step_is_small_whatever_the_event_says() -> None:
    long = "x" * 10_000
    event = Event(id="one", type=long, data={"secret": long}, channel=long, source=long, timestamp=long)
    add, _ = Tracer(KEYS, 1.0).publishing(event)
    assert len(add[-1]) < 5 * LONGEST_TEXT
    entry = Entry("1-0", {b"event": long.encode()})
    add, _ = Tracer(KEYS, 1.0).working("one", entry, lane="java", consumer="me", end="dead", error=long)
    assert len(add[-1]) < 2 * LONGEST_TEXT


def test_an_event_with_a_huge_id_is_not_followed() -> None:
    assert Tracer(KEYS, 1.0).follows("x" * LONGEST_TEXT)
    assert not Tracer(KEYS, 1.0).follows("x" * (LONGEST_TEXT + 1))


def test_off_there_is_nothing_to_write() -> None:
    off = Tracer(KEYS, 0.0)
    event = Event(id="one", type="t", data={})
    assert not off
    assert (off.publishing(event), off.admitting(event), off.scripted([event])) == ((), ("", b""), ([], []))


def test_calls_are_noted_only_where_they_are_collected() -> None:
    with noting("before"):
        pass
    collect_calls()
    with noting("first") as call:
        call.status = 200
    with pytest.raises(ZeroDivisionError), noting("second"):
        raise ZeroDivisionError
    calls = calls_collected(now=1e12)
    assert [(one.operation, one.status) for one in calls] == [("first", 200), ("second", None)]
    assert all(0 <= one.seconds <= one.ago_seconds for one in calls)
    collect_calls()
    assert calls_collected(now=0.0) == ()


@pytest.mark.parametrize(("text", "share"), [("off", 0.0), ("OFF", 0.0), ("0", 0.0), ("0.01", 0.01), ("1", 1.0)])
def test_the_setting_is_a_share_or_off(text: str, share: float) -> None:
    assert Settings(trace=text).trace_share == share


@pytest.mark.parametrize("text", ["on", "2", "-0.1", "nan", "1 %"])
def test_any_other_setting_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^CONNECTBOT_TRACE must be off, or a share from 0 to 1$"):
        Settings(trace=text)
