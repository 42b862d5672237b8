"""Settings: each from its variable, refused by name when unusable, and listed in .env.example as they are."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from connectbot.errors import SettingsError
from connectbot.menus import BUILDERS
from connectbot.settings import Settings
from tests.support import ROOT

FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
VARIABLES = [field.metadata["variable"] for field in FIELDS.values()]
SECRETS = ["redis_url", "celery_broker_url", "java_service_token", "flower_basic_auth"]
EXAMPLE = Path(__file__).parents[2] / ".env.example"

# variable, text, field, value: every setting once, with another value than its default
READ = [
    ("REDIS_URL", "redis://elsewhere:6380/3", "redis_url", "redis://elsewhere:6380/3"),
    ("CELERY_BROKER_URL", "redis://broker:6379/1", "celery_broker_url", "redis://broker:6379/1"),
    ("JAVA_SERVICE_URL", "http://matching:8081", "java_service_url", "http://matching:8081"),
    ("JAVA_SERVICE_TIMEOUT", "2.5", "java_service_timeout_seconds", 2.5),
    ("JAVA_SERVICE_TOKEN", "token", "java_service_token", "token"),
    ("JAVA_SERVICE_TOKEN_FILE", "/run/secrets/token", "java_service_token_file", "/run/secrets/token"),
    ("JAVA_SERVICE_MAX_CONCURRENT", "21", "java_max_concurrent", 21),
    ("JAVA_SERVICE_RATE", "22.5", "java_rate", 22.5),
    ("CACHE_KEY_PREFIX", "site", "cache_key_prefix", "site"),
    ("CACHE_VERSION", "2", "cache_version", 2),
    ("CACHE_SERIALIZER", "json", "cache_serializer", "json"),
    ("MENU_TTL_SECONDS", "60", "menu_ttl_seconds", 60),
    ("TEMP_DATA_TTL_SECONDS", "61", "temp_data_ttl_seconds", 61),
    ("CONNECTBOT_NAMESPACE", "staging", "namespace", "staging"),
    ("CONNECTBOT_WARM_MENUS", "main, activities,", "warm_menus", ("main", "activities")),
    ("CONNECTBOT_BATCH_SIZE", "10", "batch_size", 10),
    ("CONNECTBOT_JAVA_BATCH_SIZE", "11", "java_batch_size", 11),
    ("CONNECTBOT_JAVA_CALLS", "12", "java_calls_per_process", 12),
    ("CONNECTBOT_JAVA_BREAKER_FAILURE_RATE_THRESHOLD", "23.5", "breaker_failure_rate_threshold", 23.5),
    ("CONNECTBOT_JAVA_BREAKER_SLOW_CALL_RATE_THRESHOLD", "24.5", "breaker_slow_call_rate_threshold", 24.5),
    ("CONNECTBOT_JAVA_BREAKER_SLOW_CALL_DURATION_THRESHOLD", "25.5", "breaker_slow_call_duration_seconds", 25.5),
    ("CONNECTBOT_JAVA_BREAKER_SLIDING_WINDOW_SIZE", "26", "breaker_sliding_window_size", 26),
    ("CONNECTBOT_JAVA_BREAKER_MINIMUM_NUMBER_OF_CALLS", "27", "breaker_minimum_number_of_calls", 27),
    ("CONNECTBOT_JAVA_BREAKER_WAIT_DURATION_IN_OPEN_STATE", "28.5", "breaker_wait_duration_seconds", 28.5),
    (
        "CONNECTBOT_JAVA_BREAKER_PERMITTED_NUMBER_OF_CALLS_IN_HALF_OPEN_STATE",
        "29",
        "breaker_permitted_calls_in_half_open",
        29,
    ),
    ("CONNECTBOT_MATCHING_DEADLINE", "30.5", "matching_deadline_seconds", 30.5),
    ("CONNECTBOT_MATCHING_FALLBACK", "local", "matching_fallback", "local"),
    ("CONNECTBOT_BATCH_TIME_LIMIT", "3.5", "batch_time_limit_seconds", 3.5),
    ("CONNECTBOT_LEASE_SECONDS", "1.5", "lease_seconds", 1.5),
    ("CONNECTBOT_MAX_ATTEMPTS", "3", "max_attempts", 3),
    ("CONNECTBOT_MAX_EVENT_BYTES", "4096", "max_event_bytes", 4096),
    ("CONNECTBOT_MAX_BACKLOG", "1000", "max_backlog", 1000),
    ("CONNECTBOT_STREAM_KEEP", "13", "stream_keep", 13),
    ("CONNECTBOT_BRIDGE", "Off", "bridge", False),
    ("CONNECTBOT_SPOOL", "/var/lib/connectbot/spool.db", "spool", "/var/lib/connectbot/spool.db"),
    ("CONNECTBOT_TIMEZONE", "Europe/Moscow", "timezone", "Europe/Moscow"),
    ("CONNECTBOT_PROBES", "0.0.0.0:9808", "probes", "0.0.0.0:9808"),
    ("CONNECTBOT_TRACE", "0.25", "trace", "0.25"),
    ("CONNECTBOT_LOG_FORMAT", "json", "log_format", "json"),
    ("CONNECTBOT_FLOWER_BASIC_AUTH", "user:word", "flower_basic_auth", "user:word"),
]
NUMBERS = [(variable, name) for variable, _, name, value in READ if type(value) in (int, float)]


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and none of our variables in the environment."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_set_means_the_defaults() -> None:
    assert Settings.load() == Settings()


def test_the_table_of_this_test_knows_every_setting() -> None:
    assert [(variable, name) for variable, _, name, _ in READ] == list(zip(VARIABLES, FIELDS, strict=True))


@pytest.mark.parametrize(("variable", "text", "name", "value"), READ)
def test_a_setting_is_read_from_its_variable(
    variable: str, text: str, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f" {text} ")
    assert Settings.load() == Settings(**{name: value})


@pytest.mark.parametrize(("variable", "text", "name", "value"), READ)
def test_the_env_file_of_the_current_directory_is_read(
    variable: str, text: str, name: str, value: Any, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"{variable}={text}\n")
    assert Settings.load() == Settings(**{name: value})


def test_the_env_file_of_a_directory_above_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MENU_TTL_SECONDS=77\n")
    (tmp_path / "site" / "employees").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "site" / "employees")
    assert Settings.load().menu_ttl_seconds == 77


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MENU_TTL_SECONDS=77\n")
    monkeypatch.setenv("MENU_TTL_SECONDS", "78")
    assert Settings.load().menu_ttl_seconds == 78


def test_each_load_reads_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTBOT_NAMESPACE", "first")
    assert Settings.load().namespace == "first"
    monkeypatch.setenv("CONNECTBOT_NAMESPACE", "second")
    assert Settings.load().namespace == "second"


@pytest.mark.parametrize(("variable", "name"), NUMBERS)
def test_an_empty_number_means_unset(variable: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "")
    assert getattr(Settings.load(), name) == FIELDS[name].default


@pytest.mark.parametrize("text", ["many", "1 000", "-1", "0", "nan"])
@pytest.mark.parametrize("variable", [variable for variable, _ in NUMBERS])
def test_an_unusable_number_is_refused_by_the_name_of_its_variable(
    variable: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError, match=rf"^{variable} must be "):
        Settings.load()


@pytest.mark.parametrize("variable", ["CONNECTBOT_BATCH_SIZE", "CONNECTBOT_JAVA_BATCH_SIZE"])
def test_a_batch_that_no_commit_could_hold_is_refused(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "5000")
    Settings.load()
    monkeypatch.setenv(variable, "5001")
    with pytest.raises(SettingsError, match=rf"^{variable} must be from 1 to 5,000$"):
        Settings.load()


@pytest.mark.parametrize(
    ("variable", "least", "most", "refused", "rule"),
    [
        ("CONNECTBOT_LEASE_SECONDS", "1", "3600", ["0.0005", "0.99", "3601"], "from 1 to 3,600 seconds"),
        ("JAVA_SERVICE_TIMEOUT", "0.1", "3600", ["3601"], "from 0.001 to 3,600 seconds"),
        ("CONNECTBOT_BATCH_TIME_LIMIT", "1", "3600", ["0.001", "3601"], "from 1 to 3,600 seconds"),
        ("MENU_TTL_SECONDS", "1", "31536000", ["31536001"], "from 1 to 31,536,000 seconds, a year"),
        ("TEMP_DATA_TTL_SECONDS", "1", "31536000", ["31536001"], "from 1 to 31,536,000 seconds, a year"),
        ("CONNECTBOT_JAVA_CALLS", "1", "1000", ["1001"], "from 1 to 1,000"),
        ("JAVA_SERVICE_RATE", "0.001", "1000000000", ["1e-20", "1e306"], "from 0.001 to 1,000,000,000"),
    ],
)
def test_a_number_beyond_reason_is_refused(
    variable: str, least: str, most: str, refused: list[str], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in (least, most):
        monkeypatch.setenv(variable, text)
        Settings.load()
    for text in refused:
        monkeypatch.setenv(variable, text)
        with pytest.raises(SettingsError, match=rf"^{variable} must be {rule}$"):
            Settings.load()


@pytest.mark.parametrize("text", ["mian", "main,mian", "main preferences", "Main", ","])
def test_a_menu_that_there_is_not_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTBOT_WARM_MENUS", text)
    with pytest.raises(
        SettingsError,
        match=r"^CONNECTBOT_WARM_MENUS must be of main, preferences, activities, admin, separated by commas$",
    ):
        Settings.load()


def test_every_menu_that_there_is_may_be_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTBOT_WARM_MENUS", ",".join(BUILDERS))
    assert Settings.load().warm_menus == tuple(BUILDERS)


@pytest.mark.parametrize(
    "text", ["19808", ":19808", "localhost", "localhost:", "localhost:http", "OFF", "on", "[]:9808", "::9808"]
)
def test_probes_without_host_or_port_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTBOT_PROBES", text)
    with pytest.raises(
        SettingsError, match=r"^CONNECTBOT_PROBES must be host:port, such as 127\.0\.0\.1:9808, or off$"
    ):
        Settings.load()


@pytest.mark.parametrize("text", ["127.0.0.1:0", "0.0.0.0:9808", "localhost:9808", "[::1]:9808", "[::]:0", "off"])
def test_probes_may_be_anywhere_or_off(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTBOT_PROBES", text)
    assert Settings.load().probes == text


def test_a_switch_that_is_neither_on_nor_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTBOT_BRIDGE", "maybe")
    with pytest.raises(SettingsError, match=r"^CONNECTBOT_BRIDGE must be on or off, not 'maybe'$"):
        Settings.load()


def test_an_unknown_serializer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_SERIALIZER", "yaml")
    with pytest.raises(SettingsError, match=r"^CACHE_SERIALIZER must be pickle or json"):
        Settings.load()


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_not_shown(name: str) -> None:
    changed: dict[str, Any] = {name: "redis://:s3cret@host:6379/0"}
    assert "s3cret" not in repr(Settings(**changed))


def test_whatever_sounds_secret_is_secret() -> None:
    sounding = {name for name in FIELDS if re.search("token$|password|auth|redis_url|broker_url", name)}
    assert sounding == set(SECRETS)


def test_an_unknown_fallback_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTBOT_MATCHING_FALLBACK", "remote")
    with pytest.raises(SettingsError, match=r"^CONNECTBOT_MATCHING_FALLBACK must be none or local"):
        Settings.load()


def test_settings_cannot_be_changed() -> None:
    settings: Any = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.namespace = "other"


@pytest.mark.parametrize("name", FIELDS)
def test_each_meaning_says_what_unset_does(name: str) -> None:
    assert re.search(r"\. Unset: .+\.$", FIELDS[name].metadata["meaning"])


def test_the_broker_is_the_redis_unless_set() -> None:
    assert Settings(redis_url="redis://a").broker_url == "redis://a"
    assert Settings(redis_url="redis://a", celery_broker_url="redis://b").broker_url == "redis://b"


# --- .env.example ---------------------------------------------------------------------------------------------------


def test_the_example_lists_the_settings_with_their_meanings() -> None:
    assert list(_listed(EXAMPLE.read_text())) == [
        (field.metadata["variable"], field.metadata["meaning"]) for field in FIELDS.values()
    ]


def test_the_example_sets_nothing_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(EXAMPLE.read_text())
    assert [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")] == []
    assert Settings.load() == Settings()


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    uncommented = re.sub(r"^#(?=[A-Z_]+=)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    (tmp_path / ".env").write_text(uncommented)
    assert Settings.load() == Settings()
    for variable, field in zip(VARIABLES, FIELDS.values(), strict=True):
        assert (f"\n{variable}=\n" in uncommented) == (field.default == ""), f"{variable} shows its default"


def _listed(example: str) -> list[tuple[str, str]]:
    """Variable and meaning of each paragraph that ends with a commented-out assignment."""
    listed = []
    for paragraph in example.strip().split("\n\n"):
        *comments, last = paragraph.split("\n")
        if assignment := re.match(r"#([A-Z_]+)=", last):
            listed.append((assignment[1], " ".join(line.removeprefix("# ") for line in comments)))
    return listed


def test_a_django_site_finds_the_env_file_of_its_settings_wherever_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".env").write_text("MENU_TTL_SECONDS=88\n")
    (tmp_path / "site" / "project").mkdir(parents=True)
    (tmp_path / "site" / ".env").write_text("MENU_TTL_SECONDS=77\n")
    (tmp_path / "site" / "project" / "settings.py").write_text(
        "from connectbot.settings import Settings\nTTL = Settings.load().menu_ttl_seconds\n"
    )
    code = "from django.conf import settings; from connectbot.settings import Settings; "
    code += "print(settings.TTL, Settings.load().menu_ttl_seconds)"
    for found in ("77 77", "88 88"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path / "elsewhere",
            env={
                "PYTHONPATH": f"{ROOT}:{tmp_path / 'site'}", "DJANGO_SETTINGS_MODULE": "project.settings",
                "PATH": os.environ["PATH"],
            },
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert done.stdout.strip() == found
        (tmp_path / "site" / ".env").unlink(missing_ok=True)
