"""One Redis, two readers: the cache of a real Django with django-redis, and ours."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectbot.cache import Cache, CacheCodec
from connectbot.cache_keys import CacheKeys
from connectbot.errors import UnreadableValue
from connectbot.redis_client import RedisClient
from tests.support import joined

pytest.importorskip("django_redis", reason="needs the extra `django`")

from django.conf import settings as django_settings
from django.core.cache import CacheHandler

PREFIXES = ("", "connectbot")  # the summary's snippet and the deployed site (contract v21)
SERIALIZERS = ("pickle", "json")

# The client is made once and emptied by no one in between: each example writes before it reads.
together = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

text = st.text(st.characters(codec=None, exclude_categories=())).map(joined)
big_text = st.builds(lambda unit, times: unit * times, st.text(min_size=1, max_size=4), st.integers(0, 65_000))
noise = st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(), st.integers(0, 1_000_000))
numbers = st.integers() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False)
scalars = st.none() | st.booleans() | numbers | text
nested = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=40)
json_values = nested | big_text | noise.map(bytes.hex)
times = st.datetimes(timezones=st.none() | st.timezones())
plain_values = json_values | noise | st.tuples(scalars, scalars) | st.sets(st.integers()) | times
VALUES = {"pickle": plain_values, "json": json_values}


@dataclass(frozen=True)
class Pair:
    """Django's cache and ours, set up alike."""

    django: Any
    codec: CacheCodec
    ours: Cache


@pytest.fixture(params=list(product(PREFIXES, SERIALIZERS)), ids=lambda values: "-".join(values) or "bare")
def pair(request: pytest.FixtureRequest, client: RedisClient, redis_url: str) -> Iterator[Pair]:
    prefix, serializer = request.param
    django = django_cache(redis_url, prefix=prefix, serializer=serializer)
    codec = CacheCodec(serializer)
    yield Pair(django, codec, Cache(client, codec, CacheKeys(prefix)))
    django.close()
    django.client.get_client().connection_pool.disconnect()


def django_cache(url: str, *, prefix: str, serializer: str) -> Any:
    """The cache `default` of a site with v21's CACHES."""
    if not django_settings.configured:
        django_settings.configure()
    options: dict[str, Any] = {
        "CLIENT_CLASS": "django_redis.client.DefaultClient",
        "CONNECTION_POOL_KWARGS": {"max_connections": 20},
        "COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor",
        "IGNORE_EXCEPTIONS": True,
    }
    if serializer == "json":
        options["SERIALIZER"] = "django_redis.serializers.json.JSONSerializer"
    site: dict[str, Any] = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "OPTIONS": options}
    if prefix:
        site |= {"KEY_PREFIX": prefix, "TIMEOUT": 300}
    return CacheHandler({"default": site})["default"]


def values_of(pair: Pair) -> st.SearchStrategy[object]:
    return VALUES[pair.codec.serializer]


@together
@given(data=st.data())
def test_what_django_writes_we_read(pair: Pair, data: st.DataObject) -> None:
    value = data.draw(values_of(pair))
    assert pair.django.set("key", value)
    read = pair.ours.get("key")
    assert (type(read), read) == (type(value), value)


@together
@given(data=st.data())
def test_what_we_write_django_reads(pair: Pair, data: st.DataObject) -> None:
    value = data.draw(values_of(pair))
    pair.ours.set("key", value, 300)
    read = pair.django.get("key")
    assert (type(read), read) == (type(value), value)


@together
@given(data=st.data())
def test_both_codecs_choose_the_same_form(pair: Pair, data: st.DataObject) -> None:
    value = data.draw(nested)
    codec, theirs = pair.codec, pair.django.client
    ours, expected = codec.encode(value), theirs.encode(value)
    assert type(ours) is type(expected)
    assert codec.decode(_stored(expected)) == theirs.decode(_stored(ours)) == value


def _stored(encoded: bytes | int) -> bytes:
    return str(encoded).encode() if isinstance(encoded, int) else encoded


def test_v21s_menu_and_its_old_managers_values(pair: Pair) -> None:
    menu = '{"data": {"type": "main", "options": [{"label": "👤 Профиль"}]}, "user_id": 7, "cached_at": 0}'
    employee = {"id": 7, "name": "Анна", "interests": ["coffee"], "active": True, "rating": 4.5, "boss": None}
    for value in (menu, employee, [1, 2, 3], 42, -1, True, "", 10**100):
        pair.django.set("menu:user:7:main", value, 1800)
        assert pair.ours.get("menu:user:7:main") == value
        pair.ours.set("menu:user:7:main", value, 1800)
        assert pair.django.get("menu:user:7:main") == value


def test_numbers_can_be_counted_on_both_sides(pair: Pair) -> None:
    pair.ours.set("count", 1, None)
    assert pair.django.incr("count") == 2
    assert pair.ours.get("count") == 2


def test_one_that_cannot_be_read_is_named(pair: Pair, client: RedisClient) -> None:
    physical = pair.django.make_key("bad")
    client.set(physical, b"neither a pickle nor JSON")
    with pytest.raises(UnreadableValue, match=f"{physical} cannot be read as .* CACHE_SERIALIZER"):
        pair.ours.get("bad")


def test_lifetimes_are_seen_alike(pair: Pair) -> None:
    pair.ours.set("short", 1, 100)
    pair.ours.set("for ever", 1, None)
    assert 90 < pair.django.ttl("short") <= 100
    assert pair.django.ttl("for ever") is None
    assert 90 < (pair.ours.ttl("short") or 0) <= 100
    assert pair.ours.ttl("for ever") is None
    assert pair.ours.ttl("missing") == 0


def test_what_is_deleted_is_gone_for_both(pair: Pair) -> None:
    pair.django.set_many({"a": 1, "b": 2, "c": 3})
    assert pair.ours.delete("a", "b", "missing") == 2
    assert pair.django.get_many(["a", "b", "c"]) == {"c": 3}
    pair.ours.set("c", 4, 0)
    assert pair.django.get("c", "gone") == "gone"


@pytest.mark.parametrize("default", [None, "nothing"])
def test_a_default_is_for_what_is_missing_only(pair: Pair, default: object) -> None:
    pair.django.set("none", None)
    assert pair.ours.get("none", "default") is None
    assert pair.ours.get("missing", default) == default
