"""Temporary data: small things kept for a while through Django's cache (contract v21), and their expiry.

Redis removes what has expired by itself; what v21 cannot do is to tell anyone. An index ordered by time makes
`TempData.expire` find what is due and publish ``temp.expired`` for it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from connectbot import events, json_text, safe_pickle, scan
from connectbot.cache import Cache
from connectbot.cache_keys import TEMP_PREFIX, CacheKeys, temp_key, told_temp_key, user_namespace
from connectbot.errors import UnreadableValue
from connectbot.events import ConnectBotEvents, Event
from connectbot.keys import Keys
from connectbot.quick_script import Call, QuickScript
from connectbot.redis_client import Command, RedisClient, translated_errors
from connectbot.scripts import text_of

_SEPARATOR = "\x1f"
_ROWS_A_STEP = 1000
KEYS_A_COMMAND: Final = 1000
"""Somebody's data may be without bound, a command in a commit is not: Lua's ``unpack`` takes some 8,000 words."""
EXPIRED_AT_ONCE: Final = 250
"""Redis takes so much out of the index while the events of the next are written."""
_READ_BACK: Final = (str, int, float, bytes, type(None))
_PLAIN: Final[dict[type, Callable[[Any], object]]] = {str: str.__str__, int: int.__int__, float: float.__float__}
_LONGEST_ID: Final = len(str(2**63))
_USER_NAMESPACE = user_namespace(0).removesuffix("0")


@dataclass(frozen=True, slots=True)
class Due:
    """One piece of temporary data whose time is over; ``expired_at`` is in epoch seconds."""

    namespace: str
    key: str
    expired_at: float

    @property
    def owner(self) -> int | None:
        """The user whose data it is; None when it is nobody's in particular, or of what is no id."""
        tail = self.namespace.removeprefix(_USER_NAMESPACE)
        if tail == self.namespace or not tail.isdecimal() or len(tail) > _LONGEST_ID:
            return None
        return int(tail) if int(tail) < 2**63 else None


