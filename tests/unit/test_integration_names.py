"""Importing v21's names: all are there, nothing is read or opened, and a Django site's own settings count."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import connectbot.integration as v21
from tests.support import ROOT

# What a v21 site imports from its five files, and the module of ours that each of them re-exports.
FILES = {
    "redis_integration": (
        "connectbot.integration",
        "redis_integration get_redis_integration cache_user_menu get_cached_user_menu publish_user_action "
        "store_user_temp_data get_user_temp_data cache_result invalidate_user_cache",
    ),
    "redis_menu_cache": ("connectbot.integration.menu_cache", "MenuCache MenuBuilder"),
    "redis_events": (
        "connectbot.integration.events",
        "EventPublisher EventSubscriber ConnectBotEvents publish_user_created publish_activity_scheduled "
        "publish_matching_request publish_cache_cleared",
    ),
    "redis_temp_data": (
        "connectbot.integration.temp_data",
        "TempDataManager UserTempDataManager SessionDataManager ActivityTempDataManager store_quick_data "
        "get_quick_data get_user_temp_manager",
    ),
    "redis_utils": ("connectbot.compat", "RedisManager EnhancedRedisManager"),
}

SIGNATURES = {
    "menu_cache.get_user_menu": "user_id menu_type",
    "menu_cache.set_user_menu": "user_id menu_data menu_type timeout",
    "menu_cache.delete_user_menu": "user_id menu_type",
    "menu_cache.clear_user_all_menus": "user_id",
    "menu_cache.refresh_user_menu": "user_id menu_data menu_type",
    "menu_cache.get_cached_users": "",
    "menu_builder.build_main_menu": "user_id role",
    "menu_builder.build_preferences_menu": "user_id",
    "events.publish_user_event": "user_id event_type data",
    "events.publish_global_event": "event_type data",
    "events.publish_microservice_event": "service_name event_type data",
    "temp_data.store_temp_data": "key data timeout namespace",
    "temp_data.get_temp_data": "key default namespace",
    "get_user_manager": "user_id",
    "health_check": "",
    "get_cache_stats": "",
    "clear_all_cache": "",
}


@pytest.mark.parametrize("file", FILES)
def test_one_line_replaces_a_file_of_v21(file: str) -> None:
    module, names = FILES[file]
    site: dict[str, object] = {}
    exec(f"from {module} import *", site)
    assert set(names.split()) <= site.keys()
    assert set(names.split()) <= set(importlib.import_module(module).__all__)


@pytest.mark.parametrize("path", SIGNATURES)
def test_arguments_come_in_v21s_order(path: str) -> None:
    method: object = v21.redis_integration
    for name in path.split("."):
        method = getattr(method, name)
    assert callable(method)
    assert " ".join(inspect.signature(method).parameters) == SIGNATURES[path]


def test_everything_named_is_there() -> None:
    assert [name for name in v21.__all__ if not hasattr(v21, name)] == []
    assert v21.redis_integration.event_types is v21.ConnectBotEvents


def run(code: str, tmp_path: Path, **environment: str) -> str:
    """What Python prints, run in a directory of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_reads_no_setting_and_opens_nothing(tmp_path: Path) -> None:
    code = """
import socket, sqlite3, threading
def refuse(*args, **kwargs): raise AssertionError("opened")
socket.socket.connect = sqlite3.connect = refuse
from connectbot.integration import *
from connectbot.compat import *
redis_integration.menu_cache, redis_integration.events, redis_integration.temp_data, redis_integration.aio.events
get_user_temp_manager(7), redis_integration.get_user_manager(7)
assert threading.active_count() == 1
print("well")
"""
    assert run(code, tmp_path, MENU_TTL_SECONDS="no number", REDIS_URL="nonsense") == "well\n"


def test_a_site_that_changes_nothing_else_keeps_its_prefix(tmp_path: Path) -> None:
    pytest.importorskip("django_redis", reason="needs the extra `django`")
    (tmp_path / "site_settings.py").write_text(
        "REDIS_URL = 'redis://localhost:6379/5'\n"
        "CACHES = {'default': {'BACKEND': 'django_redis.cache.RedisCache', 'LOCATION': REDIS_URL,\n"
        "    'KEY_PREFIX': 'connectbot', 'VERSION': 3,\n"
        "    'OPTIONS': {'SERIALIZER': 'django_redis.serializers.json.JSONSerializer'}}}\n"
    )
    code = """
import json
import django.conf
from connectbot.integration.site import default_settings
ours = default_settings()
print(json.dumps([ours.redis_url, ours.cache_keys.physical("k"), ours.cache_serializer]))
"""
    site = {"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    assert json.loads(run(code, tmp_path, **site)) == ["redis://localhost:6379/5", "connectbot:3:k", "json"]


def test_without_a_django_site_the_environment_counts(tmp_path: Path) -> None:
    code = """
import sys
from connectbot.integration.site import default_settings
print(default_settings().redis_url, "django" in sys.modules)
"""
    assert run(code, tmp_path, REDIS_URL="redis://elsewhere:1/2") == "redis://elsewhere:1/2 False\n"
