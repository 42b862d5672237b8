"""What the worker remembers of each user: the role, and the version of the newest event that told it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, Final

import msgspec

from connectbot.effects import Column, ForEach, Record, same, with_id
from connectbot.keys import Keys
from connectbot.redis_client import RedisClient, translated_errors
from connectbot.scripts import text_of

DEFAULT_ROLE: Final = "employee"
LONGEST_ROLE: Final = 64
NO_VERSION: Final = "0" * 14 + "-" + "0" * 20
"""The version of a user of whom no event with a role has come: older than every event (`Entry.version`)."""


class KnownUser(msgspec.Struct, frozen=True, gc=False):
    """One user; ``role`` is None when the user was deleted."""

    user_id: int
    version: str
    role: str | None


class Users:
    """The hash of users. Raises `RedisUnavailable` when Redis cannot serve."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self._redis = client
        self._keys = keys

    def look_up(self, user_ids: Iterable[int]) -> dict[int, KnownUser]:
        """Those of the users that are known, deleted ones included."""
        ids = list(user_ids)
        if not ids:
            return {}
        with translated_errors():
            records = self._redis.hmget(self._keys.users, ids)
        return {id_: _parse(id_, record) for id_, record in zip(ids, records, strict=True) if record}

    def remembering(self) -> Column:
        """The column that stores what is known of some users."""
        return Record()

    def marking_deleted(self, *, now: float) -> Column:
        """The column that lets deleted users be forgotten after a while."""
        return ForEach(("ZADD", self._keys.deleted_users), (same(repr(now)), with_id()))

    def forget_deleted(self, *, before: float, limit: int) -> int:
        """Drop up to ``limit`` users deleted ``before`` (epoch seconds) and not seen again. Answers how many."""
        keys = [self._keys.users, self._keys.deleted_users]
        with translated_errors():
            return int(self._forget_script(keys=keys, args=[before, limit]))

    @cached_property
    def _forget_script(self) -> Any:
        return self._redis.register_script(text_of("forget_deleted"))


def _parse(user_id: int, record: bytes) -> KnownUser:
    version, _, role = record.decode().partition(" ")
    return KnownUser(user_id, version, role or None)
