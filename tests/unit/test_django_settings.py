"""The settings that a site gets from us, and those that we take from a site."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from connectbot import enqueueing
from connectbot.errors import SettingsError
from connectbot.integration.site import generation
from connectbot.matching import caller
from connectbot.redis_client import connect
from connectbot.settings import Settings

pytest.importorskip("django_redis", reason="needs the extra `django`")

from django.conf import settings as django_settings
from django.core.cache import caches
from django.core.signals import setting_changed
from django.test import override_settings
from django_redis.cache import RedisCache
from django_redis.pool import ConnectionFactory

from connectbot.django import redis_settings, site_settings
from connectbot.django.apps import reopen_site
from connectbot.django.checks import check_same_cache

# The options in the snippet of v21's summary; ours has more.
V21_OPTIONS = {
    "CLIENT_CLASS": "django_redis.client.DefaultClient",
    "COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor",
    "IGNORE_EXCEPTIONS": True,
}


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current directory, and none of our variables in the environment."""
    for field in dataclasses.fields(Settings):
        monkeypatch.delenv(field.metadata["variable"], raising=False)
    monkeypatch.chdir(tmp_path)
    if not django_settings.configured:
        django_settings.configure()


def cache_of(settings: dict[str, Any]) -> dict[str, Any]:
    cache: dict[str, Any] = settings["CACHES"]["default"]
    return cache


def test_it_is_what_v21s_settings_have() -> None:
    made = redis_settings()
    cache = cache_of(made)
    options = cache["OPTIONS"]
    assert made["REDIS_URL"] == cache["LOCATION"] == "redis://localhost:6379/0"
    assert made["JAVA_SERVICE_URL"] == "http://localhost:8080"
    assert made["SESSION_ENGINE"] == "django.contrib.sessions.backends.cache"
    assert made["SESSION_CACHE_ALIAS"] == "default"
    assert cache["BACKEND"] == "django_redis.cache.RedisCache"
    assert V21_OPTIONS.items() <= options.items()
    assert options["CONNECTION_POOL_KWARGS"]["max_connections"] == 20
    assert (cache["KEY_PREFIX"], cache["VERSION"], cache["TIMEOUT"]) == ("", 1, 300)
    assert "SERIALIZER" not in options


def test_it_follows_the_env_file(tmp_path: Path) -> None:
    lines = ["REDIS_URL=redis://elsewhere:1/2", "JAVA_SERVICE_URL=http://matching:8081", "CACHE_KEY_PREFIX=connectbot"]
    (tmp_path / ".env").write_text("\n".join([*lines, "CACHE_VERSION=3", "CACHE_SERIALIZER=json", ""]))
    made = redis_settings()
    cache = cache_of(made)
    assert made["REDIS_URL"] == cache["LOCATION"] == "redis://elsewhere:1/2"
    assert made["JAVA_SERVICE_URL"] == "http://matching:8081"
    assert (cache["KEY_PREFIX"], cache["VERSION"]) == ("connectbot", 3)
    assert cache["OPTIONS"]["SERIALIZER"] == "django_redis.serializers.json.JSONSerializer"


def test_what_the_site_says_wins() -> None:
    made = redis_settings(
        Settings(cache_version=2),
        serializer="json",
        timeout_seconds=None,
        max_connections=50,
        redis_url="redis://here:1/0",
        cache_key_prefix="site",
    )
    cache = cache_of(made)
    assert (cache["LOCATION"], cache["KEY_PREFIX"], cache["VERSION"]) == ("redis://here:1/0", "site", 2)
    assert cache["TIMEOUT"] is None
    assert cache["OPTIONS"]["CONNECTION_POOL_KWARGS"]["max_connections"] == 50
    assert cache["OPTIONS"]["SERIALIZER"].endswith("JSONSerializer")


def test_an_unknown_serializer_is_refused() -> None:
    with pytest.raises(SettingsError, match="CACHE_SERIALIZER must be pickle or json"):
        redis_settings(serializer="yaml")


def test_sentinels_are_given_in_the_form_of_django_redis() -> None:
    cache = cache_of(redis_settings(redis_url="sentinel://me:word@h1:1,h2/service/3?sentinel_password=other"))
    assert cache["LOCATION"] == "redis://service/3"
    assert {"username": "me", "password": "word"}.items() <= cache["OPTIONS"]["CONNECTION_POOL_KWARGS"].items()
    assert cache["OPTIONS"]["SENTINEL_KWARGS"]["password"] == "other"
    assert cache["OPTIONS"]["SENTINELS"] == [("h1", 1), ("h2", 26379)]
    assert cache["OPTIONS"]["CONNECTION_FACTORY"] == "django_redis.pool.SentinelConnectionFactory"


