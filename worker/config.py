"""Celery's configuration, by the names that Celery gives it. Loaded by Celery when the app is first used."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from kombu import Queue

from connectbot.settings import Settings
from worker.routing import DEFAULT, JAVA, LANES, TASK_TIME_LIMIT_SECONDS
from worker.schedule import SCHEDULE

BEAT_LOCK_SECONDS: Final = 10
BEAT_LONGEST_SLEEP_SECONDS: Final = 2.0


def kombu_url(url: str) -> str:
    """A Redis URL as kombu writes it: it wants every sentinel as a URL of its own."""
    if not url.startswith("sentinel://"):
        return url
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    _, _, database = parts.path.strip("/").partition("/")
    return ";".join(f"sentinel://{credentials}{at}{host}/{database or 0}" for host in hosts.split(","))


def transport_options(url: str) -> dict[str, Any]:
    """What kombu's Redis transport needs to know beside the URL."""
    # A message that a worker took comes back this long after the worker has died: longer than any task may run.
    options: dict[str, Any] = {"visibility_timeout": 2 * TASK_TIME_LIMIT_SECONDS}
    if url.startswith("sentinel://"):
        options["master_name"] = urlsplit(url).path.strip("/").partition("/")[0]
    return options


_settings = Settings.load()

broker_url = kombu_url(_settings.broker_url)
broker_transport_options = transport_options(_settings.broker_url)
broker_connection_retry_on_startup = True

task_default_queue = DEFAULT
task_queues = [Queue(lane) for lane in LANES]
task_routes = {"matching.*": {"queue": JAVA}, "java.*": {"queue": JAVA}}
task_serializer = "json"
accept_content = ["json"]
task_ignore_result = True

# A task enqueued directly gets the best that Celery has: it is acknowledged when it is done, comes back when its
# process dies, and comes back after the visibility timeout when its worker dies.
task_acks_late = True
task_reject_on_worker_lost = True
task_time_limit = TASK_TIME_LIMIT_SECONDS

worker_prefetch_multiplier = 1
worker_send_task_events = True

# The lock is renewed at least every BEAT_LONGEST_SLEEP_SECONDS, so that a standby beat ticks within seconds after
# the active one has died. redbeat's own value would be 25 minutes.
beat_scheduler = "redbeat.RedBeatScheduler"
beat_schedule = SCHEDULE
beat_max_loop_interval = BEAT_LONGEST_SLEEP_SECONDS
redbeat_redis_url = kombu_url(_settings.redis_url)
redbeat_key_prefix = _settings.keys.beat_prefix
redbeat_lock_timeout = BEAT_LOCK_SECONDS
