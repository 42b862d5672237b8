"""Whether the work was done: every key is there, its value read back and compared, its time to live set."""

from __future__ import annotations

import io
import json
import pickle
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.work import TTL_MS, main_menu, menu_key, role_of
from connectbot.redis_client import RedisClient

_AT_ONCE = 1000


class WorkNotDone(Exception):
    """An effect is missing or wrong."""


class _Text(pickle.Unpickler):
    """Reads text, and nothing that would have to be imported."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is no text")


def count_missing(client: RedisClient, users: Sequence[int]) -> int:
    """How many of the users have no menu yet."""
    there = sum(client.exists(*map(menu_key, part)) for part in _parts(users))
    return len(users) - int(there)


def check_menus(client: RedisClient, users: Sequence[int]) -> None:
    """Raises `WorkNotDone` when a menu is missing, is not what it should be, or lives for ever."""
    for part in _parts(users):
        keys = [menu_key(user_id) for user_id in part]
        for user_id, raw in zip(part, client.mget(keys), strict=True):
            if raw is None or not _is_right(user_id, raw):
                raise WorkNotDone(f"the menu of user {user_id} is {'missing' if raw is None else 'wrong'}")
        with client.pipeline(transaction=False) as pipe:
            for key in keys[::20]:
                pipe.pttl(key)
            if not all(0 < left_ms <= TTL_MS for left_ms in pipe.execute()):
                raise WorkNotDone("a menu lives for ever, or too long")


def _is_right(user_id: int, raw: bytes) -> bool:
    text = _Text(io.BytesIO(zlib.decompress(raw))).load()
    record = json.loads(text)
    expected = {"data": main_menu(user_id, role_of(user_id)), "user_id": user_id, "menu_type": "main"}
    return expected.items() <= record.items()


def _parts(users: Sequence[int]) -> Iterator[Sequence[int]]:
    return (users[at : at + _AT_ONCE] for at in range(0, len(users), _AT_ONCE))
