"""The example site does what v21's summary says, on the settings of ours and on those that v21 has."""

from __future__ import annotations

import http.cookiejar
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from tests import v21_snippets
from tests.django_site import Site
from tests.redis_servers import ReplicatedRedis
from tests.support import Worker, wait_until

pytest.importorskip("django_redis", reason="needs the extra `django`")

V21_SETTINGS = f"""
from decouple import config
from config.settings import *
{v21_snippets.SETTINGS}
"""
DEPLOYED_SETTINGS = V21_SETTINGS + "CACHES['default'].update(KEY_PREFIX='connectbot', TIMEOUT=300)\n"

PREAMBLE = """
import json
from django.core.cache import cache
from django.utils.timezone import now

user_id = 7
options = [{'key': 'k', 'label': '☕ Кофе', 'action': 'a'}]
menu_data = {'type': 'main', 'user_id': 7, 'role': 'employee', 'options': options}
form_data = {'имя': 'Анна', 'интересы': ['кофе', 'шахматы']}
state = 'выбор_даты'
data = [1, 2.5, None, 'три']
"""


class Ear:
    """Hears all that is published on v21's channels, and finds it in the stream."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe("connectbot:*")
        self._heard: list[dict[str, Any]] = []

    def events(self, *types: str) -> list[dict[str, Any]]:
        """One event of each of these types, in this order: heard on the channel that it names, and in the stream."""
        wait_until(
            lambda: set(types) <= {event["type"] for event in self._listen()}, deadline_seconds=10, what=str(types)
        )
        found = [next(event for event in self._heard if event["type"] == type_) for type_ in types]
        assert all(event in self.stream() for event in found)
        return found

    def stream(self) -> list[dict[str, Any]]:
        """All events in the stream."""
        return [json.loads(fields[b"event"]) for _, fields in self._client.xrange("connectbot:events")]

    def close(self) -> None:
        """Stop listening."""
        self._pubsub.close()

    def _listen(self) -> list[dict[str, Any]]:
        while message := self._pubsub.get_message():
            event = json.loads(message["data"])
            assert event["channel"] == message["channel"].decode()
            self._heard.append(event)
        return self._heard


@pytest.fixture
def ear(client: RedisClient) -> Iterator[Ear]:
    ear = Ear(client)
    yield ear
    ear.close()


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    """The example site as it is, with nothing but v21's two lines in its .env."""
    return Site.on(redis_url, tmp_path / "site")


