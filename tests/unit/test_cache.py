"""The cache's codec and the reader of pickles, without Redis."""

from __future__ import annotations

import copyreg
import enum
import json
import math
import pickle
import pickletools
import struct
import subprocess
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectbot import cache as cache_module
from connectbot import safe_pickle
from connectbot.cache import Cache, CacheCodec
from connectbot.cache_keys import CacheKeys
from connectbot.errors import RedisUnavailable, UnreadableValue
from connectbot.redis_client import connect
from tests.support import ROOT, joined

PROTOCOLS = (4, 5)

text = st.text(st.characters(codec=None, exclude_categories=())).map(joined)
json_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text
json_values = st.recursive(json_scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=30)

zones = st.none() | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone) | st.timezones()
dates = st.dates() | st.datetimes(timezones=zones) | st.times(timezones=zones) | st.timedeltas()
scalars = (
    json_scalars
    | st.binary()
    | st.binary().map(bytearray)
    | dates
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids()
    | zones
)
flat = st.none() | st.booleans() | st.integers() | text | st.binary() | st.dates() | st.uuids()
keys = flat | st.tuples(flat, flat)
plain_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.sets(keys)
        | st.frozensets(keys)
    ),
    max_leaves=30,
)


def same(one: object, other: object) -> bool:
    """Equal, and of equal types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return same(set(one), set(other)) and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (set, frozenset)) and isinstance(other, (set, frozenset)):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    return repr(one) == repr(other)


# --- the codec ----------------------------------------------------------------------------------------


@given(plain_values)
def test_plain_data_comes_back_through_pickle(value: object) -> None:
    codec = CacheCodec("pickle")
    assert same(codec.decode(stored(codec.encode(value))), value)


@given(json_values)
def test_json_data_comes_back_through_json(value: object) -> None:
    codec = CacheCodec("json")
    assert same(codec.decode(stored(codec.encode(value))), value)


def stored(encoded: bytes | int) -> bytes:
    """What Redis holds for a word of SET."""
    return str(encoded).encode() if isinstance(encoded, int) else encoded


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize("serializer", ["pickle", "json"])
def test_only_a_true_int_stays_one(serializer: str) -> None:
    codec = CacheCodec(serializer)
    assert codec.encode(-7) == -7
    assert isinstance(codec.encode(True), bytes)
    assert isinstance(codec.encode(Level.HIGH), bytes)
    assert codec.decode(b"-7") == -7


def test_what_is_short_is_not_compressed() -> None:
    codec = CacheCodec("json")
    assert codec.encode("a" * 13) == b'"' + b"a" * 13 + b'"'
    compressed = codec.encode("a" * 14)
    assert isinstance(compressed, bytes)
    assert zlib.decompress(compressed) == b'"' + b"a" * 14 + b'"'


def test_any_level_of_zlib_is_read() -> None:
    codec = CacheCodec("pickle")
    for level in range(10):
        assert codec.decode(zlib.compress(pickle.dumps("menu" * 100), level)) == "menu" * 100


def test_a_machine_without_isal_writes_what_others_read() -> None:
    script = """
