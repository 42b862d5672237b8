"""Users' events are read straight into what menus need of them, and mean what they mean when they are read in full."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectbot.errors import MalformedEvent
from connectbot.events import ConnectBotEvents, UserId, decode, new_event, read_data, reader
from tasks.menus import EVERYBODY, UserEvent, _User, _user

read = reader(UserEvent)

odd = st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=1)
ids = st.integers(-3, 3) | st.integers(2**63 - 1, 2**63) | st.integers().map(str) | odd
roles = st.sampled_from(["employee", "admin", ""]) | odd
users = st.fixed_dictionaries({}, optional={"id": ids, "role": roles, "username": odd}) | odd
datas = st.fixed_dictionaries({}, optional={"user": users, "user_id": ids, "cache_type": odd}) | odd
documents = st.fixed_dictionaries(
    {"id": st.just("a-1"), "type": st.sampled_from(["user.created", "system.cache_cleared"]), "data": datas},
    optional={
        "user_id": ids, "source": st.just("/site"), "timestamp": st.just("2026-01-01T12:00:00"),
        "specversion": st.sampled_from(["1.0", "0.3", ""]) | odd,
    },
)  # fmt: skip


class Told(msgspec.Struct):
    user: _User | None = None


class Cleared(msgspec.Struct):
    user_id: UserId | None = None


def told(text: bytes) -> _User:
    return _user(read(text))


def told_in_full(text: bytes) -> _User:
    """Of whom an event tells, each type by the one field that the contract gives it."""
    event = decode(text)
    if event.type == ConnectBotEvents.SYSTEM_CACHE_CLEARED:
        user_id = read_data(event, Cleared, strict=False).user_id
        return EVERYBODY if user_id is None else _User(user_id)
    user = read_data(event, Told, strict=False).user
    if user is None and event.user_id is None:
        raise MalformedEvent(f"{event.type} names no user, neither in data.user.id nor in user_id")
    return user or _User(event.user_id)


def outcome(how: Callable[[bytes], _User], text: bytes) -> _User | str:
    try:
        return how(text)
    except MalformedEvent as error:
        return str(error)


@given(documents)
def test_an_event_is_read_or_refused_as_when_it_is_read_in_full(document: dict[str, Any]) -> None:
    text = json.dumps(document).encode()
    assert outcome(told, text) == outcome(told_in_full, text)


@pytest.mark.parametrize(
    ("event_type", "data", "user_id"),
    [
        ("user.login", {"user": {"id": 7}, "user_id": "my own"}, 7),
        ("system.cache_cleared", {"user_id": 7, "user": 8}, 7),
    ],
)
def test_a_field_of_another_type_of_event_does_not_matter(event_type: str, data: dict[str, Any], user_id: int) -> None:
    assert told(msgspec.json.encode(new_event(event_type, data, channel=""))).id == user_id


@given(st.binary(max_size=60) | st.just(b"[" * 100_000))
def test_what_is_no_event_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedEvent):
        read(text)


def test_what_was_not_asked_for_does_not_matter() -> None:
    data = {"user": {"id": "7", "role": "admin", "photo": [1, {"deep": None}]}, "more": 1}
    event = read(msgspec.json.encode(new_event("user.updated", data, channel="connectbot:user:7")))
    assert (event.type, event.data.user) == (
        "user.updated",
        msgspec.convert({"id": 7, "role": "admin"}, type(event.data.user)),
    )
