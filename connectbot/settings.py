"""Settings: read once from the environment or a ``.env`` file, then passed on as one frozen object."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from decouple import AutoConfig, UndefinedValueError

from connectbot.cache_keys import MENU_TYPES, CacheKeys
from connectbot.errors import SettingsError
from connectbot.keys import Keys

MOST_IN_A_BATCH: Final = 5000
"""A batch may be acknowledged by one command (XACK), and Lua's ``unpack`` takes some 7,990 words."""
MOST_CALLS: Final = 1000
"""A process makes room for so many connections to the Java service when it begins."""
HOUR_SECONDS: Final = 3600
YEAR_SECONDS: Final = 365 * 86_400
LEAST, MOST = 0.001, 1_000_000_000
"""Of any other number: far beyond, Redis refuses a time, or a process is killed before it begins."""
_BOUNDS: Final = {
    "batch_size": (1, MOST_IN_A_BATCH, ""),
    "java_batch_size": (1, MOST_IN_A_BATCH, ""),
    "java_calls_per_process": (1, MOST_CALLS, ""),
    "java_service_timeout_seconds": (LEAST, HOUR_SECONDS, " seconds"),
    "batch_time_limit_seconds": (1, HOUR_SECONDS, " seconds"),
    "lease_seconds": (1, HOUR_SECONDS, " seconds"),  # renewed five times in that time
    "menu_ttl_seconds": (1, YEAR_SECONDS, " seconds, a year"),
    "temp_data_ttl_seconds": (1, YEAR_SECONDS, " seconds, a year"),
}