import sys
sys.modules["isal"] = None
from connectbot.cache import CacheCodec
sys.stdout.buffer.write(CacheCodec("pickle").encode("menu" * 1000))
"""
    written = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True).stdout
    assert len(written) < 1000
    assert CacheCodec("pickle").decode(written) == "menu" * 1000


def test_json_holds_dates_and_numbers_of_django_as_text() -> None:
    value = [
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        date(2026, 1, 2),
        time(3, 4),
        timedelta(days=1),
        Decimal("1.50"),
        UUID(int=1),
    ]
    codec = CacheCodec("json")
    assert codec.decode(stored(codec.encode(value))) == [
        "2026-01-02T03:04:05Z",
        "2026-01-02",
        "03:04:00",
        "P1D",
        "1.50",
        str(UUID(int=1)),
    ]
    with pytest.raises(TypeError, match="set"):
        codec.encode({1})


@pytest.mark.parametrize("serializer", ["pickle", "json"])
@given(raw=st.binary())
def test_bytes_that_are_nothing_are_refused_in_our_words(serializer: str, raw: bytes) -> None:
    for data in (raw, zlib.compress(raw)):
        with suppress(UnreadableValue):
            CacheCodec(serializer).decode(data)


def test_a_little_zlib_cannot_fill_the_memory() -> None:
    bomb = zlib.compress(b'"' + bytes(cache_module.MAX_VALUE_BYTES) + b'"')
    assert len(bomb) < 100_000
    for serializer in ("pickle", "json"):
        with pytest.raises(UnreadableValue, match="longer than"):
            CacheCodec(serializer).decode(bomb)


@pytest.mark.parametrize("raw", [b"[" * 1_000_000, b'{"token": secret}', b"\xff\xfe secret", b"1" * 5000])
def test_json_that_is_none_is_not_quoted(raw: bytes) -> None:
    with pytest.raises(UnreadableValue) as caught:
        CacheCodec("json").decode(raw)
    assert "secret" not in str(caught.value)


def test_each_serializer_reads_its_own_form_only() -> None:
    with pytest.raises(UnreadableValue):
        CacheCodec("json").decode(pickle.dumps("menu"))
    with pytest.raises(UnreadableValue):
        CacheCodec("pickle").decode(json.dumps("menu").encode())


# --- hostile pickles ----------------------------------------------------------------------------------


class OnState:
    """Runs code when a pickle gives it a state."""

    def __setstate__(self, path: str) -> None:
        Path(path).mkdir()


class OnNew:
    """Runs code when a pickle makes one."""

    def __new__(cls, path: str) -> OnNew:
        Path(path).mkdir()
        return super().__new__(cls)


def word(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def named(kind: type) -> bytes:
    return f"c{kind.__module__}\n{kind.__name__}\n".encode()


EXTENSION = 0x7FFFFFF0

HOSTILE: dict[str, Callable[[str], bytes]] = {
    "GLOBAL REDUCE": lambda path: b"cos\nmkdir\n(" + word(path) + b"tR.",
    "GLOBAL of builtins": lambda path: b"cbuiltins\neval\n(" + word(f"__import__('os').mkdir({path!r})") + b"tR.",
    "STACK_GLOBAL REDUCE": lambda path: b"\x80\x04" + word("os") + word("mkdir") + b"\x93" + word(path) + b"\x85R.",
    "STACK_GLOBAL dotted": lambda path: (
        b"\x80\x04" + word("connectbot.child_process") + word("os.mkdir") + b"\x93" + word(path) + b"\x85R."
    ),
    "GLOBAL from the memo": lambda path: b"cos\nmkdir\nq\x000h\x00(" + word(path) + b"tR.",
    "REDUCE inside a container": lambda path: b"\x80\x04]cos\nmkdir\n(" + word(path) + b"tRa.",
    "REDUCE as a key": lambda path: b"\x80\x04}cos\nmkdir\n(" + word(path) + b"tRNs.",
    "INST": lambda path: b"(" + word(path) + b"ios\nmkdir\n.",
    "OBJ": lambda path: b"(cos\nmkdir\n" + word(path) + b"o.",
    "NEWOBJ": lambda path: b"\x80\x02" + named(OnNew) + word(path) + b"\x85\x81.",
    "NEWOBJ_EX": lambda path: b"\x80\x04" + named(OnNew) + word(path) + b"\x85}\x92.",
    "BUILD": lambda path: b"\x80\x02" + named(OnState) + b")\x81" + word(path) + b"b.",
    "getattr": lambda path: (
        b"\x80\x04cbuiltins\ngetattr\n"
        + word("connectbot.child_process")
        + word("os")
        + b"\x93"
        + word("mkdir")
        + b"\x86R"
        + word(path)
        + b"\x85R."
    ),
    "EXT4": lambda path: b"\x80\x02\x84" + struct.pack("<i", EXTENSION) + word(path) + b"\x85R.",
}


@pytest.fixture
def extension() -> Iterator[None]:
    copyreg.add_extension("os", "mkdir", EXTENSION)
    yield
    copyreg.remove_extension("os", "mkdir", EXTENSION)


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_runs_nothing(name: str, compressed: bool, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    hostile = HOSTILE[name](str(proof))
    pickle.loads(hostile)
    proof.rmdir()  # so it is hostile indeed

    with pytest.raises(UnreadableValue) as caught:
        CacheCodec("pickle").decode(zlib.compress(hostile) if compressed else hostile)
    assert not proof.exists()
    assert str(proof) not in str(caught.value)


ZONE = b"\x80\x04cbuiltins\ngetattr\nczoneinfo\nZoneInfo\nV_unpickle\n\x86R"
OSLO = b"VEurope/Oslo\nI1\n\x86"

REFUSED: dict[str, tuple[bytes, str]] = {
    "a persistent id": (b"Pid\n.", "PERSID"),
    "a persistent id on the stack": (b"NQ.", "BINPERSID"),
    "an extension of one byte": (b"\x82\x01.", "EXT1"),
    "an extension of two bytes": (b"\x83\x01\x00.", "EXT2"),
    "a buffer from elsewhere": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "a call of getattr": (b"cbuiltins\ngetattr\n(VOslo\nVjoin\ntR.", "names 'builtins.getattr'"),
    "getattr of what is no maker": (b"cbuiltins\ngetattr\n(cos\nsystem\nV__call__\ntR.", "names 'os.system'"),
    "getattr of a maker": (b"\x80\x04cbuiltins\ngetattr\ncdatetime\ndate\nVtoday\n\x86R.", "holds a type"),
    "another attribute of a zone": (b"\x80\x04cbuiltins\ngetattr\nczoneinfo\nZoneInfo\nVkey\n\x86R.", "holds a type"),
    "an attribute of a zone that is made": (
        b"\x80\x04cbuiltins\ngetattr\n" + ZONE[2:] + OSLO + b"RVkey\n\x86R.",
        "names",
    ),
    "an attribute of the method": (b"\x80\x04cbuiltins\ngetattr\n" + ZONE[2:] + b"V__self__\n\x86R.", "holds a type"),
    "another class of time zones": (b"\x80\x04czoneinfo\nreset_tzpath\n)R.", "names 'zoneinfo.reset_tzpath'"),
    "the method of a zone by itself": (ZONE + b".", "holds a type"),
    "the method of a zone in a list": (b"]" + ZONE + b"a.", "holds a type"),
    "the arguments of getattr by themselves": (b"czoneinfo\nZoneInfo\nV_unpickle\n\x86.", "holds a type"),
    "a method made without getattr": (b"czoneinfo\nZoneInfo\nV_unpickle\n\x86" + OSLO + b"R.", "refused"),
    "a method named at once": (
        b"\x80\x04Vzoneinfo\nVZoneInfo._unpickle\n\x93" + OSLO + b"R.",
        "names 'zoneinfo.ZoneInfo._unpickle'",
    ),
    "a zone made by its class": (b"czoneinfo\nZoneInfo\nVEurope/Oslo\n\x85R.", "names 'zoneinfo.ZoneInfo'"),
    "a zone of more arguments": (ZONE + b"VEurope/Oslo\nI1\nN\x87R.", "damaged"),
    "a zone of one argument": (ZONE + b"VEurope/Oslo\n\x85R.", "damaged"),
    "a zone by a number": (ZONE + b"I1\nI1\n\x86R.", "damaged"),
    "a zone whose flag is text": (ZONE + b"VEurope/Oslo\nV1\n\x86R.", "damaged"),
    "a state for a zone": (ZONE + OSLO + b"R}Vkey\nVx\nsb.", "damaged"),
    "a type": (b"cuuid\nUUID\n.", "holds a type"),
    "a type in a list": (b"]cuuid\nUUID\na.", "holds a type"),
    "a state for a type": (b"cuuid\nUUID\nN}Vx\nI1\ns\x86b.", "damaged"),
    "a name that is no text": (b"\x80\x04K\x01K\x02\x93.", "damaged"),
    "a call of what is no name": (b"\x80\x04K\x01)R.", "damaged"),
    "arguments that are no tuple": (b"cuuid\nUUID\n]R.", "damaged"),
    "an empty stack": (b".", "damaged"),
    "no end": (b"N", "damaged"),
    "a mark that was not set": (b"t.", "damaged"),
    "too few for a tuple": (b"N\x86.", "damaged"),
    "a value that was not remembered": (b"h\x07.", "damaged"),
    "an odd number for a dict": (b"(NNNd.", "damaged"),
    "a list as a key": (b"}]Ns.", "damaged"),
    "items for what is no list": (b"NNa.", "damaged"),
    "a bytearray of a size": (b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.", "damaged"),
    "a decimal of something else": (b"cdecimal\nDecimal\n(I1\ntR.", "damaged"),
    "a date that is none": (b"\x80\x04cdatetime\ndate\nC\x04\x07\xea\x02\x1f\x85R.", "damaged"),
    "a timedelta too long": (b"cdatetime\ntimedelta\n(I99999999999\ntR.", "damaged"),
    "a UUID too large": (b"\x80\x04cuuid\nUUID\n)\x81}Vint\nI-1\nsb.", "damaged"),
    "a long bytearray without content": (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "damaged"),
    "tuples of tuples as a key": (b"}N" + b"\x85" * 300_000 + b"Ns.", "tuples of tuples"),
    "tuples of tuples in a set": (b"\x80\x04\x8f(N" + b"\x85" * 300_000 + b"\x90.", "tuples of tuples"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_data_is_refused(name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(UnreadableValue, match=words):
        safe_pickle.loads(data)


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that `ZoneInfo` was asked for."""
    keys: list[str] = []

    def zone(key: str) -> ZoneInfo:
        keys.append(key)
        return ZoneInfo(key)

    monkeypatch.setattr(safe_pickle, "ZoneInfo", zone)
    return keys


