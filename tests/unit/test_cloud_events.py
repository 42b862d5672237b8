"""An event in either shape: v21's, or a CloudEvent as JSON. ``specversion`` decides which it is."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectbot import events
from connectbot.errors import MalformedEvent
from connectbot.events import OURS_ENDS_WITH, Event, new_event

CLOUD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/matching",
    "type": "user.created",
    "time": "2026-01-01T12:00:00Z",
    "datacontenttype": "application/json",
    "subject": "user/7",
    "data": {"user": {"id": 7, "role": "admin"}},
}
V21: dict[str, Any] = {
    "id": "a-1",
    "type": "user.created",
    "data": {"user": {"id": 7}},
    "timestamp": "2026-01-01T12:00:00.5",
    "channel": "connectbot:user:7",
    "user_id": 7,
    "source": "django-connectbot",
}

names = st.text(min_size=1)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
objects = st.dictionaries(st.text(), values, max_size=5)
extensions = st.dictionaries(
    st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20).filter(
        lambda name: name not in {*CLOUD, "via", "data_base64"}
    ),
    scalars,
    max_size=3,
)


def decode(document: dict[str, Any]) -> Event:
    return events.decode(json.dumps(document).encode())


def cloud(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**CLOUD, **changes}.items() if value is not ...}


def test_each_attribute_has_its_place() -> None:
    assert decode(CLOUD) == Event(
        id="a-1",
        type="user.created",
        data={"user": {"id": 7, "role": "admin"}},
        timestamp="2026-01-01T12:00:00+00:00",
        user_id=7,
        source="/matching",
    )


@pytest.mark.parametrize("name", ["time", "datacontenttype", "subject", "data"])
@pytest.mark.parametrize("absent", [..., None])
def test_what_is_optional_may_be_absent_or_null(name: str, absent: object) -> None:
    event = decode(cloud(**{name: absent}))
    assert event.id == "a-1"
    assert event.data == ({} if name == "data" else CLOUD["data"])


@pytest.mark.parametrize(
    ("subject", "user_id"),
    [
        ("7", 7),
        ("user:7", 7),
        ("user/7", 7),
        ("users/7", 7),
        ("/users/7", 7),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None),
        ("department/7", None),
        ("7/menus", None),
        ("user", None),
        ("\u0667", None),
    ],
)
def test_the_subject_may_name_a_user(subject: str, user_id: int | None) -> None:
    assert decode(cloud(subject=subject)).user_id == user_id


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.hr+json", "text/json"]
)
def test_json_by_any_of_its_names_is_read(kind: str) -> None:
    assert decode(cloud(datacontenttype=kind)).data == CLOUD["data"]


def test_a_time_of_java_with_nanoseconds_and_an_offset_is_read() -> None:
    event = decode(cloud(time="2026-01-01T12:00:00.123456789+03:00"))
    assert event.timestamp.startswith("2026-01-01T12:00:00.12345")


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no id": (cloud(id=...), "missing required field `id`"),
    "id is empty": (cloud(id=""), r"length >= 1 - at `\$.id`"),
    "id is a number": (cloud(id=7), r"Expected `str`, got `int` - at `\$.id`"),
    "no source": (cloud(source=...), "missing required field `source`"),
    "no type": (cloud(type=...), "missing required field `type`"),
    "another version": (cloud(specversion="0.3"), "specversion of the CloudEvent is '0.3': only 1.0 is read"),
    "version is a number": (cloud(specversion=1.0), r"got `float` - at `\$.specversion`"),
    "version is null": (cloud(specversion=None), r"got `null` - at `\$.specversion`"),
    "time is no time": (cloud(time="yesterday"), "Invalid RFC3339"),
    "time has no zone": (cloud(time="2026-01-01T12:00:00"), r"timezone component - at `\$.time`"),
    "data is a list": (cloud(data=[1]), "data of the CloudEvent is not a JSON object"),
    "data is text": (cloud(data="hello"), "data of the CloudEvent is not a JSON object"),
    "data is XML": (cloud(data={}, datacontenttype="application/xml"), "'application/xml': only JSON is read"),
    "data is binary": (cloud(data=..., data_base64="aGVsbG8="), "data of the CloudEvent is binary"),
    "subject is empty": (cloud(subject=""), r"length >= 1 - at `\$.subject`"),
}


@pytest.mark.parametrize(("document", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_one_is_refused_with_its_reason(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedEvent, match=reason):
        decode(document)


@pytest.mark.parametrize(
    "text", [b"", b"7", b"[]", b'{"specversion":"1.0"', b'{"specversion":"1.0","a":' + b"[" * 9999]
)
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedEvent):
        events.decode(text)


@given(id_=names, source=names, type_=names, data=objects, more=extensions)
def test_every_well_formed_one_is_read_whole(
    id_: str, source: str, type_: str, data: dict[str, Any], more: dict[str, Any]
) -> None:
    event = decode({**more, **cloud(id=id_, source=source, type=type_, data=data)})
    assert (event.id, event.source, event.type, event.data) == (id_, source, type_, data)


@given(data=objects)
def test_v21s_shape_stays_v21s_whatever_its_data_says(data: dict[str, Any]) -> None:
    data = {**data, "specversion": "1.0", "note": '"specversion":"1.0"'}
    event = decode({**V21, "data": data})
    assert (event.data, event.timestamp, event.channel) == (data, V21["timestamp"], V21["channel"])


@given(st.binary(max_size=300) | objects.map(lambda it: json.dumps(it).encode()))
def test_decoding_answers_or_refuses_and_nothing_else(text: bytes) -> None:
    try:
        event = events.decode(text)
    except MalformedEvent:
        return
    event.id.encode()
    event.type.encode()


@given(type_=names, data=objects, user_id=st.none() | st.integers(-(2**63), 2**63 - 1))
def test_what_we_write_is_read_back_and_known_by_its_end(type_: str, data: dict[str, Any], user_id: int | None) -> None:
    event = new_event(type_, data, channel="connectbot:global", user_id=user_id)
    text = events.encode(event)
    assert events.decode(text) == event
    assert text.endswith(OURS_ENDS_WITH)
    assert set(json.loads(text)) == {*V21, "via"}
    assert events.decode_type(text) == type_
