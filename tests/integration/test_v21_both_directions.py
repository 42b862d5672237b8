"""A process with v21's own files and one with ours, on one Redis: each reads what the other has written.

v21's side is what its files do: plain ``cache.set`` and ``cache.get`` of a real Django with django-redis.
"""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectbot.compat import RedisManager
from connectbot.integration import RedisIntegration
from connectbot.integration.site import default_site
from connectbot.settings import Settings
from tests.support import joined

pytest.importorskip("django_redis", reason="needs the extra `django`")

from django.conf import settings as django_settings
from django.core.cache import CacheHandler
from django.db.models import TextChoices
from django.utils import timezone
from django.utils.safestring import mark_safe

PREFIXES = ("", "connectbot")  # the summary's snippet and the deployed site (contract v21)
SERIALIZERS = ("pickle", "json")

# The facade is made once and its Redis emptied by no one in between: each example writes before it reads.
together = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])

text = st.text(st.characters(codec=None, exclude_categories=())).map(joined)  # lone surrogates too: v21 escapes them
big_text = st.builds(lambda unit, times: unit * times, st.text(min_size=1, max_size=4), st.integers(0, 250_000))
noise = st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(), st.integers(0, 500_000))
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False)
nested = st.recursive(
    scalars | text, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=30
)
containers = (
    st.dictionaries(text, nested | big_text | noise.map(bytes.hex), max_size=4)
    | st.lists(nested, max_size=5)
    | st.tuples(nested, nested)
)
times = st.datetimes(timezones=st.none() | st.timezones())
others = scalars | text | big_text | noise | times | st.uuids() | st.sets(st.integers())
keys = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


class V21:
    """What v21's files do with Django's cache."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache

    def store_temp_data(self, namespace: str, key: str, data: Any) -> None:
        in_json = isinstance(data, (dict, list, tuple))
        record = {
            "data": data if in_json else pickle.dumps(data).hex(),
            "type": type(data).__name__,
            "created_at": datetime.now().isoformat(),  # noqa: DTZ005  naive, as v21 writes it
            "namespace": namespace,
            "serialized": in_json,
        }
        self.cache.set(f"temp:{namespace}:{key}", json.dumps(record), 1800)

    def get_temp_data(self, namespace: str, key: str) -> Any:
        record = json.loads(self.cache.get(f"temp:{namespace}:{key}"))
        return record["data"] if record["serialized"] else pickle.loads(bytes.fromhex(record["data"]))

    def set_user_menu(self, user_id: int, menu: Any) -> None:
        record = {"data": menu, "user_id": user_id, "menu_type": "main", "cached_at": 0}
        self.cache.set(f"menu:user:{user_id}:main", json.dumps(record), 1800)

    def get_user_menu(self, user_id: int) -> Any:
        return json.loads(self.cache.get(f"menu:user:{user_id}:main"))


@dataclass(frozen=True)
class Both:
    v21: V21
    ours: RedisIntegration
    serializer: str


@pytest.fixture(params=list(product(PREFIXES, SERIALIZERS)), ids=lambda values: "-".join(values) or "bare")
def both(request: pytest.FixtureRequest, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    prefix, serializer = request.param
    ours = Settings(redis_url=redis_url, cache_key_prefix=prefix, cache_serializer=serializer)
    monkeypatch.setattr(default_site, "_load", lambda: ours)
    facade = RedisIntegration(ours)
    cache = django_cache(redis_url, prefix=prefix, serializer=serializer)
    yield Both(V21(cache), facade, serializer)
    facade.close()
    default_site.close()
    cache.close()
    cache.client.get_client().connection_pool.disconnect()


def django_cache(redis_url: str, *, prefix: str, serializer: str) -> Any:
    """A cache of a real Django, with v21's CACHES."""
    if not django_settings.configured:
        django_settings.configure()
    options: dict[str, Any] = {
        "CLIENT_CLASS": "django_redis.client.DefaultClient",
        "CONNECTION_POOL_KWARGS": {"max_connections": 20, "protocol": 2},
        "COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor",
        "IGNORE_EXCEPTIONS": True,
    }
    if serializer == "json":
        options["SERIALIZER"] = "django_redis.serializers.json.JSONSerializer"
    backend = "django_redis.cache.RedisCache"
    caches = {"default": {"BACKEND": backend, "LOCATION": redis_url, "KEY_PREFIX": prefix, "OPTIONS": options}}
    return CacheHandler(caches)["default"]


@together
@given(key=keys, data=containers | others)
def test_temporary_data(both: Both, key: str, data: Any) -> None:
    expected = json.loads(json.dumps(data)) if isinstance(data, (dict, list, tuple)) else data
    both.v21.store_temp_data("user_7", key, data)
    assert both.ours.get_user_manager(7).get_data(key) == expected
    both.v21.cache.clear()
    assert both.ours.get_user_manager(7).store_data(key, data) is True
    assert both.v21.get_temp_data("user_7", key) == expected


