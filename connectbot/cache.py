"""The Django site's cache, written and read as django-redis does it (contract v21, "Redis cache")."""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from connectbot import safe_pickle
from connectbot.cache_keys import CacheKeys
from connectbot.errors import UnreadableValue
from connectbot.redis_client import Command, RedisClient, translated_errors

_compress: Callable[[bytes, int], bytes]
try:
    from isal.isal_zlib import compress as _compress
except ImportError:  # isal is not built for every machine
    _compress, _LEVEL, _SMALL_LEVEL = zlib.compress, 1, 1
else:
    # On the 500 bytes of a menu, isal's level 0 takes a fifth of the time of level 1, for a third more bytes.
    _LEVEL, _SMALL_LEVEL = 1, 0


SMALL_BYTES: Final = 2048
MIN_COMPRESSED_BYTES: Final = 15
"""Up to this length django-redis' ``ZlibCompressor`` leaves a value as it is."""
MAX_VALUE_BYTES: Final = 16 * 1024 * 1024
"""Longest value that is read, decompressed: a few kilobytes of zlib could otherwise fill the memory."""

BLANK: Final = "#"
"""Where a word is to be filled in (`Ending.stencil`)."""

_CHECKSUM_BYTES: Final = 4
_ZLIB_AND_STORED_BLOCK: Final = struct.Struct("<BBBHH")
_PICKLED_TEXT: Final = struct.Struct("<cBcI")
_AS_TEXT = (datetime, date, time, timedelta, Decimal, UUID)
"""What the JSON of Django's ``DjangoJSONEncoder`` holds as text, besides what JSON has a form for."""


class CacheCodec:
    """What lies in Redis for a value of the cache.

    ``serializer`` is that of the site's django-redis: ``pickle`` (its default) or ``json``. Each reads its own
    form only. Anything that pickle can write is written; only plain data is read (`safe_pickle.loads`).
    """

    def __init__(self, serializer: str) -> None:
        self.serializer = serializer
        self._dumps, self._loads = _SERIALIZERS[serializer]

    def encode(self, value: object) -> bytes | int:
        """The value for SET. An int stays one: Redis keeps its decimal text, on which INCR works.

        Raises `UnreadableValue` when it is too long, and what ``pickle.dumps`` or ``json.dumps`` raises when it has no
        form for the value.
        """
        if isinstance(value, int) and not isinstance(value, (bool, Enum)):
            return value
        data = self._dumps(value)
        size = len(data)
        if size <= MIN_COMPRESSED_BYTES:
            return data
        if size > MAX_VALUE_BYTES:
            raise UnreadableValue(f"it is longer than {MAX_VALUE_BYTES} bytes: nobody could read it back")
        return _compress(data, _SMALL_LEVEL if size < SMALL_BYTES else _LEVEL)

    def ending(self, end: str) -> Ending:
        """For writing many texts that end alike."""
        return Ending(_IN_TWO_PARTS[self.serializer], end)

    def decode(self, raw: bytes) -> object:
        """The value that Redis holds as ``raw``. Raises `UnreadableValue`."""
        with suppress(ValueError):
            return int(raw)
        return self._loads(_decompress(raw))


