"""Values of the cache made of a part that is compressed once and a part that differs, as django-redis reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectbot.cache import BLANK, Cache, CacheCodec, Stencil
from connectbot.cache_keys import CacheKeys
from connectbot.keys import Keys
from connectbot.menu_warmer import menu_start
from connectbot.menus import ADMIN_ROLES, BUILDERS, Menus
from connectbot.redis_client import connect
from connectbot.users import DEFAULT_ROLE

pytest.importorskip("django_redis", reason="needs the extra `django`")

from django_redis.compressors.zlib import ZlibCompressor
from django_redis.serializers.json import JSONSerializer
from django_redis.serializers.pickle import PickleSerializer

READERS = {"pickle": PickleSerializer({}), "json": JSONSerializer({})}
serializers = st.sampled_from(sorted(READERS))
texts = st.text(st.characters(codec="utf-8"), max_size=200)
parts = st.text(st.characters(codec="utf-8", exclude_characters=BLANK), max_size=40)
ids = st.integers(-(2**63), 2**63 - 1)
roles = st.sampled_from(sorted({DEFAULT_ROLE, *ADMIN_ROLES})) | st.text(st.characters(codec="utf-8"), min_size=1)


def as_django_reads(serializer: str, raw: bytes) -> Any:
    """Django-redis' own decompressor (which checks the sum) and serializer."""
    return READERS[serializer].loads(ZlibCompressor({}).decompress(raw))


def filled(stencil: Stencil, word: str) -> bytes:
    """What lua/warm.lua makes of a stencil."""
    digits = [ord(character) - ord("0") for character in word]
    low = (stencil.low + 2 * sum(digits)) % 65521
    weighed = sum(nth * digit for nth, digit in enumerate(digits, 1))
    high = (stencil.high + stencil.weight * sum(digits) - 2 * weighed) % 65521
    text = word.encode()
    checksum = high.to_bytes(2, "big") + low.to_bytes(2, "big")
    return b"".join((stencil.first, text, stencil.second, text, stencil.third, checksum))


@given(serializers, texts, texts)
def test_a_text_in_two_parts_is_one_for_django(serializer: str, start: str, end: str) -> None:
    assert as_django_reads(serializer, CacheCodec(serializer).ending(end).after(start)) == start + end


@given(serializers, st.tuples(parts, parts, parts), texts, ids)
def test_a_filled_stencil_is_one_text_for_django(
    serializer: str, start: tuple[str, str, str], end: str, number: int
) -> None:
    stencil = CacheCodec(serializer).ending(end).stencil(BLANK.join(start), len(str(number)))
    assert as_django_reads(serializer, filled(stencil, str(number))) == str(number).join(start) + end


@given(serializers, roles, st.sampled_from(sorted(BUILDERS)), ids, st.floats(0, 1e11))
def test_every_menu_of_every_role_is_what_was_built(
    serializer: str, role: str, menu_type: str, user_id: int, now: float
) -> None:
    client = connect("redis://127.0.0.1:1/0")  # nobody is asked
    cache = Cache(client, CacheCodec(serializer), CacheKeys())
    menus = Menus(client, cache=cache, keys=Keys(), cache_keys=CacheKeys(), warm=("main",), ttl_seconds=60)
    stencil = menus.ending(menu_type, role).stencil(menu_start(now), len(str(user_id)))
    expected = {
        "data": BUILDERS[menu_type](user_id, role),
        "user_id": user_id,
        "menu_type": menu_type,
        "cached_at": now,
    }
    assert json.loads(as_django_reads(serializer, filled(stencil, str(user_id)))) == expected