def _setting(variable: str, default: Any, meaning: str, *, secret: bool = False) -> Any:
    """A field of `Settings`: its environment variable, and what it means when that is unset."""
    return dataclasses.field(default=default, repr=not secret, metadata={"variable": variable, "meaning": meaning})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All that can be set. Build it with `Settings.load`; tests build it with keywords."""

    redis_url: str = _setting(
        "REDIS_URL",
        "redis://localhost:6379/0",
        "Redis of the stream, the cache and everything else; `rediss://`, `unix://` and "
        "`sentinel://h1:26379,h2:26379/service/0` too. Unset: a local Redis.",
        secret=True,
    )
    celery_broker_url: str = _setting(
        "CELERY_BROKER_URL", "", "Redis of Celery's queues. Unset: `REDIS_URL`.", secret=True
    )
    java_service_url: str = _setting(
        "JAVA_SERVICE_URL",
        "http://localhost:8080",
        "Base address of the matching service. Unset: `http://localhost:8080`.",
    )
    java_service_timeout_seconds: float = _setting(
        "JAVA_SERVICE_TIMEOUT", 15.0, "Seconds that one call of the matching service may take. Unset: 15."
    )
    java_service_token: str = _setting(
        "JAVA_SERVICE_TOKEN", "", "Service token sent to the matching service. Unset: none.", secret=True
    )
    java_service_token_file: str = _setting(
        "JAVA_SERVICE_TOKEN_FILE", "", "File with that token; wins over `JAVA_SERVICE_TOKEN`. Unset: none."
    )
    java_max_concurrent: int = _setting(
        "JAVA_SERVICE_MAX_CONCURRENT",
        25,
        "Calls of the matching service in flight at once, over all workers. Unset: 25.",
    )
    java_rate: float = _setting(
        "JAVA_SERVICE_RATE", 1000.0, "Calls of the matching service begun per second, over all workers. Unset: 1000."
    )
    cache_key_prefix: str = _setting(
        "CACHE_KEY_PREFIX", "", "`KEY_PREFIX` of the Django site's cache. Unset: empty, as in Django."
    )
    cache_version: int = _setting("CACHE_VERSION", 1, "`VERSION` of the Django site's cache. Unset: 1.")
    cache_serializer: str = _setting(
        "CACHE_SERIALIZER",
        "pickle",
        "How the Django site's cache serializes: `pickle` or `json`. Unset: `pickle`, as django-redis does.",
    )
    menu_ttl_seconds: int = _setting("MENU_TTL_SECONDS", 1800, "How long a cached menu lives. Unset: 1800.")
    temp_data_ttl_seconds: int = _setting(
        "TEMP_DATA_TTL_SECONDS", 1800, "How long temporary data lives when its writer names no time. Unset: 1800."
    )
    namespace: str = _setting(
        "CONNECTBOT_NAMESPACE", "connectbot", "First part of the worker's own keys and channels. Unset: `connectbot`."
    )
    warm_menus: tuple[str, ...] = _setting(
        "CONNECTBOT_WARM_MENUS",
        ("main", "preferences"),
        "Menus rebuilt and kept warm for every known user, separated by commas. Unset: `main,preferences`.",
    )
    batch_size: int = _setting(
        "CONNECTBOT_BATCH_SIZE", 3000, "Most events, up to 5,000, for one task of the lane `default`. Unset: 3000."
    )
    java_batch_size: int = _setting(
        "CONNECTBOT_JAVA_BATCH_SIZE", 64, "Most events, up to 5,000, for one task of the lane `java`. Unset: 64."
    )
    java_calls_per_process: int = _setting(
        "CONNECTBOT_JAVA_CALLS",
        8,
        "What one process works on at once: calls of the matching service in the lane `java`, enqueued tasks in either "
        "lane. Unset: 8.",
    )
    breaker_failure_rate_threshold: float = _setting(
        "CONNECTBOT_JAVA_BREAKER_FAILURE_RATE_THRESHOLD",
        50.0,
        "Percentage of failed calls at which the circuit breaker opens. Unset: 50.",
    )
    breaker_slow_call_rate_threshold: float = _setting(
        "CONNECTBOT_JAVA_BREAKER_SLOW_CALL_RATE_THRESHOLD",
        100.0,
        "Percentage of slow calls at which it opens. Unset: 100.",
    )
    breaker_slow_call_duration_seconds: float = _setting(
        "CONNECTBOT_JAVA_BREAKER_SLOW_CALL_DURATION_THRESHOLD",
        10.0,
        "Seconds from which on a call is slow. Unset: 10.",
    )
    breaker_sliding_window_size: int = _setting(
        "CONNECTBOT_JAVA_BREAKER_SLIDING_WINDOW_SIZE",
        50,
        "How many of the latest calls the percentages are of. Unset: 50.",
    )
    breaker_minimum_number_of_calls: int = _setting(
        "CONNECTBOT_JAVA_BREAKER_MINIMUM_NUMBER_OF_CALLS",
        10,
        "Fewest calls in the window before the breaker may open. Unset: 10.",
    )
    breaker_wait_duration_seconds: float = _setting(
        "CONNECTBOT_JAVA_BREAKER_WAIT_DURATION_IN_OPEN_STATE",
        10.0,
        "Seconds between opening and the first look at the service's health, and from look to look. Unset: 10.",
    )
    breaker_permitted_calls_in_half_open: int = _setting(
        "CONNECTBOT_JAVA_BREAKER_PERMITTED_NUMBER_OF_CALLS_IN_HALF_OPEN_STATE",
        5,
        "Calls that decide, once it is well, whether the breaker closes. Unset: 5.",
    )
    matching_deadline_seconds: float = _setting(
        "CONNECTBOT_MATCHING_DEADLINE",
        604_800.0,
        "Seconds within which a matching request that names no deadline of its own is answered. Unset: a week.",
    )
    matching_fallback: str = _setting(
        "CONNECTBOT_MATCHING_FALLBACK",
        "none",
        "What answers at the deadline: `local` pairs people here, `none` says matching.failed. Unset: `none`.",
    )
    batch_time_limit_seconds: float = _setting(
        "CONNECTBOT_BATCH_TIME_LIMIT",
        10.0,
        "Seconds after which a task of the lane `default` is taken to hang over its events, and killed. Unset: 10.",
    )
    lease_seconds: float = _setting(
        "CONNECTBOT_LEASE_SECONDS",
        5.0,
        "How long a worker that gives no sign of life keeps its events before others take them over. Unset: 5.",
    )
    max_attempts: int = _setting(
        "CONNECTBOT_MAX_ATTEMPTS", 8, "Tries of an event before it becomes a dead letter. Unset: 8."
    )
    max_event_bytes: int = _setting(
        "CONNECTBOT_MAX_EVENT_BYTES",
        1_048_576,
        "Largest event in bytes: a larger one is not published, and one in the stream becomes a dead letter. "
        "Unset: 1 MiB.",
    )
    max_backlog: int = _setting(
        "CONNECTBOT_MAX_BACKLOG", 1_000_000, "Waiting events above which publishing fails. Unset: 1,000,000."
    )
    stream_keep: int = _setting(
        "CONNECTBOT_STREAM_KEEP", 10_000, "Finished events kept in the stream for looking back. Unset: 10,000."
    )
    bridge: bool = _setting(
        "CONNECTBOT_BRIDGE",
        True,
        "Whether workers of the lane `default` take in what v21 publishes by pub/sub only: `on` or `off`. Unset: on.",
    )
    spool: str = _setting(
        "CONNECTBOT_SPOOL",
        "",
        "File (SQLite) that keeps what site and bot publish and store while Redis is away. Unset: they answer False.",
    )
    timezone: str = _setting(
        "CONNECTBOT_TIMEZONE",
        "UTC",
        "Time zone of crontab entries in the schedule, such as `Europe/Moscow`. Unset: UTC.",
    )
    probes: str = _setting(
        "CONNECTBOT_PROBES",
        "127.0.0.1:0",
        "`host:port` where a worker or beat answers `/livez`, `/readyz` and `/metrics`; port 0 is any free one, kept "
        "in Redis; `off` is nowhere. Unset: any free port of loopback.",
    )
    trace: str = _setting(
        "CONNECTBOT_TRACE",
        "off",
        "Share of events, from 0 to 1, whose way is recorded for `connectbot events trace`; the same for publishers "
        "and workers. Unset: `off`.",
    )
    log_format: str = _setting(
        "CONNECTBOT_LOG_FORMAT",
        "auto",
        "Form of log lines: `json`, `console`, or `auto`, which is `console` on a terminal. Unset: `auto`.",
    )
    flower_basic_auth: str = _setting(
        "CONNECTBOT_FLOWER_BASIC_AUTH",
        "",
        "`user:password` for Flower under `connectbot up` and in the Compose file. Unset: `connectbot up` prints a "
        "random one, Compose does not start.",
        secret=True,
    )

    def __post_init__(self) -> None:
        _require(self.cache_serializer in ("pickle", "json"), "CACHE_SERIALIZER", "must be pickle or json")
        _require(self.matching_fallback in ("none", "local"), "CONNECTBOT_MATCHING_FALLBACK", "must be none or local")
        _require(
            self.log_format in ("auto", "json", "console"), "CONNECTBOT_LOG_FORMAT", "must be auto, json or console"
        )
        _require(0 <= self.trace_share <= 1, "CONNECTBOT_TRACE", "must be off, or a share from 0 to 1")
        _require(_is_time_zone(self.timezone), "CONNECTBOT_TIMEZONE", "must be a time zone such as Europe/Moscow")
        menus = f"must be of {', '.join(MENU_TYPES)}, separated by commas"
        _require(len(self.warm_menus) > 0 and {*self.warm_menus} <= {*MENU_TYPES}, "CONNECTBOT_WARM_MENUS", menus)
        address = "must be host:port, such as 127.0.0.1:9808, or off"
        _require(_is_address_or_off(self.probes), "CONNECTBOT_PROBES", address)
        # Some count the versions of a cache by the clock.
        _require(self.cache_version > 0, "CACHE_VERSION", "must be a number greater than 0")
        for field in dataclasses.fields(self):
            value, variable = getattr(self, field.name), field.metadata["variable"]
            if isinstance(value, (int, float)) and not isinstance(value, bool) and field.name != "cache_version":
                least, most, unit = _BOUNDS.get(field.name, (LEAST, MOST, ""))
                _require(least <= value <= most, variable, f"must be from {least} to {most:,}{unit}")

    @classmethod
    def load(cls) -> Settings:
        """Read every setting from the process's environment, else from a ``.env`` file (python-decouple).

        The file is the one of the current directory or of the nearest one above it; in a Django site, first, that of
        the folder of its settings or of the nearest one above it, where the site's own ``config`` finds it, too.

        Raises `SettingsError` naming the variable when a value cannot be used.
        """
        config = _config()
        return cls(**{field.name: _read(config, field) for field in dataclasses.fields(cls)})

    @staticmethod
    def is_set(variable: str) -> bool:
        """Whether a variable has a value of its own, in the environment or the ``.env`` file."""
        return bool(_config()(variable, default=""))

    @property
    def broker_url(self) -> str:
        """Where Celery's queues live."""
        return self.celery_broker_url or self.redis_url

    @property
    def room(self) -> int:
        """Most entries that the stream may hold: what waits, and what is kept for looking back."""
        return self.max_backlog + self.stream_keep

    @property
    def java_rounds(self) -> int:
        """How often a process makes as many calls of the Java service as it may at once, for a full batch."""
        return math.ceil(self.java_batch_size / self.java_calls_per_process)

    @property
    def trace_share(self) -> float:
        """The share of events that are traced, from 0.0 to 1.0; not a number when the setting is none."""
        try:
            return 0.0 if self.trace.lower() == "off" else float(self.trace)
        except ValueError:
            return math.nan

    @property
    def keys(self) -> Keys:
        """The names of the worker's own keys."""
        return Keys(self.namespace)

    @property
    def cache_keys(self) -> CacheKeys:
        """The names of the keys inside Django's cache."""
        return CacheKeys(self.cache_key_prefix, self.cache_version)