@pytest.mark.parametrize(
    "key",
    ["../../etc/passwd", "/etc/passwd", "Europe/../Europe/Oslo", "Europe//Oslo", "Europe/Oslo/", ".", "", "a\0", "a\nb",
     "Europe/Oslo\n", "tzdata.zi", "\ud800", "Ö", "a" * 5000, "a/" * 5000 + "a"],
)  # fmt: skip
def test_what_is_no_name_of_a_zone_leads_to_no_file(key: str, asked_for: list[str]) -> None:
    text = key.encode("utf-8", "surrogatepass")
    with pytest.raises(UnreadableValue, match="damaged"):
        safe_pickle.loads(ZONE + b"X" + struct.pack("<I", len(text)) + text + b"\x88\x86R.")
    assert not asked_for


@pytest.mark.parametrize("key", ["Europe", "Europe/Nowhere", "Europe/Oslo/x", "leapseconds"])
def test_a_zone_that_is_not_here_is_named_as_the_cause(key: str) -> None:
    with pytest.raises(UnreadableValue, match="time zone that this machine does not have"):
        safe_pickle.loads(ZONE + word(key) + b"\x88\x86R.")


def test_many_zones_take_no_time(asked_for: list[str]) -> None:
    names = [f"Etc/GMT+{hour}" for hour in range(13)]  # more than ZoneInfo itself remembers
    safe_pickle._zone_of_this_machine.cache_clear()
    dropped = b"".join(b"N" + ZONE[2:] + b"VEtc/GMT+%d\nI1\n\x86Rs" % (nth % 13) for nth in range(130))
    assert safe_pickle.loads(b"\x80\x04}" + dropped + b".") == {None: ZoneInfo("Etc/GMT+12")}
    assert asked_for == names


