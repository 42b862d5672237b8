"""What the worker remembers of each user: the role, and the version of the newest event that told it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from connectbot.effects import RECORD, Column, same, with_id
from connectbot.keys import Keys
from connectbot.redis_client import RedisClient, translated_errors

DEFAULT_ROLE: Final = "employee"
VERSION_LENGTH: Final = 35
NO_VERSION: Final = "0" * 14 + "-" + "0" * 20
"""The version of a user of whom no event with a role has come: older than every event (`Entry.version`)."""


@dataclass(frozen=True, slots=True)
class KnownUser:
    """One user; ``role`` is None when the user was deleted."""

    user_id: int
    version: str
    role: str | None

    @property
    def record(self) -> str:
        """What is kept of the user in Redis."""
        return self.version if self.role is None else f"{self.version} {self.role}"


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
        """The command that stores what is known of some users."""
        return Column(("HSET", self._keys.users), (with_id(), RECORD))

    def marking_deleted(self, *, now: float) -> Column:
        """The command that lets deleted users be forgotten after a while."""
        return Column(("ZADD", self._keys.deleted_users), (same(repr(now)), with_id()))

    def forget_deleted(self, *, before: float, limit: int) -> int:
        """Drop up to ``limit`` users deleted ``before`` (epoch seconds) and not seen again. Answers how many."""
        with translated_errors():
            ids = self._redis.zrangebyscore(self._keys.deleted_users, "-inf", before, start=0, num=limit)
            gone = [id_ for id_, user in self.look_up(map(int, ids)).items() if user.role is None]
            with self._redis.pipeline(transaction=True) as pipe:
                if gone:
                    pipe.hdel(self._keys.users, *gone)
                if ids:
                    pipe.zrem(self._keys.deleted_users, *ids)
                pipe.execute()
        return len(gone)


def _parse(user_id: int, record: bytes) -> KnownUser:
    text = record.decode()
    return KnownUser(user_id, text[:VERSION_LENGTH], text[VERSION_LENGTH + 1 :] or None)