class TempData:
    """Temporary data by namespace and key. Raises `RedisUnavailable` when Redis cannot serve.

    ``ttl_seconds`` is how long data lives whose writer names no time.
    """

    def __init__(
        self, client: RedisClient, *, cache: Cache, keys: Keys, cache_keys: CacheKeys, ttl_seconds: float
    ) -> None:
        self._redis = client
        self._cache = cache
        self._keys = keys
        self._cache_keys = cache_keys
        self._ttl_seconds = ttl_seconds
        self._expire_script = QuickScript(client, "expire_temp")

    def store(self, namespace: str, key: str, data: object, *, now: float, ttl_seconds: float | None = None) -> None:
        """Keep ``data`` for ``ttl_seconds`` from ``now`` (epoch seconds).

        A dict, list or tuple is kept as JSON (`json_text.dumps`), so that sets inside it come back as lists; anything
        else, such as a set, comes back as it was. Raises `UnreadableValue` for what is no plain data, and what
        `json_text.dumps` or ``pickle.dumps`` raises when it has no form for the data.
        """
        self._execute(self.storing(namespace, key, data, ttl_seconds=ttl_seconds, now=now))

    def storing(
        self, namespace: str, key: str, data: object, *, now: float, ttl_seconds: float | None = None
    ) -> tuple[Command, ...]:
        """The commands of `store`, for use in a commit."""
        ttl_seconds = self._ttl_seconds if ttl_seconds is None else ttl_seconds
        text = _encode(namespace, data, now=now)
        return (
            self._cache.setting(temp_key(namespace, key), text, ttl_seconds=ttl_seconds),
            ("ZADD", self._keys.temp_due, repr(now + ttl_seconds), _member(namespace, key)),
            ("SADD", self._keys.temp_namespace(namespace), _word(key)),
        )

    def get(self, namespace: str, key: str, default: object = None) -> object:
        """What was stored; ``default`` when nothing is there.

        Raises `UnreadableValue` when it is not of a form that we admit.
        """
        text = self._cache.get(temp_key(namespace, key))
        return default if text is None else decode(namespace, key, text)

    def delete(self, namespace: str, *keys: str) -> None:
        """Remove data of one namespace; no ``temp.expired`` follows."""
        self._execute(self.removing(namespace, keys))

    def extend(self, namespace: str, key: str, *, ttl_seconds: float, now: float) -> bool:
        """Let data live ``ttl_seconds`` from ``now``, without rewriting it. False when there is none."""
        return bool(self._execute(self.extending(namespace, key, ttl_seconds=ttl_seconds, now=now))[0])

    def extending(self, namespace: str, key: str, *, ttl_seconds: float, now: float) -> tuple[Command, ...]:
        """The commands of `extend`."""
        physical = self._cache_keys.physical(temp_key(namespace, key))
        return (
            ("PEXPIRE", physical, int(ttl_seconds * 1000)),
            # What v21 has stored is not in the index, and what has expired must not come back into it: XX.
            ("ZADD", self._keys.temp_due, "XX", repr(now + ttl_seconds), _member(namespace, key)),
        )

    def removing(self, namespace: str, keys: Sequence[str]) -> tuple[Command, ...]:
        """The commands that remove some data of one namespace, for use in a commit."""
        return tuple(
            command
            for at in range(0, len(keys), KEYS_A_COMMAND)
            for command in self._removing_some(namespace, keys[at : at + KEYS_A_COMMAND])
        )

    def keys_of(self, namespace: str) -> list[str]:
        """The keys alive in a namespace: of a user a handful."""
        with translated_errors():
            return sorted(key.decode() for key in self._redis.smembers(self._keys.temp_namespace(namespace)))

    def all_keys_of(self, namespace: str, *, starting: str = "") -> list[str]:
        """Those of a namespace that begin with ``starting``, written by v21 or us. Looks at every key of Redis."""
        prefix = self._cache_keys.physical(temp_key(namespace, ""))
        pages = scan.pages(self._redis, f"{scan.literally(prefix + starting)}*")
        found = {key.decode("utf-8", "replace").removeprefix(prefix) for keys in pages for key in keys}
        return sorted(found | {key for key in self.keys_of(namespace) if key.startswith(starting)})

    def indexed(self) -> Iterator[dict[str, list[str]]]:
        """All data that was not written by v21, some at a time: namespace → keys."""
        cursor = 0
        while True:
            with translated_errors():
                cursor, rows = self._redis.zscan(self._keys.temp_due, cursor, count=_ROWS_A_STEP)
            yield _by_namespace(_due(member.decode(), score) for member, score in rows)
            if not cursor:
                return

    def due(self, *, now: float, limit: int) -> list[Due]:
        """Up to ``limit`` pieces of data whose time is over at ``now`` (epoch seconds), the oldest first."""
        with translated_errors():
            rows = self._redis.zrangebyscore(self._keys.temp_due, "-inf", now, start=0, num=limit, withscores=True)
        return [_due(member.decode(), score) for member, score in rows]

    def expire(self, due: Sequence[Due]) -> int:
        """Take what is due out of the index and publish ``temp.expired`` for it; answers for how many.

        What has been stored anew or given more time meanwhile (by v21, behind our back) is put off instead.
        """
        parts = (due[at : at + EXPIRED_AT_ONCE] for at in range(0, len(due), EXPIRED_AT_ONCE))
        with translated_errors():
            return sum(self._expire_script.each(map(self._expiring, parts)))

    def limit_lives(self) -> int:
        """Let data that was written without an expiry, by v21 or by hand, live as long as new data; answers how much.

        Looks at the next keys of Redis only, some thousand at a call, and goes on from there at the next one.
        """
        pattern = f"{scan.literally(self._cache_keys.physical(TEMP_PREFIX))}*"
        with translated_errors():
            place = int(self._redis.get(self._keys.temp_scan) or 0)
            place, found = self._redis.scan(place, match=pattern, count=scan.KEYS_A_STEP)
            limited = self._limit_script(keys=found, args=[int(self._ttl_seconds * 1000)]) if found else 0
            self._redis.set(self._keys.temp_scan, place)
        return int(limited)

    @cached_property
    def _limit_script(self) -> Any:
        return self._redis.register_script(text_of("limit_lives"))

    def _expiring(self, due: Sequence[Due]) -> Call:
        words: list[Any] = [ConnectBotEvents.TEMP_EXPIRED]
        for item in due:
            event = _expired(item, self._keys)
            words += (
                _member(item.namespace, item.key), self._cache_keys.physical(temp_key(item.namespace, item.key)),
                self._keys.temp_namespace(item.namespace), item.key, events.encode(event), event.channel,
            )  # fmt: skip
        return (self._keys.temp_due, self._keys.events), words

    def _removing_some(self, namespace: str, keys: Sequence[str]) -> tuple[Command, ...]:
        return (
            self._cache.deleting(*[temp_key(namespace, key) for key in keys]),
            ("ZREM", self._keys.temp_due, *[_member(namespace, key) for key in keys]),
            ("SREM", self._keys.temp_namespace(namespace), *map(_word, keys)),
        )

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        with translated_errors(), self._redis.pipeline(transaction=True) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return list(pipe.execute())