def test_many_small_objects_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_pickle, "MAX_OPERATIONS", 1000)
    assert safe_pickle.loads(b"(" + b"]" * 900 + b"l.") == [[]] * 900
    with pytest.raises(UnreadableValue, match="more than 1000 operations"):
        safe_pickle.loads(b"(" + b"]" * 1000 + b"l.")


SAME_HASH = 2**61 - 1
"""Its multiples all have the hash 0 (CPython): a dict of 100,000 of them would take minutes, and all threads wait."""


def number(value: int) -> bytes:
    return pickle.LONG1 + b"\x0c" + value.to_bytes(12, "little")


@pytest.mark.parametrize("into", ["a dict", "a dict, one by one", "a set"])
def test_keys_of_the_same_hash_cannot_take_the_time(into: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_pickle, "MAX_ODD_KEYS", 100)
    begin, add, end = {
        "a dict": (b"}(", b"%bN", b"u."),
        "a dict, one by one": (b"}", b"%bNs", b"."),
        "a set": (b"\x80\x04\x8f(", b"%b", b"\x90."),
    }[into]

    def pickled(step: int, count: int) -> bytes:
        return begin + b"".join(add % number(step * nth) for nth in range(1, count + 1)) + end

    assert len(cast(Any, safe_pickle.loads(pickled(1, 10_000)))) == 10_000
    assert len(cast(Any, safe_pickle.loads(pickled(SAME_HASH, 100)))) == 100
    with pytest.raises(UnreadableValue, match="more than 100 keys"):
        safe_pickle.loads(pickled(SAME_HASH, 101))


