"""What a message of v21 becomes on its way into the stream, without Redis."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectbot import events
from connectbot.admission import Candidate
from connectbot.listener import Message
from tests.support import joined

ids = st.integers(-(2**63), 2**63 - 1)
text = st.text().map(joined)
data = st.dictionaries(text, st.recursive(st.none() | st.integers() | text, st.lists, max_leaves=5), max_size=4)


def v21_text(**changes: Any) -> bytes:
    """An event as v21's ``json.dumps`` writes it."""
    event = {"id": "a-1", "type": "user.login", "data": {"a": 1}, "timestamp": "", "channel": "connectbot:user:7"}
    return json.dumps({**event, "user_id": 7, "source": "django-connectbot", **changes}).encode()


def candidate(message: bytes) -> Candidate:
    found = Candidate.of(Message(b"connectbot:user:7", message))
    assert found is not None
    return found


@given(user_id=ids, carried=data)
def test_an_id_in_text_becomes_a_number_and_nothing_else_changes(user_id: int, carried: dict[str, Any]) -> None:
    good = v21_text(user_id=user_id, data=carried, extra=[2**70])
    heard = candidate(v21_text(user_id=str(user_id), data=carried, extra=[2**70]))
    assert not heard.problem
    assert json.loads(heard.text) == json.loads(good)
    assert heard.marker == candidate(good).marker, "the same event, however it was written"


@given(user_id=ids | ids.map(str) | st.none())
def test_no_data_is_an_empty_object(user_id: object) -> None:
    heard = candidate(v21_text(user_id=user_id, data=None))
    event = events.decode(heard.text)
    assert (event.data, event.user_id) == ({}, None if user_id is None else int(str(user_id)))


def test_what_is_well_is_passed_on_as_it_was_heard() -> None:
    message = v21_text(data={"user": {"id": "7"}})
    assert candidate(message).text is message


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"user_id": "me"}, "$.user_id"),
        ({"user_id": ""}, "$.user_id"),
        ({"user_id": str(2**63)}, "$.user_id"),
        ({"user_id": "7", "data": [1]}, "$.data"),
        ({"user_id": "7", "type": 7}, "$.type"),
        ({"data": None, "id": 7}, "$.id"),
    ],
)
def test_what_cannot_be_mended_says_where(changes: dict[str, Any], place: str) -> None:
    assert f"`{place}`" in candidate(v21_text(**changes)).problem


@given(st.binary() | st.binary().map(lambda noise: b'{"user_id":"' + noise + b'","data":null}'))
def test_noise_is_a_problem_and_no_error(message: bytes) -> None:
    assert candidate(message).problem
