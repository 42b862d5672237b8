"""What is under attack: the worker of this package, or (plain_celery.py) what it is compared with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import msgspec

from connectbot.clients import Clients
from connectbot.events import ConnectBotEvents, new_event
from connectbot.redis_client import translated_errors
from connectbot.settings import Settings
from worker.chaos.count import CHAOS_COUNT, ChaosKeys, Numbered, count_event
from worker.routing import DEFAULT, LANES

Roles = Sequence[tuple[int, str]]
ENTRIES_AT_ONCE: Final = 100_000


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker held when it died: names by which the system knows it, and numbers of events."""

    names: tuple[str, ...]
    numbers: frozenset[int]


class System(Protocol):
    """What chaos asks of a system. Every method raises `RedisUnavailable` when Redis cannot serve."""

    name: str
    app: str
    arguments: tuple[str, ...]

    def publish(self, numbers: Sequence[int], roles: Roles) -> None:
        """Publish events with these numbers, and those that give users these roles."""

    def ready(self) -> int:
        """How many workers take events."""

    def held_by(self, pid: int) -> Held:
        """What the worker with this process id holds."""

    def handed_out(self, held: Held) -> bool:
        """Whether others have all of it by now, or it is finished."""

    def effects(self) -> Mapping[int, int]:
        """Number of an event → how often its effect was applied."""

    def without_effect(self, numbers: Sequence[int]) -> list[int]:
        """Those of the events that have no effect yet."""

    def unfinished(self) -> frozenset[int]:
        """The events that wait, or are handed out and not finished."""

    def executions(self) -> int:
        """How often an event was begun to be worked on."""

    def pending(self) -> int:
        """How much was handed out, or waits, and is not finished."""

    def dead_letters(self) -> int:
        """How much was given up."""

    def roles(self, users: Sequence[int]) -> Mapping[int, str] | None:
        """The role for which each user's main menu was made; None when the system makes no menus."""


class Counts:
    """What any system leaves in the hashes of `ChaosKeys`."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._redis = clients.redis
        self._keys = ChaosKeys(clients.settings.namespace)

    def effects(self) -> Mapping[int, int]:
        """Number of an event → how often its effect was applied."""
        with translated_errors():
            return {int(number): int(times) for number, times in self._redis.hgetall(self._keys.effects).items()}

    def without_effect(self, numbers: Sequence[int]) -> list[int]:
        """Those of the events that have no effect yet."""
        if not numbers:
            return []
        with translated_errors():
            times = self._redis.hmget(self._keys.effects, numbers)
        return [number for number, found in zip(numbers, times, strict=True) if found is None]

    def executions(self) -> int:
        """How often an event was begun to be worked on."""
        with translated_errors():
            return sum(map(int, self._redis.hvals(self._keys.executions)))


class ConnectBotSystem(Counts):
    """The stream, its consumers and their commits."""

    name = "connectbot"
    app = "worker.chaos.app"
    arguments: tuple[str, ...] = ("--queues=default,java", "--concurrency=2")

    def __init__(self, settings: Settings) -> None:
        super().__init__(Clients.open(replace(settings, max_backlog=10_000_000)))
        self._stream = self._clients.stream
        self._names = settings.keys

    def publish(self, numbers: Sequence[int], roles: Roles) -> None:
        """One round trip for all."""
        counts = (count_event(number, channel=self._names.global_channel) for number in numbers)
        users = (
            new_event(
                ConnectBotEvents.USER_UPDATED,
                {"user": {"id": user_id, "role": role}},
                channel=self._names.user_channel(user_id),
                user_id=user_id,
            )
            for user_id, role in roles
        )
        self._clients.publisher.publish(*counts, *users)

    def ready(self) -> int:
        """How many consumers of the lane that counts are alive."""
        with translated_errors():
            leases = self._redis.scan_iter(self._names.lease(f"{DEFAULT}.*"), count=1000)
            return sum(1 for _ in leases)

    def held_by(self, pid: int) -> Held:
        """The pending entries of its consumers."""
        mine = re.compile(rf"\.{pid}\.[0-9a-f]+$")
        consumers = [(lane, name) for lane, name, _ in self._consumers() if mine.search(name)]
        ids = [
            id_ for lane, name in consumers if lane == DEFAULT
            for id_ in self._stream.pending(lane, name, limit=ENTRIES_AT_ONCE)
        ]  # fmt: skip
        return Held(tuple(name for _, name in consumers), frozenset(self._numbers(ids)))

    def unfinished(self) -> frozenset[int]:
        """What the lane that counts has not read, and what is pending there."""
        with translated_errors():
            groups = {row["name"].decode(): row for row in self._redis.xinfo_groups(self._names.events)}
            pending = self._redis.xpending_range(self._names.events, DEFAULT, "-", "+", ENTRIES_AT_ONCE)
            news = self._redis.xrange(self._names.events, min=b"(" + groups[DEFAULT]["last-delivered-id"])
        ids = [row["message_id"].decode() for row in pending]
        return frozenset([*self._numbers(ids), *_numbers_in(news)])

    def handed_out(self, held: Held) -> bool:
        """Whether nothing is pending for them any more."""
        return not any(pending for _, name, pending in self._consumers() if name in held.names)

    def pending(self) -> int:
        """Delivered and not acknowledged, in both lanes."""
        return sum(pending for _, _, pending in self._consumers())

    def dead_letters(self) -> int:
        """The length of the stream of them."""
        with translated_errors():
            return int(self._redis.xlen(self._names.dead))

    def roles(self, users: Sequence[int]) -> Mapping[int, str]:
        """As the cache has them."""
        found = {user_id: self._clients.menus.get(user_id, "main") for user_id in users}
        return {user_id: menu["data"]["role"] for user_id, menu in found.items() if menu}

    def _consumers(self) -> list[tuple[str, str, int]]:
        """Lane, name and number of pending entries of each."""
        with translated_errors():
            return [
                (lane, row["name"].decode(), row["pending"])
                for lane in LANES
                for row in self._redis.xinfo_consumers(self._names.events, lane)
            ]

    def _numbers(self, ids: Sequence[str]) -> list[int]:
        with translated_errors(), self._redis.pipeline(transaction=False) as pipe:
            for id_ in ids:
                pipe.xrange(self._names.events, id_, id_)
            rows = [row for rows in pipe.execute() for row in rows]
        return _numbers_in(rows)


class _CountEvent(msgspec.Struct):
    data: Numbered


def _numbers_in(rows: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> list[int]:
    texts = [fields[b"event"] for _, fields in rows if fields.get(b"type") == CHAOS_COUNT.encode()]
    return [_decoder.decode(text).data.number for text in texts]


_decoder = msgspec.json.Decoder(_CountEvent)
