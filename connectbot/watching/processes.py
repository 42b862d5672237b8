"""The workers and beats of an installation, as they tell it themselves: who they are and where their probes answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from connectbot.keys import Keys
from connectbot.redis_client import RedisClient, time_of, translated_errors

NOTE_SECONDS: Final = 2.0
"""How often a process says that it is there."""
SILENT_SECONDS: Final = 10.0
"""Who has not said so for that long hangs, was killed, or cannot reach Redis."""
REMEMBERED_SECONDS: Final = 600.0


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process. ``role`` is ``worker`` or ``beat``; ``probes`` is host:port, empty when it has none.

    ``started_at`` is in epoch seconds.
    """

    role: str
    name: str
    pid: int
    lanes: tuple[str, ...] = ()
    probes: str = ""
    started_at: float = 0.0

    @property
    def id(self) -> str:
        """What no other process of the installation has."""
        return f"{self.name}:{self.pid}"


@dataclass(frozen=True, slots=True)
class Seen:
    """A process, how many seconds ago it began and was last heard of, and which of its parts stand still."""

    process: Process
    age_seconds: float
    silent_seconds: float
    still: tuple[str, ...] = ()

    @property
    def is_silent(self) -> bool:
        """Whether it should have been heard of since."""
        return self.silent_seconds > SILENT_SECONDS


class Processes:
    """The list of them, by Redis' clock. Every method raises `RedisUnavailable` when Redis cannot serve."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self._redis = client
        self._keys = keys
        self._key = keys.processes

    def note(self, process: Process, *, still: Sequence[str] = ()) -> None:
        """Say that a process is there, and which of its parts stand still.

        Those not heard of for ten minutes are forgotten.
        """
        with translated_errors(), self._redis.pipeline(transaction=False) as pipe:
            now = time_of(self._redis)
            pipe.zadd(self._key, {msgspec.json.encode(process): now})
            pipe.zremrangebyscore(self._key, "-inf", now - REMEMBERED_SECONDS)
            if still:
                pipe.set(
                    self._keys.standing_still(process.id), msgspec.json.encode(still), px=int(SILENT_SECONDS * 1000)
                )
            pipe.execute()

    def forget(self, process: Process) -> None:
        """Say that a process ends in good order."""
        with translated_errors():
            self._redis.zrem(self._key, msgspec.json.encode(process))

    def seen(self) -> Sequence[Seen]:
        """Those heard of in the last ten minutes, the latest first."""
        with translated_errors():
            now = time_of(self._redis)
            rows = self._redis.zrevrangebyscore(self._key, "+inf", now - REMEMBERED_SECONDS, withscores=True)
            found = [(msgspec.json.decode(member, type=Process), at) for member, at in rows]
            stills = self._redis.mget([self._keys.standing_still(process.id) for process, _ in found]) if found else []
        return [
            Seen(
                process,
                age_seconds=max(0.0, now - process.started_at),
                silent_seconds=max(0.0, now - at),
                still=msgspec.json.decode(still or b"[]", type=tuple[str, ...]),
            )
            for (process, at), still in zip(found, stills, strict=True)
        ]