def _config() -> AutoConfig:
    site = sys.modules.get(os.environ.get("DJANGO_SETTINGS_MODULE", ""))
    if file := getattr(site, "__file__", None):
        above = Path(file).resolve().parents
        if any((folder / name).is_file() for folder in above for name in AutoConfig.SUPPORTED):
            return AutoConfig(search_path=str(above[0]))
    return AutoConfig(search_path=str(Path.cwd()))


def _read(config: Callable[[str], str], field: dataclasses.Field[Any]) -> Any:
    variable = field.metadata["variable"]
    try:
        text = config(variable).strip()
    except UndefinedValueError:
        return field.default
    if not text:
        return field.default
    kind = type(field.default)
    try:
        return _cast(text, kind)
    except ValueError as error:
        expected = "on or off" if kind is bool else "a number"
        raise SettingsError(f"{variable} must be {expected}, not {text!r}") from error


def _cast(text: str, kind: type) -> Any:
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return _switch(text) if kind is bool else kind(text)


def _switch(text: str) -> bool:
    words = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _is_time_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return name == "UTC"  # needs no database of time zones
    return True


def _is_address_or_off(text: str) -> bool:
    # No host at all would be every one.
    return text == "off" or re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):[0-9]{1,5}", text) is not None


def _require(condition: bool, variable: str, rule: str) -> None:
    if not condition:
        raise SettingsError(f"{variable} {rule}")