def _word(key: object) -> str | None:
    """The key as the cache's key has it, such as that of a UUID. Redis refuses None: it stands for a missing key."""
    return None if key is None else f"{key}"


def _member(namespace: str, key: str) -> str:
    return f"{namespace}{_SEPARATOR}{key}"


def _due(member: str, score: float) -> Due:
    namespace, _, key = member.partition(_SEPARATOR)
    return Due(namespace, key, score)


def _expired(item: Due, keys: Keys) -> Event:
    owner = item.owner
    return events.new_event(
        ConnectBotEvents.TEMP_EXPIRED,
        {"namespace": item.namespace, "key": item.key, "owner": owner},
        channel=keys.global_channel if owner is None else keys.user_channel(owner),
        user_id=owner,
        event_id=events.derived_id("temp", item.namespace, item.key, item.expired_at),
    )


def _by_namespace(rows: Iterable[Due]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.namespace, []).append(row.key)
    return found


def _encode(namespace: str, data: object, *, now: float) -> str:
    """v21's record: containers as JSON, anything else as a pickle in hexadecimal, which v21 reads back."""
    data = _plain(data)
    in_json = isinstance(data, (dict, list, tuple))
    return json_text.dumps(
        {
            "data": data if in_json else _pickled(data),
            "type": type(data).__name__,
            "created_at": datetime.fromtimestamp(now, UTC).isoformat(),
            "namespace": namespace,
            "serialized": in_json,
        }
    )


def _plain(data: object) -> object:
    """The value of a member of a ``TextChoices`` or ``IntEnum``, of a ``SafeString`` and the like; else the data."""
    for kind, value_of in _PLAIN.items():
        if isinstance(data, kind) and type(data) not in (kind, bool):
            return value_of(data)
    return data


def _pickled(data: object) -> str:
    pickled = pickle.dumps(data)
    if type(data) not in _READ_BACK:
        safe_pickle.loads(pickled)  # refuses now what could never be read back
    return pickled.hex()


def decode(namespace: str, key: str, text: object) -> object:
    """The data that a record of v21 holds. Raises `UnreadableValue`, naming the key."""
    try:
        return _data_in(json_text.loads(text))
    except UnreadableValue as error:
        raise UnreadableValue(f"the temporary data {told_temp_key(namespace, key)} cannot be used: {error}") from None


def _data_in(record: object) -> object:
    if not isinstance(record, dict) or "data" not in record:
        raise UnreadableValue('it holds no "data"')
    data = record["data"]
    if record.get("serialized", True):
        return data
    try:
        return safe_pickle.loads(bytes.fromhex(data))
    except (TypeError, ValueError) as error:
        # Not chained: the error's text may quote the data.
        raise UnreadableValue(f"its pickle is no hexadecimal text ({type(error).__name__})") from None