@pytest.fixture(params=["ours", "ours with a prefix", "ours with JSON", "v21's", "v21's as deployed"])
def any_site(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Site:
    """The example site with each kind of settings."""
    variables = {
        "ours with a prefix": {"CACHE_KEY_PREFIX": "connectbot"},
        "ours with JSON": {"CACHE_SERIALIZER": "json"},
    }
    site = Site.on(redis_url, tmp_path / "site", **variables.get(request.param, {}))
    if request.param.startswith("v21's"):
        site.add_settings("v21", DEPLOYED_SETTINGS if "deployed" in request.param else V21_SETTINGS)
    return site


# --- the snippets of the summary --------------------------------------------------------------------------


def told(site: Site, snippet: str, *expressions: str) -> Any:
    """Run a snippet; answer the values of some expressions after it."""
    code = f"{PREAMBLE}\n{snippet}\nprint(json.dumps([{', '.join(expressions)}]))\n"
    return json.loads(site.shell(code).splitlines()[-1])


ALL_COMPONENTS = ["cache", "events", "temp_data", "health"]
IMPORT = "from employees.redis_integration import redis_integration\n"
CACHED_MENU = "json.loads(cache.get('menu:user:7:main'))['data']"


def test_menus_are_stored_and_read(any_site: Site, client: RedisClient, request: pytest.FixtureRequest) -> None:
    store_and_read, _, _ = v21_snippets.MENU_CACHE.partition("# Построить")
    cached, stored = told(any_site, store_and_read, "menu", CACHED_MENU)
    assert cached["data"] == stored
    assert stored["options"][0]["label"] == "☕ Кофе"
    assert (cached["user_id"], cached["menu_type"]) == (7, "main")
    assert abs(cached["cached_at"] - time.time()) < 60
    prefix = (
        "connectbot" if request.node.callspec.params["any_site"] in ("ours with a prefix", "v21's as deployed") else ""
    )
    assert client.keys("*menu:user:7:main") == [f"{prefix}:1:menu:user:7:main".encode()]


def test_menus_are_built(any_site: Site) -> None:
    expressions = "menu", CACHED_MENU, "cache.ttl('menu:user:7:main')"
    menu, cached, lifetime = told(any_site, v21_snippets.MENU_CACHE, *expressions)
    keys = ["profile", "activities", "preferences", "admin_panel", "manage_users"]
    assert [option["key"] for option in menu["options"]] == keys
    assert cached == menu
    assert 1700 < lifetime <= 1800


def test_events_are_heard_and_kept(any_site: Site, ear: Ear) -> None:
    told(any_site, IMPORT + v21_snippets.EVENTS)
    login, maintenance, matching = ear.events("user.login", "system.maintenance", "matching.request")
    assert (login["channel"], login["user_id"]) == ("connectbot:user:7", 7)
    assert login["data"]["timestamp"].startswith("20")
    assert (maintenance["channel"], maintenance["user_id"]) == ("connectbot:global", None)
    assert maintenance["data"] == {"message": "Обслуживание"}
    assert (matching["channel"], matching["data"]) == ("connectbot:service:matching", {"users": [1, 2]})
    for event in (login, maintenance, matching):
        assert event["source"] == "django-connectbot"
        assert event["timestamp"].endswith("+00:00")


def test_temporary_data_is_stored_and_runs_out_in_time(any_site: Site) -> None:
    keys = ["temp:user_7:form_data_step1", "temp:user_7:conversation_state", "temp:default:key"]
    expressions = [
        "user_manager.get_form_data('step1')",
        "user_manager.get_conversation_state()",
        "redis_integration.temp_data.get_temp_data('key')",
        *[f"cache.ttl({key!r})" for key in keys],
        *[f"json.loads(cache.get({key!r}))" for key in keys],
    ]
    form, state, data, *rest = told(any_site, IMPORT + v21_snippets.TEMP_DATA, *expressions)
    assert form == {"имя": "Анна", "интересы": ["кофе", "шахматы"]}
    assert (state, data) == ("выбор_даты", [1, 2.5, None, "три"])
    for seconds, expected in zip(rest[:3], (3600, 7200, 300), strict=True):
        assert expected - 60 < seconds <= expected
    assert [record["namespace"] for record in rest[3:]] == ["user_7", "user_7", "default"]
    assert [record["serialized"] for record in rest[3:]] == [True, False, True]


def test_the_quick_checks(any_site: Site, ear: Ear) -> None:
    said = any_site.shell(
        v21_snippets.QUICK_CHECKS + "\nprint(menu['data'], redis_integration.get_cache_stats()['menus'])"
    )
    assert said == "healthy\n{'test': 'data'} 1\n"
    [event] = ear.events("test")
    assert event["data"] == {"msg": "hello"}


def test_the_bots_handler(any_site: Site, ear: Ear) -> None:
    first, second = told(any_site, v21_snippets.HANDLER, "handle_menu_command(7)", "handle_menu_command(7)")
    assert [option["action"] for option in first["options"]] == ["show_profile", "show_activities", "show_preferences"]
    assert second["data"] == first
    [event] = ear.events("user.menu_opened")
    assert (event["user_id"], event["data"]) == (7, {"menu_type": "main"})
    assert told(any_site, "from bot.handlers import handle_menu_command", "handle_menu_command(7)")[0]["data"] == first


@pytest.mark.parametrize("command", v21_snippets.COMMANDS.strip().splitlines())
def test_the_test_commands(site: Site, command: str, ear: Ear) -> None:
    _, _, *arguments = command.split()
    done = site.manage(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    components = ALL_COMPONENTS if "all" in command else [command.rpartition("=")[2]]
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["works", name] for name in components]
    if "123" in command:
        assert ear.events("user.action.test_redis")[0]["user_id"] == 123


def test_the_test_command_with_any_settings(any_site: Site, client: RedisClient) -> None:
    done = any_site.manage("test_redis", "--user-id=123")
    assert (done.returncode, done.stdout.count("works")) == (0, 4), done.stdout + done.stderr
    assert client.keys("*test_redis*") == []


def test_the_other_names_of_the_summary(any_site: Site) -> None:
    code = """
from employees.redis_menu_cache import MenuBuilder, MenuCache
from employees.redis_events import ConnectBotEvents, EventPublisher, EventSubscriber
from employees.redis_temp_data import TempDataManager, UserTempDataManager
from employees.redis_utils import EnhancedRedisManager, RedisManager
from employees.redis_integration import redis_integration

MenuCache.set_user_menu(7, menu_data)
TempDataManager.store_temp_data('key', data)
EnhancedRedisManager.set_employee_data(7, {'name': 'Анна'})
"""
    expressions = [
        "MenuCache.get_user_menu(7)['data'] == menu_data",
        "redis_integration.temp_data.get_temp_data('key') == data",
        "cache.get('emp:7') == RedisManager.get_employee_data(7) == {'name': 'Анна'}",
        "redis_integration.event_types.USER_LOGIN == ConnectBotEvents.USER_LOGIN == 'user.login'",
        "issubclass(EnhancedRedisManager, RedisManager)",
        "isinstance(redis_integration.get_user_manager(7), UserTempDataManager)",
        "redis_integration.clear_all_cache()",
        "redis_integration.menu_cache.get_user_menu(7)",
    ]
    assert told(any_site, code, *expressions) == [True] * 7 + [None]


# --- test_redis when something does not work --------------------------------------------------------------


@pytest.mark.parametrize("component", ["all", *ALL_COMPONENTS])
@pytest.mark.parametrize("outage", ["stopped", "frozen"])
def test_the_command_fails_in_time_and_says_why(
    site: Site, embedded_redis: EmbeddedRedis, component: str, outage: str
) -> None:
    embedded_redis.kill() if outage == "stopped" else embedded_redis.freeze()
    done = site.manage("test_redis", f"--component={component}", "--user-id=123", deadline_seconds=10)
    broken = ALL_COMPONENTS if component == "all" else [component]
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert [line.split()[:2] for line in lines[:-1]] == [["BROKEN", name] for name in broken]
    assert lines[-1].startswith(f"What to do: see that the Redis at {embedded_redis.url} runs, answers")
    assert f"{len(broken)} of {len(broken)} components do not work: {', '.join(broken)}" in done.stderr


def test_the_command_needs_no_right_to_read_the_stream_and_shows_no_password(
    site: Site, embedded_redis: EmbeddedRedis, client: RedisClient, ear: Ear
) -> None:
    site_user = {"passwords": ["+only-here"], "commands": ["+@all", "-xrevrange"], "keys": ["*"], "channels": ["*"]}
    client.acl_setuser("site", enabled=True, **site_user)
    url = embedded_redis.url.replace("://", "://site:only-here@")
    (site.directory / ".env").write_text(f"REDIS_URL={url}\n")
    done = site.manage("test_redis")
    client.acl_deluser("site")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "went into connectbot:events" in done.stdout
    assert ear.events("user.action.test_redis")
    done = site.manage("test_redis")
    assert done.returncode == 1
    assert "only-here" not in done.stdout + done.stderr


def test_the_command_ends_in_time_when_redis_freezes_under_it(site: Site, embedded_redis: EmbeddedRedis) -> None:
    # v21's own CACHES wait for ever, and the first component has seen a Redis that was well.
    site.add_settings("v21", V21_SETTINGS + "CACHES['default']['OPTIONS']['SOCKET_TIMEOUT'] = 3600\n")
    freeze = f"""
import os, signal
from django.core.cache import cache
from django.core.management import call_command
from connectbot.django import selftest
set_ = type(cache._connections['default']).set
def freeze(*arguments):
    os.kill({embedded_redis.pid}, signal.SIGSTOP)
    return set_(*arguments)
type(cache._connections['default']).set = freeze
call_command('test_redis')
"""
    done = site.manage("shell", "--no-imports", "-c", freeze, deadline_seconds=20)
    assert [line.split()[0] for line in done.stdout.splitlines()[:-1]] == ["BROKEN"] * 4
    assert "no answer within" in done.stdout
    assert "4 of 4 components do not work" in done.stderr


def test_the_command_names_a_redis_that_takes_no_writes(site: Site, client: RedisClient) -> None:
    client.config_set("maxmemory", 1)
    try:
        done = site.manage("test_redis")
    finally:
        client.config_set("maxmemory", 0)
    assert done.returncode == 1
    assert "maxmemory" in done.stdout


def test_the_command_sees_that_the_worker_would_use_other_keys(site: Site) -> None:
    site.add_settings(
        "elsewhere", V21_SETTINGS + "CACHES['default']['KEY_FUNCTION'] = lambda key, prefix, version: f'own-{key}'\n"
    )
    done = site.manage("test_redis")
    assert done.returncode == 1
    assert "BROKEN cache     a menu that Django's cache stored is not in menu_cache" in done.stdout
    assert "`manage.py check`" in done.stdout
    assert "connectbot.W003" in site.manage("check").stderr


def test_a_setting_that_cannot_be_used_is_one_sentence(site: Site) -> None:
    site.add_settings("bare", "SECRET_KEY = 'x'\nINSTALLED_APPS = ['connectbot.django']\n")
    with (site.directory / ".env").open("a") as env:
        env.write("CONNECTBOT_MAX_BACKLOG=many\n")
    done = site.manage("test_redis")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("CommandError: CONNECTBOT_MAX_BACKLOG must be a number")


def test_what_a_test_overrides_holds_for_the_facade_for_enqueue_and_for_matchings(
    site: Site, client: RedisClient
) -> None:
    site.shell("""
from django.conf import settings
from django.core.cache import cache
from django.test import override_settings
from employees.redis_integration import redis_integration

import connectbot
from connectbot.errors import MatchingUnanswered, RedisUnavailable

def fails_with(fault, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except fault:
        return True

def matching_fails_with(fault):
    return fails_with(fault, connectbot.request_matching, [1, 2], wait=0.1)

menus = redis_integration.menu_cache
own = {**settings.CACHES["default"], "KEY_PREFIX": "connectbot"}
assert menus.set_user_menu(1, {"a": 1})
connectbot.enqueue("menus.rebuild", [1])
assert matching_fails_with(MatchingUnanswered)
with override_settings(CACHES={"default": own}):
    assert menus.set_user_menu(2, {"a": 1})
    assert cache.get("menu:user:2:main") is not None
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        assert redis_integration.health_check()["redis"]["ok"] is False
        assert fails_with(RedisUnavailable, connectbot.enqueue, "menus.rebuild", [2])
        assert matching_fails_with(RedisUnavailable)
    assert redis_integration.health_check()["redis"]["ok"] is True
assert menus.get_user_menu(2) is None
assert menus.get_user_menu(1) is not None
connectbot.enqueue("menus.rebuild", [3])
assert matching_fails_with(MatchingUnanswered)
""")
    published = [json.loads(fields[b"event"]) for _, fields in client.xrange("connectbot:events")]
    assert [event["data"]["args"] for event in published if event["type"] == "task.enqueued"] == [[[1]], [[3]]]
    assert len([event for event in published if event["type"] == "matching.request"]) == 2
    assert sorted(client.keys("*menu:user*")) == [b":1:menu:user:1:main", b"connectbot:1:menu:user:2:main"]


# --- the site itself --------------------------------------------------------------------------------------


class Visitor:
    """A browser: keeps its cookies."""

    def __init__(self) -> None:
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def get(self, url: str) -> Any:
        with self._opener.open(url, timeout=30) as answer:
            return json.load(answer)

    def post(self, url: str, **fields: str) -> Any:
        with self._opener.open(url, urllib.parse.urlencode(fields).encode(), timeout=30) as answer:
            return json.load(answer)


def test_a_session_survives_a_restart_of_the_site(any_site: Site, client: RedisClient) -> None:
    visitor, other = Visitor(), Visitor()
    with any_site.serving() as address:
        assert [visitor.get(f"{address}/")["visits"] for _ in range(3)] == [1, 2, 3]
    [key] = client.keys("*django.contrib.sessions.cache*")
    assert client.ttl(key) > 1_000_000
    with any_site.serving() as address:
        assert visitor.get(f"{address}/")["visits"] == 4
        assert other.get(f"{address}/")["visits"] == 1


def test_a_session_survives_a_restart_of_redis(site: Site, tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis", append_fsync="always") as redis:
        (site.directory / ".env").write_text(f"REDIS_URL={redis.url}\n")
        visitor = Visitor()
        with site.serving() as address:
            assert visitor.get(f"{address}/")["visits"] == 1
            redis.kill()
            redis.start()
            assert visitor.get(f"{address}/")["visits"] == 2


@pytest.mark.parametrize("outage", ["stopped", "frozen"])
def test_menus_are_answered_while_redis_is_away(site: Site, embedded_redis: EmbeddedRedis, outage: str) -> None:
    visitor = Visitor()
    with site.serving() as address:
        embedded_redis.kill() if outage == "stopped" else embedded_redis.freeze()
        menus = [visitor.get(f"{address}/menu/7/") for _ in range(3)]
    assert [len(menu.get("data", menu)["options"]) for menu in menus] == [3, 3, 3]


def test_an_employee_created_on_the_site_gets_a_menu_from_the_worker(
    site: Site, settings: Settings, tmp_path: Path
) -> None:
    assert site.manage("migrate", "--verbosity=0").returncode == 0
    visitor = Visitor()
    with Worker(settings, tmp_path, lanes=["default"]) as worker, site.serving() as address:
        worker.wait_ready()
        employee = visitor.post(f"{address}/employees/", name="Анна", role="admin")["id"]
        menus = Clients.open(settings).menus
        wait_until(lambda: menus.get(employee, "main"), deadline_seconds=20, what="the menu")
        assert len(visitor.get(f"{address}/menu/{employee}/")["data"]["options"]) == 5


def test_the_check_is_content_and_no_migration_is_missing(site: Site) -> None:
    assert site.manage("check", "--fail-level=WARNING").returncode == 0
    assert site.manage("makemigrations", "--check", "--dry-run").returncode == 0


@pytest.mark.parametrize("engine", ["django.contrib.sessions.backends.cache", "connectbot.django.sessions"])
def test_both_engines_keep_the_same_sessions(site: Site, engine: str) -> None:
    visitor = Visitor()
    with site.serving() as address:
        assert visitor.get(f"{address}/")["visits"] == 1
    site.add_settings("engine", f"from config.settings import *\nSESSION_ENGINE = {engine!r}\n")
    with site.serving() as address:
        assert visitor.get(f"{address}/")["visits"] == 2
        assert Visitor().get(f"{address}/")["visits"] == 1


def test_our_engine_gives_up_on_a_frozen_redis(site: Site, embedded_redis: EmbeddedRedis) -> None:
    site.add_settings("engine", "from config.settings import *\nSESSION_ENGINE = 'connectbot.django.sessions'\n")
    with site.serving() as address:
        embedded_redis.freeze()
        with pytest.raises(urllib.error.HTTPError, match="500") as failed:
            Visitor().get(f"{address}/")  # within the 30 s of a visitor's patience; Django's engine takes hours
        failed.value.close()


def test_a_site_behind_sentinels(tmp_path: Path) -> None:
    with ReplicatedRedis(tmp_path) as redis:
        done = Site.on(redis.url, tmp_path / "site").manage("test_redis")
    assert (done.returncode, done.stdout.count("works")) == (0, 4), done.stdout + done.stderr


# --- publish_on_commit ------------------------------------------------------------------------------------


def published_by(site: Site, ear: Ear, code: str) -> list[Any]:
    """Run something on the site's database; answer the data of the events it published."""
    assert site.manage("migrate", "--verbosity=0").returncode == 0
    preamble = f"""
from django.db import transaction
from connectbot.django import publish_on_commit
from employees.models import Employee
{IMPORT}
publish = redis_integration.events.publish_user_event
"""
    site.shell(preamble + code)
    return [event["data"] for event in ear.stream()]


def test_what_is_committed_is_published_afterwards_in_order(site: Site, ear: Ear) -> None:
    code = """
with transaction.atomic():
    employee = Employee.objects.create(name='Анна')
    for step in range(3):
        publish_on_commit(publish, employee.id, 'user.action.step', {'step': step})
    redis_integration.events.publish_global_event('system.maintenance', {'before': 'commit'})
    with transaction.atomic():
        publish_on_commit(publish, employee.id, 'user.action.step', data={'step': 'inner'})
"""
    steps = [{"step": 0}, {"step": 1}, {"step": 2}, {"step": "inner"}]
    assert published_by(site, ear, code) == [{"before": "commit"}, *steps]


def test_what_is_rolled_back_is_not_published(site: Site, ear: Ear) -> None:
    code = """
try:
    with transaction.atomic():
        publish_on_commit(publish, 1, 'user.action.step', {'step': 'lost'})
        raise KeyError
except KeyError:
    pass
with transaction.atomic():
    publish_on_commit(publish, 1, 'user.action.step', {'step': 'kept'})
    try:
        with transaction.atomic():
            publish_on_commit(publish, 1, 'user.action.step', {'step': 'lost with its savepoint'})
            raise KeyError
    except KeyError:
        pass
with transaction.atomic():
    publish_on_commit(publish, 1, 'user.action.step', {'step': 'lost too'})
    transaction.set_rollback(True)
"""
    assert published_by(site, ear, code) == [{"step": "kept"}]


def test_outside_of_a_transaction_it_is_published_at_once(site: Site, ear: Ear) -> None:
    assert published_by(site, ear, "publish_on_commit(publish, 1, 'user.action.step', {'step': 1})") == [{"step": 1}]


def test_one_call_that_fails_leaves_the_others(site: Site, ear: Ear) -> None:
    code = """
def fail():
    raise ValueError('no')

with transaction.atomic():
    publish_on_commit(fail)
    publish_on_commit(publish, 1, 'user.action.step', {'step': 2})
"""
    assert published_by(site, ear, code) == [{"step": 2}]


def test_a_coroutine_is_refused_at_once(site: Site, ear: Ear) -> None:
    code = """
async def publish_later(): ...

for call in (publish_later, redis_integration.aio.events.publish_user_event):
    try:
        publish_on_commit(call)
    except TypeError as error:
        assert 'would never await' in str(error), error
    else:
        raise AssertionError('it was taken')
"""
    assert published_by(site, ear, code) == []


# --- beside processes that still run v21's files ----------------------------------------------------------

SHAPES = """
import json, pickle, time
from django.core.cache import cache

USERS = range(1, 101)

def wait_for(side):
    deadline = time.monotonic() + 60
    while cache.get(f'{side} is done') is None:
        assert time.monotonic() < deadline, f'{side} is not done'
        time.sleep(0.01)

def menu_of(user, side):
    options = [{'key': side, 'label': '👤 Профиль' * (user % 5)}]
    return {'type': 'main', 'user_id': user, 'role': 'employee', 'options': options}

def form_of(user, side):
    return {'имя': f'{side} {user}', 'вложено': [[user, None, True, 1.5, {'x': []}]]}

def employee_of(user, side):
    return {'id': user, 'name': f'Анна {side}', 'active': True, 'rating': 4.5, 'boss': None}
"""

OLD_PROCESS = f"""
{SHAPES}
def store_temp(namespace, key, data, timeout):
    serialized = isinstance(data, (dict, list, tuple))
    record = {{'data': data if serialized else pickle.dumps(data).hex(), 'type': type(data).__name__,
              'created_at': '2025-10-09T12:00:00', 'namespace': namespace, 'serialized': serialized}}
    cache.set(f'temp:{{namespace}}:{{key}}', json.dumps(record, ensure_ascii=False), timeout)

def read_temp(namespace, key):
    record = json.loads(cache.get(f'temp:{{namespace}}:{{key}}'))
    return record['data'] if record['serialized'] else pickle.loads(bytes.fromhex(record['data']))

for user in USERS:
    record = {{'data': menu_of(user, 'old'), 'user_id': user, 'menu_type': 'main', 'cached_at': 0}}
    cache.set(f'menu:user:{{user}}:main', json.dumps(record, ensure_ascii=False), 1800)
    store_temp(f'user_{{user}}', 'form_data_old', form_of(user, 'old'), 3600)
    store_temp(f'user_{{user}}', 'conversation_state', 'состояние', 7200)
    cache.set(f'emp:{{user}}', employee_of(user, 'old'), 3600)
    cache.set(f'int:{{user}}', ['кофе', user], 1800)
    cache.set(f'act:{{user}}:participants', [user, user + 1], 900)
    cache.set(f'sess:{{user}}', user, 7200)
cache.set('old is done', 1)
wait_for('new')
for user in USERS:
    assert json.loads(cache.get(f'menu:user:{{user + 1000}}:main'))['data'] == menu_of(user, 'new')
    assert read_temp(f'user_{{user}}', 'form_data_new') == form_of(user, 'new')
    assert read_temp(f'user_{{user}}', 'count') == user
    assert cache.get(f'emp:{{user + 1000}}') == employee_of(user, 'new')
    assert cache.get(f'sess:{{user + 1000}}') == user
print('read all of it')
"""

NEW_PROCESS = f"""
{SHAPES}
{IMPORT}
from employees.redis_utils import EnhancedRedisManager, RedisManager

for user in USERS:
    manager = redis_integration.get_user_manager(user)
    assert redis_integration.menu_cache.set_user_menu(user + 1000, menu_of(user, 'new'))
    assert manager.store_form_data('new', form_of(user, 'new'))
    assert manager.store_data('count', user)
    assert RedisManager.set_employee_data(user + 1000, employee_of(user, 'new'))
    assert EnhancedRedisManager.set_user_session(user + 1000, user)
cache.set('new is done', 1)
wait_for('old')
for user in USERS:
    manager = redis_integration.get_user_manager(user)
    assert redis_integration.menu_cache.get_user_menu(user)['data'] == menu_of(user, 'old')
    assert redis_integration.menu_builder.build_main_menu(user, 'employee') == menu_of(user, 'old')
    assert manager.get_form_data('old') == form_of(user, 'old')
    assert manager.get_conversation_state() == 'состояние'
    assert RedisManager.get_employee_data(user) == employee_of(user, 'old')
    assert RedisManager.get_employee_interests(user) == ['кофе', user]
    assert RedisManager.get_activity_participants(user) == [user, user + 1]
    assert RedisManager.get_user_session(user) == user
assert set(USERS) <= set(redis_integration.menu_cache.get_cached_users())
print('read all of it')
"""


def test_processes_with_v21s_files_and_ours_work_side_by_side(any_site: Site) -> None:
    processes = [any_site.start(code) for code in (OLD_PROCESS, NEW_PROCESS)]
    try:
        said = [process.communicate(timeout=90)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert said == ["read all of it\n"] * 2


# --- what docs/migrating-from-v21.md says of the cache ----------------------------------------------------


def test_emptying_djangos_cache_by_its_prefix_leaves_the_stream(any_site: Site, client: RedisClient) -> None:
    code = "\ncache.set('other', 1)\nprint(cache.delete_pattern('*') > 1, cache.get('other'))"
    said = any_site.shell(PREAMBLE + v21_snippets.QUICK_CHECKS + code)
    assert said.splitlines()[-1] == "True None"
    assert client.xlen("connectbot:events") == 1
    assert client.keys("*menu:user*") == []


def test_a_site_may_change_to_json_with_another_version(site: Site, client: RedisClient) -> None:
    visitor = Visitor()
    with site.serving() as address:
        assert visitor.get(f"{address}/")["visits"] == 1
        visitor.get(f"{address}/menu/7/")
    with (site.directory / ".env").open("a") as env:
        env.write("CACHE_SERIALIZER=json\nCACHE_VERSION=2\n")
    with site.serving() as address:
        assert [visitor.get(f"{address}/")["visits"] for _ in range(2)] == [1, 2]
        assert len(visitor.get(f"{address}/menu/7/")["options"]) == 3
    assert len(client.keys(":2:menu:user:7:main")) == 1


def test_the_handler_for_coroutines(site: Site, ear: Ear) -> None:
    code = "import asyncio\nfrom bot.handlers import handle_menu_command_async as handle\n"
    first, second = told(site, code, "asyncio.run(handle(7))", "asyncio.run(handle(7))")
    assert second["data"] == first
    assert ear.events("user.menu_opened")[0]["user_id"] == 7