class Step(TextChoices):
    NAME = "name", "Имя"


@pytest.mark.parametrize("state", [Step.NAME, mark_safe("<b>name</b>")])
def test_what_django_makes_of_text_is_a_state_of_a_conversation(both: Both, state: str) -> None:
    assert both.ours.get_user_manager(7).store_conversation_state(state) is True
    assert both.ours.get_user_manager(7).get_conversation_state() == state
    assert both.v21.get_temp_data("user_7", "conversation_state") == state


@together
@given(user_id=st.integers(-(2**63), 2**63 - 1), menu=st.dictionaries(text, nested | big_text, max_size=4))
def test_menus(both: Both, user_id: int, menu: dict[str, Any]) -> None:
    both.v21.set_user_menu(user_id, menu)
    assert both.ours.menu_cache.get_user_menu(user_id) == {
        "data": menu,
        "user_id": user_id,
        "menu_type": "main",
        "cached_at": 0,
    }
    assert user_id in both.ours.menu_cache.get_cached_users()
    both.v21.cache.clear()
    assert both.ours.menu_cache.set_user_menu(user_id, menu) is True
    assert both.v21.get_user_menu(user_id) == both.ours.menu_cache.get_user_menu(user_id)
    assert both.v21.get_user_menu(user_id)["data"] == menu


@together
@given(value=nested | big_text | noise.map(bytes.hex))
def test_the_old_managers_values(both: Both, value: Any) -> None:
    for key, read, write in (
        ("emp:7", RedisManager.get_employee_data, RedisManager.set_employee_data),
        ("int:7", RedisManager.get_employee_interests, RedisManager.set_employee_interests),
        ("act:7:participants", RedisManager.get_activity_participants, RedisManager.set_activity_participants),
        ("sess:7", RedisManager.get_user_session, RedisManager.set_user_session),
    ):
        both.v21.cache.set(key, value, 1800)
        assert read(7) == value
        both.v21.cache.delete(key)
        assert write(7, value) is True
        assert both.v21.cache.get(key, "missing") == value


def test_the_sites_local_time_comes_back(both: Both) -> None:
    with timezone.override("Europe/Moscow"):
        now = timezone.localtime(datetime.now(UTC))
    assert RedisManager.set_employee_data(7, {"seen": now}) is True
    in_json = both.serializer == "json"
    assert RedisManager.get_employee_data(7) == {"seen": now.isoformat() if in_json else now}
    assert both.ours.get_user_manager(7).store_data("seen", now) is True
    assert both.v21.get_temp_data("user_7", "seen") == both.ours.get_user_manager(7).get_data("seen") == now


def test_a_mebibyte_and_nothing(both: Both) -> None:
    for data in ({"text": "я" * 524_288}, {}, [], "", "x" * 1_048_576, 0):
        both.v21.store_temp_data("default", "key", data)
        assert both.ours.temp_data.get_temp_data("key") == data
        assert both.ours.temp_data.store_temp_data("key", data) is True
        assert both.v21.get_temp_data("default", "key") == data


def test_forms_that_v21_wrote_are_cleared_with_ours(both: Both) -> None:
    manager = both.ours.get_user_manager(7)
    both.v21.store_temp_data("user_7", "form_data_1", {"a": 1})
    manager.store_form_data("2", {"a": 2})
    both.v21.store_temp_data("user_77", "form_data_1", {"a": 77})
    manager.store_conversation_state({"at": "step 2"})
    assert manager.clear_all_form_data() is True
    assert manager.get_form_data("1") is None
    assert manager.get_form_data("2") is None
    assert both.ours.get_user_manager(77).get_form_data("1") == {"a": 77}
    assert manager.get_conversation_state() == {"at": "step 2"}


def test_lifetimes_are_v21s(both: Both) -> None:
    manager, ttl = both.ours.get_user_manager(7), both.v21.cache.ttl
    manager.store_form_data("1", {})
    manager.store_conversation_state({})
    both.ours.temp_data.store_temp_data("k", {})
    both.ours.temp_data.store_temp_data("short", {}, timeout=300)
    RedisManager.set_employee_data(7, {})
    RedisManager.set_employee_interests(7, [])
    RedisManager.set_activity_participants(7, [])
    RedisManager.set_user_session(7, {})
    both.ours.menu_builder.build_main_menu(7)
    lifetimes = {
        "temp:user_7:form_data_1": 3600,
        "temp:user_7:conversation_state": 7200,
        "temp:default:k": 1800,
        "temp:default:short": 300,
        "emp:7": 3600,
        "int:7": 1800,
        "act:7:participants": 900,
        "sess:7": 7200,
        "menu:user:7:main": 1800,
    }
    for key, seconds in lifetimes.items():
        assert seconds - 30 < ttl(key) <= seconds, key