def test_a_huge_slot_of_the_memo_costs_nothing() -> None:
    assert safe_pickle.loads(b"Nr\xff\xff\xff\x7f.") is None


@pytest.mark.parametrize("value", [OrderedDict(a=1), 1j, range(3), Level.HIGH, UnreadableValue, len, object()])
def test_objects_are_refused_by_name(value: object) -> None:
    with pytest.raises(UnreadableValue, match=r"names '.+'"):
        safe_pickle.loads(pickle.dumps(value))


@given(plain_values, st.data())
def test_a_damaged_pickle_is_plain_or_refused(value: object, data: st.DataObject) -> None:
    pickled = bytearray(pickle.dumps(value))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(pickled) - 1))
        pickled[place] = data.draw(st.integers(0, 255))
    with suppress(UnreadableValue):
        assert type(safe_pickle.loads(bytes(pickled))) in PLAIN_TYPES


PLAIN_TYPES = {type(None), bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset} | {
    date, datetime, time, timedelta, timezone, Decimal, UUID, ZoneInfo,
}  # fmt: skip


# --- pickles of plain data ----------------------------------------------------------------------------


@given(plain_values, st.sampled_from(PROTOCOLS))
def test_plain_pickles_are_read_as_python_reads_them(value: object, protocol: int) -> None:
    assert same(safe_pickle.loads(pickle.dumps(value, protocol)), value)


@given(json_values, st.integers(0, 3))
def test_json_like_data_is_read_from_every_protocol(value: object, protocol: int) -> None:
    assert same(safe_pickle.loads(pickle.dumps(value, protocol)), value)


@given(plain_values)
def test_optimized_pickles_are_read(value: object) -> None:
    assert same(safe_pickle.loads(pickletools.optimize(pickle.dumps(value))), value)


def test_shared_and_odd_values_are_read() -> None:
    user, now, number = uuid1(), datetime.now(UTC), Decimal("NaN")
    shared = [1]
    value: list[Any] = [shared, shared, user, user, now, now, math.inf, (), set(), b"", bytearray(), 10**1000]
    read: Any = safe_pickle.loads(pickle.dumps(value))
    assert read == value
    assert read[0] is read[1]
    assert str(safe_pickle.loads(pickle.dumps(number))) == "NaN"
    assert math.isnan(safe_pickle.loads(pickle.dumps(math.nan)))  # type: ignore[arg-type]


# --- the cache ----------------------------------------------------------------------------------------


def a_cache(url: str = "redis://127.0.0.1:1/0") -> Cache:
    return Cache(connect(url), CacheCodec("json"), CacheKeys("connectbot", 2))


def test_commands_are_those_of_django_redis() -> None:
    cache = a_cache()
    assert cache.setting("a", 1, ttl_seconds=1.5) == ("SET", "connectbot:2:a", 1, "PX", 1500)
    assert cache.setting("a", "b", ttl_seconds=None) == ("SET", "connectbot:2:a", b'"b"')
    assert cache.setting("a", 1, ttl_seconds=0) == ("DEL", "connectbot:2:a")
    assert cache.setting("a", 1, ttl_seconds=-1) == ("DEL", "connectbot:2:a")
    assert cache.deleting("a", "b") == ("DEL", "connectbot:2:a", "connectbot:2:b")


def test_nothing_asked_for_needs_no_redis() -> None:
    assert a_cache().delete() == 0


def test_a_redis_that_is_away_is_named_in_our_words() -> None:
    cache = a_cache()
    calls: list[Callable[[], object]] = [
        lambda: cache.get("a"),
        lambda: cache.set("a", 1, 1),
        lambda: cache.delete("a"),
        lambda: cache.ttl("a"),
    ]
    for call in calls:
        with pytest.raises(RedisUnavailable):
            call()