class Ending:
    """The end that many texts of the cache have in common, serialized and compressed once for all of them.

    zlib's format lets a text come in blocks: what differs goes in front as it is, in a stored block (RFC 1951), and
    the end follows as it was compressed when this was made. A text then costs no more than its checksum.
    """

    def __init__(self, writer: _TwoParts, end: str) -> None:
        self._open = writer.open
        self._end_bytes = len(end.encode())
        self._end = writer.close(end)
        deflater = zlib.compressobj(zlib.Z_BEST_COMPRESSION, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._deflated = deflater.compress(self._end) + deflater.flush()

    def after(self, start: str) -> bytes:
        """The value for SET of the text that begins with ``start``, which must be shorter than 64 KiB."""
        opening = self._open(start, self._end_bytes)
        size = len(opening)
        checksum = zlib.adler32(self._end, zlib.adler32(opening))
        header = _ZLIB_AND_STORED_BLOCK.pack(0x78, 0x01, 0x00, size, size ^ 0xFFFF)
        return b"".join((header, opening, self._deflated, checksum.to_bytes(4, "big")))

    def stencil(self, start: str, length: int) -> Stencil:
        """What the texts have in common that begin with ``start``, its two blanks filled with ASCII of ``length``."""
        value = self.after(start.replace(BLANK, "0" * length))
        between, after = (len(self._open(part, 0)) - len(self._open("", 0)) for part in start.split(BLANK)[1:])
        third = len(value) - _CHECKSUM_BYTES - len(self._deflated) - after
        second = third - length - between
        from_end = len(self._end) + after + length  # of the first of a word's characters, the second time
        return Stencil(
            value[: second - length], value[second : second + between], value[third:-_CHECKSUM_BYTES],
            low=int.from_bytes(value[-2:], "big"), high=int.from_bytes(value[-4:-2], "big"),
            weight=2 * (from_end + 1) + length + between,
        )  # fmt: skip


class Stencil(NamedTuple):
    """A value of the cache but for a word, which comes in it twice: ``first``, word, ``second``, word, ``third``, sum.

    The sum is Adler-32 (RFC 1950), ``low`` and ``high`` when the word is all zeros. For a word whose n-th character is
    d above "0", the one grows by 2 Σ d, and the other by ``weight`` Σ d - 2 Σ n d.
    """

    first: bytes
    second: bytes
    third: bytes
    low: int
    high: int
    weight: int


class Cache:
    """The site's cache, by the logical keys that Django uses.

    Every method that talks to Redis raises `RedisUnavailable` when Redis cannot serve. ``ttl_seconds`` is how
    long a value lives; None keeps it for ever, and 0 or less deletes it, as in Django.
    """

    def __init__(self, client: RedisClient, codec: CacheCodec, cache_keys: CacheKeys) -> None:
        self._redis = client
        self._codec = codec
        self._physical = cache_keys.physical

    def get(self, key: str, default: object = None) -> Any:
        """The value, or ``default`` when there is none. Raises `UnreadableValue`."""
        with translated_errors():
            raw = self._redis.get(self._physical(key))
        return default if raw is None else self._decode(key, raw)

    def get_readable(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values of those of the keys that have one which can be read."""
        if not keys:
            return {}
        with translated_errors():
            found = zip(keys, self._redis.mget(map(self._physical, keys)), strict=True)
        readable = {}
        for key, raw in found:
            with suppress(UnreadableValue):
                if raw is not None:
                    readable[key] = self._codec.decode(raw)
        return readable

    def set(self, key: str, value: object, ttl_seconds: float | None) -> None:
        """Store a value."""
        self._run(self.setting(key, value, ttl_seconds=ttl_seconds))

    def delete(self, *keys: str) -> int:
        """Remove values. Answers how many there were."""
        return int(self._run(self.deleting(*keys))) if keys else 0

    def ttl(self, key: str) -> float | None:
        """For how many seconds the value will live: 0 when there is none, None when it lives for ever."""
        with translated_errors():
            milliseconds = self._redis.pttl(self._physical(key))
        return None if milliseconds == -1 else max(0, milliseconds) / 1000

    def setting(self, key: str, value: object, *, ttl_seconds: float | None) -> Command:
        """The command that stores a value, as part of a commit."""
        physical = self._physical(key)
        if ttl_seconds is None:
            return ("SET", physical, self._codec.encode(value))
        milliseconds = int(ttl_seconds * 1000)
        if milliseconds <= 0:
            return ("DEL", physical)
        return ("SET", physical, self._codec.encode(value), "PX", milliseconds)

    def ending(self, end: str) -> Ending:
        """For writing many texts that end alike."""
        return self._codec.ending(end)

    def deleting(self, *keys: str) -> Command:
        """The command that removes values (at least one), as part of a commit."""
        return ("DEL", *map(self._physical, keys))

    def _run(self, command: Command) -> Any:
        with translated_errors():
            return self._redis.execute_command(*command)

    def _decode(self, key: str, raw: bytes) -> object:
        try:
            return self._codec.decode(raw)
        except UnreadableValue as error:
            raise UnreadableValue(
                f"the cached value {self._physical(key)} cannot be read as {self._codec.serializer}: {error}; "
                "delete it, or set CACHE_SERIALIZER to what the site uses"
            ) from None


def _decompress(raw: bytes) -> bytes:
    data = raw
    reader = zlib.decompressobj()
    with suppress(zlib.error):  # not compressed: taken as it is
        data = reader.decompress(raw, MAX_VALUE_BYTES + 1)
    if len(data) > MAX_VALUE_BYTES:
        raise UnreadableValue(f"it is longer than {MAX_VALUE_BYTES} bytes")
    return data


class _Serializer(NamedTuple):
    dumps: Callable[[object], bytes]
    loads: Callable[[bytes], object]


def _write_pickle(value: object) -> bytes:
    return pickle.dumps(value, pickle.DEFAULT_PROTOCOL)


def _open_pickle(start: str, end_bytes: int) -> bytes:
    text = start.encode()
    return _PICKLED_TEXT.pack(pickle.PROTO, 3, pickle.BINUNICODE, len(text) + end_bytes) + text


def _close_pickle(end: str) -> bytes:
    return end.encode() + pickle.STOP


def _write_json(value: object) -> bytes:
    return json.dumps(value, default=_as_text).encode()


def _open_json(start: str, _end_bytes: int) -> bytes:
    return json.dumps(start).encode()[:-1]


def _close_json(end: str) -> bytes:
    return json.dumps(end).encode()[1:]


def _as_text(value: object) -> object:
    if isinstance(value, _AS_TEXT):
        return msgspec.to_builtins(value)
    raise TypeError(f"JSON has no form for {type(value).__name__}")


def _read_json(data: bytes) -> object:
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        # Not chained: the error holds the whole text.
        raise UnreadableValue(f"the JSON is damaged ({type(error).__name__})") from None


_SERIALIZERS: Final = {
    "pickle": _Serializer(_write_pickle, safe_pickle.loads),
    "json": _Serializer(_write_json, _read_json),
}
"""What django-redis' ``PickleSerializer`` and ``JSONSerializer`` write and read."""


class _TwoParts(NamedTuple):
    """How a text is serialized in two parts; the first is told how many bytes of UTF-8 the second has."""

    open: Callable[[str, int], bytes]
    close: Callable[[str], bytes]


_IN_TWO_PARTS: Final = {
    "pickle": _TwoParts(_open_pickle, _close_pickle),
    "json": _TwoParts(_open_json, _close_json),
}