@pytest.mark.parametrize(
    "url", ["redis://a:1/2", "rediss://u:p@a:1/2", "unix:///run/redis.sock?db=1", "sentinel://a:1/s/2"]
)
@pytest.mark.parametrize("serializer", ["pickle", "json"])
def test_a_site_made_from_settings_tells_the_same_settings(url: str, serializer: str) -> None:
    ours = Settings(redis_url=url, cache_serializer=serializer, cache_key_prefix="p", java_service_url="http://j:1")
    with override_settings(**redis_settings(ours)):
        assert site_settings() == ours


def test_a_site_with_v21s_own_settings_needs_no_variable_for_its_prefix() -> None:
    deployed = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://a:1/0", "KEY_PREFIX": "connectbot"}
    with override_settings(CACHES={"default": {**deployed, "TIMEOUT": 300, "OPTIONS": dict(V21_OPTIONS)}}):
        assert site_settings() == Settings(redis_url="redis://a:1/0", cache_key_prefix="connectbot")


def test_a_sites_own_class_of_django_redis_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_cache")
    module.__dict__["Own"] = type("Own", (RedisCache,), {})
    monkeypatch.setitem(sys.modules, "own_cache", module)
    own = {"BACKEND": "own_cache.Own", "LOCATION": "redis://a:1/0", "KEY_PREFIX": "own"}
    with override_settings(CACHES={"default": own}):
        assert site_settings().cache_key_prefix == "own"


def test_of_several_servers_the_first_is_written_to() -> None:
    for location in ("redis://a:1,redis://b:1", ["redis://a:1", "redis://b:1"]):
        with override_settings(CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location}}):
            assert site_settings().redis_url == "redis://a:1"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://a:1/0", "redis://%C3%BC:p%40%2F%23@a:1/0"),
        ("unix:///run/r.sock?db=1", "unix://%C3%BC:p%40%2F%23@/run/r.sock?db=1"),
        ("redis://:own@a:1/0", "redis://%C3%BC:own@a:1/0"),
        ("redis://me:own@a:1/0", "redis://me:own@a:1/0"),
    ],
)
@pytest.mark.parametrize("named_by_the_site", [True, False])
@pytest.mark.parametrize("in_the_pool", [True, False])
def test_the_login_in_the_options_of_django_redis_is_ours_too(
    url: str, told: str, named_by_the_site: bool, in_the_pool: bool
) -> None:
    login = {"username": "ü", "password": "p@/#"}
    if in_the_pool:
        options = {**V21_OPTIONS, "PASSWORD": "unused", "CONNECTION_POOL_KWARGS": login}
    else:
        options = {**V21_OPTIONS, **{name.upper(): value for name, value in login.items()}}
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "OPTIONS": options}
    with override_settings(CACHES={"default": cache}, **({"REDIS_URL": url} if named_by_the_site else {})):
        assert site_settings().redis_url == told
    assert decided(connect(told).connection_pool) == decided(pool_of_django_redis(url, options))


def pool_of_django_redis(url: str, options: dict[str, Any]) -> Any:
    factory = ConnectionFactory(options)
    return factory.get_connection_pool(factory.make_connection_params(url))


def decided(pool: Any) -> tuple[Any, ...]:
    told = pool.connection_kwargs
    return told.get("username"), told.get("password"), told.get("db", 0)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://a:1", "redis://a:1/3"),
        ("redis://:own@a:1/?timeout=1", "redis://:own@a:1/3?timeout=1"),
        ("unix:///run/r.sock", "unix:///run/r.sock?db=3"),
        ("unix://:own@/run/r.sock?timeout=1", "unix://:own@/run/r.sock?timeout=1&db=3"),
        ("redis://a:1/0", "redis://a:1/0"),
        ("redis://a:1?db=0", "redis://a:1?db=0"),
    ],
)
def test_the_database_that_the_pool_is_told_is_ours_too(url: str, told: str) -> None:
    options = {**V21_OPTIONS, "CONNECTION_POOL_KWARGS": {"db": 3}}
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "OPTIONS": options}
    with override_settings(CACHES={"default": cache}):
        assert site_settings().redis_url == told
    assert decided(connect(told).connection_pool) == decided(pool_of_django_redis(url, options))


def test_a_prefix_of_none_is_what_django_makes_of_it() -> None:
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://a:1/0", "KEY_PREFIX": None}
    with override_settings(CACHES={"default": cache}):
        assert site_settings().cache_keys.physical("k") == caches["default"].make_key("k") == "None:1:k"


