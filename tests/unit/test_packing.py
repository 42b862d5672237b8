"""Our connections pack commands as redis-py does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions
from redis.connection import Connection

from connectbot.redis_client import connect

NAMES = st.sampled_from(["SET", b"SET", "CONFIG GET", b"CONFIG GET"])
WORDS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
    st.integers(),
    st.floats(),
    st.binary().map(bytearray),
    st.binary().map(memoryview),
)


@pytest.fixture(scope="module")
def ours() -> Any:
    return connect("redis://localhost:1/0").connection_pool.make_connection()


@given(command=st.tuples(NAMES, WORDS, WORDS))
def test_a_command_is_packed_as_redis_py_packs_it(ours: Any, command: tuple[Any, ...]) -> None:
    theirs: Any = Connection()
    assert b"".join(ours.pack_command(*command)) == b"".join(theirs.pack_command(*command))


@pytest.mark.parametrize("word", [None, [1], {"a": 1}])
def test_what_is_no_word_is_refused(ours: Any, word: Any) -> None:
    with pytest.raises(exceptions.DataError):
        ours.pack_command("SET", "key", word)
