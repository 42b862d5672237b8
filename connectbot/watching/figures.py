"""Figures of an installation, read at once and at a bounded cost: for ``/metrics``, ``check`` and ``stats``.

*backlog* is all that a lane has still to do with the stream: *lag*, the entries not delivered yet, and *pending*, those
delivered and not finished; of these, *in flight* are those that a living consumer holds. What was put aside is neither:
*delayed* entries wait for their time, *parked* ones for the lane's target.

A lane is given every entry of the stream, also those it has no task for; so its lag counts them until it has passed
over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connectbot.cache_keys import menu_key
from connectbot.keys import Keys
from connectbot.redis_client import RedisClient, time_of, translated_errors
from connectbot.settings import Settings
from connectbot.watching.ages import Ages

COUNTED_AT_ONCE: Final = 1000
MOST_COUNTED: Final = 20_000
"""Redis 6.2 keeps no lag: entries are counted, so many at most, in slices that never hold up Redis for long."""

USERS_SAMPLED: Final = 200
"""So many users, drawn at random, are asked whether they have menus."""

_COUNT_SLICE: Final = """
local rows = redis.call(ARGV[1], KEYS[1], ARGV[2], ARGV[3], "COUNT", ARGV[4])
return {#rows, #rows > 0 and rows[#rows][1] or ""}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFigures:
    """One lane, now. ``lag_is_exact`` is false when more entries wait than were counted: then lag is at least that.

    ``oldest_age_seconds`` is the age of the oldest entry of the backlog, ``oldest_parked_age_seconds`` that of the
    parked one whose turn is next, since its event first came: of the oldest, but for those whose tries have failed.
    Both are 0 without one. ``consumers`` are those alive, ``fallen`` those whose lease has run out and whose entries
    nobody has taken over yet.
    """

    lane: str
    lag: int
    lag_is_exact: bool
    pending: int
    in_flight: int
    oldest_age_seconds: float
    delayed: int
    parked: int
    oldest_parked_age_seconds: float
    consumers: Sequence[str]
    fallen: Sequence[str]
    ages: Ages

    @property
    def backlog(self) -> int:
        """What is still to be done."""
        return self.lag + self.pending


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The installation, now. Times are epoch seconds of Redis' clock; None means never, or not known.

    ``users_with_menus`` is estimated from a sample where more than `USERS_SAMPLED` are known.
    """

    now: float
    lanes: Sequence[LaneFigures]
    entries: int
    dead: int
    last_tick: float | None
    temp_data_due: int
    temp_data_overdue: int
    users_known: int
    users_with_menus: int
    breaker: str
    counters: Mapping[str, int]


def read_figures(client: RedisClient, settings: Settings, lanes: Sequence[str]) -> Figures:
    """Read all figures: a handful of round trips, and some more where Redis keeps no lag. Raises `RedisUnavailable`."""
    return _Reading(client, settings, lanes).read()


def furthest_behind(client: RedisClient, keys: Keys, lanes: Sequence[str]) -> str | None:
    """The consumer group that needs the oldest entry of the stream (lua/trim.lua), rather a lane; None without any.

    What it costs grows with groups and their consumers only. Raises `RedisUnavailable`.
    """
    with translated_errors():
        groups = client.xinfo_groups(keys.events)
        needs = {group["name"].decode("utf-8", "replace"): _needs_from(client, keys.events, group) for group in groups}
    return min(needs, key=lambda name: (needs[name], name not in lanes), default=None)


def _needs_from(client: RedisClient, stream: str, group: Mapping[str, Any]) -> tuple[int, ...]:
    oldest = client.xpending(stream, group["name"])["min"] if group["pending"] else None
    return tuple(map(int, (oldest or group["last-delivered-id"]).split(b"-")))


class _Reading:
    """One reading. Redis' replies are kept in the order in which they were asked for, a list a lane."""

    def __init__(self, client: RedisClient, settings: Settings, lanes: Sequence[str]) -> None:
        self._redis = client
        self._settings = settings
        self._keys = settings.keys
        self._lanes = lanes

    def read(self) -> Figures:
        with translated_errors():
            now = time_of(self._redis)
            groups = self._groups()
            return Figures(
                now=now, lanes=[self._lane(lane, groups.get(lane), now) for lane in self._lanes], **self._whole(now)
            )

    def _groups(self) -> dict[str, dict[str, Any]]:
        if not self._redis.exists(self._keys.events):
            return {}
        groups = self._redis.xinfo_groups(self._keys.events)
        return {group["name"].decode("utf-8", "replace"): group for group in groups}

    def _whole(self, now: float) -> dict[str, Any]:
        keys = self._keys
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.xlen(keys.events)
            pipe.xlen(keys.dead)
            pipe.get(keys.last_tick)
            pipe.zcard(keys.temp_due)
            pipe.zcount(keys.temp_due, "-inf", now)
            pipe.hlen(keys.users)
            pipe.hrandfield(keys.users, USERS_SAMPLED)
            pipe.hget(keys.java_breaker, "state")
            pipe.hgetall(keys.counters)
            entries, dead, tick, due, overdue, users, sample, breaker, counters = pipe.execute()
        return {
            "entries": entries,
            "dead": dead,
            "last_tick": None if tick is None else float(tick),
            "temp_data_due": due,
            "temp_data_overdue": overdue,
            "users_known": users,
            "users_with_menus": self._with_menus(users, sample),
            "breaker": (breaker or b"closed").decode(),
            "counters": {name.decode(): int(value) for name, value in counters.items()},
        }

    def _with_menus(self, users: int, sample: Sequence[bytes]) -> int:
        """How many of all users have menus, as far as a sample of their ids tells."""
        if not sample or not self._settings.warm_menus:
            return 0
        cache_keys, menu_type = self._settings.cache_keys, self._settings.warm_menus[0]
        there = self._redis.exists(*[cache_keys.physical(menu_key(int(id_), menu_type)) for id_ in sample])
        return round(users * int(there) / len(sample))

    def _lane(self, lane: str, group: dict[str, Any] | None, now: float) -> LaneFigures:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(self._keys.delayed(lane))
            pipe.zcard(self._keys.parked(lane))
            pipe.zrange(self._keys.parked(lane), 0, 0)
            pipe.hgetall(self._keys.ages(lane))
            pipe.hkeys(self._keys.fences(lane))
            if group is not None:
                pipe.xpending(self._keys.events, lane)
                pipe.xrange(self._keys.events, f"({group['last-delivered-id'].decode()}", count=1)
            delayed, parked, oldest_parked, ages, names, *of_group = pipe.execute()
        pending, after = of_group or (_NOTHING_PENDING, [])
        living, fallen = self._sort_out([name.decode() for name in names])
        lag, exact = self._lag(group, is_behind=bool(after))
        backlog = [_milliseconds(id_) for id_ in (pending["min"], *(row[0] for row in after)) if id_]
        held = {one["name"].decode("utf-8", "replace"): one["pending"] for one in pending["consumers"]}
        return LaneFigures(
            lane=lane,
            lag=lag,
            lag_is_exact=exact,
            pending=pending["pending"],
            in_flight=sum(held.get(name, 0) for name in living),
            oldest_age_seconds=_oldest_age_seconds(backlog, now),
            delayed=delayed,
            parked=parked,
            oldest_parked_age_seconds=_oldest_age_seconds(list(map(_milliseconds, oldest_parked)), now),
            consumers=living,
            fallen=fallen,
            ages=Ages.read(ages),
        )

    def _sort_out(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Consumers whose lease lives, and those whose lease has run out."""
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.exists(self._keys.lease(name))
            leases = pipe.execute()
        living = [name for name, lives in zip(names, leases, strict=True) if lives]
        return living, [name for name in names if name not in living]

    def _lag(self, group: dict[str, Any] | None, *, is_behind: bool) -> tuple[int, bool]:
        """How many entries were not delivered to a group, and whether that is exact."""
        if group is None:
            return self._redis.xlen(self._keys.events), True
        if not is_behind:
            return 0, True
        if group.get("lag") is not None:  # Redis 7, unless entries were deleted from the middle
            return group["lag"], True
        last = group["last-delivered-id"].decode()
        done, _ = counted = self._count(("XREVRANGE", last, "-"))
        if counted[1]:
            return self._redis.xlen(self._keys.events) - done, True
        return self._count(("XRANGE", f"({last}", "+"))

    def _count(self, span: tuple[str, str, str]) -> tuple[int, bool]:
        """How many entries a span has, and whether all of them were counted."""
        command, start, end = span
        counted = 0
        while counted < MOST_COUNTED:
            many, last = self._redis.eval(_COUNT_SLICE, 1, self._keys.events, command, start, end, COUNTED_AT_ONCE)
            counted += many
            if many < COUNTED_AT_ONCE:
                return counted, True
            start = f"({last.decode()}"
        return counted, False


_NOTHING_PENDING: Final[Mapping[str, Any]] = {"pending": 0, "min": None, "consumers": []}


def _oldest_age_seconds(came_ms: Sequence[float], now: float) -> float:
    return max(0.0, now - min(came_ms) / 1000) if came_ms else 0.0


def _milliseconds(id_: bytes) -> int:
    return int(id_.partition(b"-")[0])