@pytest.fixture
def app() -> Iterator[None]:
    """What ``"connectbot.django"`` in INSTALLED_APPS hears."""
    setting_changed.connect(reopen_site)
    yield
    setting_changed.disconnect(reopen_site)


def test_what_is_enqueued_and_asked_for_goes_to_the_redis_that_the_site_has_now(app: None) -> None:
    def urls() -> set[str]:
        settings, _ = enqueueing._opened(generation())
        return {settings.redis_url, caller._caller(generation())._clients.settings.redis_url}

    for url in ("redis://site:1/0", "redis://site:2/0"):
        with override_settings(REDIS_URL=url):
            assert urls() == {url}
            opened = caller._caller(generation())
            assert opened._is_current()
        assert not opened._is_current()
    assert urls() == {Settings().redis_url}


def test_a_cache_that_is_not_in_redis_tells_nothing() -> None:
    with override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}):
        assert site_settings() == Settings()


# --- the system check -------------------------------------------------------------------------------------


@pytest.fixture
def checked(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """What the check says of the settings that the test names."""
    with override_settings(**request.param):
        yield check_same_cache()


@pytest.mark.parametrize("checked", [redis_settings(Settings())], indirect=True)
def test_the_check_has_nothing_to_say_of_our_settings(checked: list[Any]) -> None:
    assert checked == []


@pytest.mark.parametrize(
    "checked",
    [redis_settings(Settings(cache_key_prefix="site", redis_url="redis://:word@other:1/0"), serializer="json")],
    indirect=True,
)
def test_the_check_says_what_the_worker_would_do_otherwise(checked: list[Any]) -> None:
    assert {message.id for message in checked} == {"connectbot.W001"}
    said = " ".join(f"{message.msg} {message.hint}" for message in checked)
    assert "Set CACHE_KEY_PREFIX in the environment or in .env to what CACHES['default'] says: 'site'" in said
    assert "Set CACHE_SERIALIZER" in said
    assert "Set REDIS_URL" in said
    assert "word" not in said


@pytest.mark.parametrize(
    "checked", [{"CACHES": {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}}], indirect=True
)
def test_the_check_names_a_cache_that_is_not_redis(checked: list[Any]) -> None:
    assert [message.id for message in checked] == ["connectbot.W002"]


def test_the_check_names_forms_that_the_worker_cannot_read() -> None:
    made = redis_settings()
    cache_of(made)["OPTIONS"]["SERIALIZER"] = "django_redis.serializers.msgpack.MSGPackSerializer"
    del cache_of(made)["OPTIONS"]["COMPRESSOR"]
    cache_of(made)["OPTIONS"]["CLIENT_CLASS"] = "django_redis.client.HerdClient"
    cache_of(made)["KEY_FUNCTION"] = "site.keys.make"
    with override_settings(**made):
        said = [message.msg for message in check_same_cache()]
    assert len(said) == 4
    assert all("does not know" in message for message in said)


def test_the_check_names_what_only_django_redis_knows_of_the_way_to_redis() -> None:
    ways = {"host": "a", "port": 1, "ssl_cert_reqs": None, "ssl_ca_certs": "/ca.pem"}
    made = redis_settings()
    cache_of(made)["OPTIONS"]["CONNECTION_POOL_KWARGS"] |= ways
    with override_settings(**made):
        said = check_same_cache()
    assert [message.id for message in said] == ["connectbot.W004"] * len(ways)
    assert all(f"has {name} in" in message.msg for name, message in zip(ways, said, strict=True))
    assert "/ca.pem" not in str(said)


def test_the_check_has_nothing_to_say_of_sentinels_over_tls() -> None:
    with override_settings(**redis_settings(redis_url="sentinel://me:word@h1:1/s/0?ssl_cert_reqs=none")):
        assert check_same_cache() == []


@pytest.mark.parametrize("options", [{"PASSWORD": "word"}, {"CONNECTION_POOL_KWARGS": {"password": "word"}}])
def test_the_check_sees_a_login_that_the_worker_lacks(options: dict[str, Any]) -> None:
    made = redis_settings()
    cache_of(made)["OPTIONS"].update(options)
    cache_of(made)["VERSION"] = "1"  # Django writes it as the number
    with override_settings(**made):
        [message] = check_same_cache()
    assert "REDIS_URL" in message.msg
    assert "word" not in f"{message.msg} {message.hint}"


def test_the_check_names_a_variable_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_VERSION", "two")
    with override_settings(**redis_settings(Settings())):
        [message] = check_same_cache()
    assert (message.id, "CACHE_VERSION must be a number" in message.msg) == ("connectbot.E001", True)
