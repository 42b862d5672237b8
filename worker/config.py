"""Celery's configuration, by the names that Celery gives it. Loaded by Celery when the app is first used."""

from __future__ import annotations

from typing import Final

from kombu import Queue

from connectbot.events import JAVA_TASKS
from connectbot.settings import Settings
from worker.broker import kombu_url, redbeat_options, redbeat_url, transport_options, use_ssl
from worker.routing import DEFAULT, JAVA, LANES, SPARE_BATCHES, TASK_TIME_LIMIT_SECONDS, time_limit_seconds
from worker.schedule import SCHEDULE

RESTORE_INTERVAL_SECONDS: Final = 5
SOFT_SHUTDOWN_SECONDS: Final = 5.0
BEAT_LOCK_SECONDS: Final = 10
BEAT_LONGEST_SLEEP_SECONDS: Final = 2.0


_settings = Settings.load()

broker_url = kombu_url(_settings.broker_url)
broker_use_ssl = use_ssl(_settings.broker_url)
broker_transport_options = {
    **transport_options(
        _settings.broker_url,
        # Longer than anything takes that a worker has taken: it may wait for a process behind so many batches of
        # events, and run up to its limit. Sooner would be twice.
        visibility_timeout_seconds=TASK_TIME_LIMIT_SECONDS
        + (1 + SPARE_BATCHES) * max(time_limit_seconds(lane, _settings) for lane in LANES),
    ),
    # Look every so many seconds for what has not been finished in that time; kombu's own values make it 100.
    "unacked_restore_interval": RESTORE_INTERVAL_SECONDS,
    "unacked_restore_throttle": 1,
    # A worker that dies while it looks holds up the others that long; kombu's own value is 300.
    "unacked_mutex_expire": 2 * RESTORE_INTERVAL_SECONDS,
}
broker_connection_retry_on_startup = True
broker_connection_max_retries = None  # however long Redis is away
broker_channel_error_retry = True  # a Redis that answers, but refuses (MISCONF: its disk is full), ends no worker

task_default_queue = DEFAULT
task_queues = [Queue(lane) for lane in LANES]
task_routes = {f"{prefix}*": {"queue": JAVA} for prefix in JAVA_TASKS}
task_serializer = "json"
accept_content = ["json"]
task_ignore_result = True

# A task enqueued directly gets the best that Celery has: it is acknowledged when it is done, comes back when its
# process dies, and comes back after the visibility timeout when its worker dies.
task_acks_late = True
task_reject_on_worker_lost = True
task_time_limit = TASK_TIME_LIMIT_SECONDS

# Asked to stop at once (SIGQUIT, or a second Ctrl-C), a worker still gives its tasks this long and returns the rest to
# the queue. SIGTERM waits for them all; REMAP_SIGTERM=SIGQUIT makes it as quick, where a platform kills soon after.
worker_soft_shutdown_timeout = SOFT_SHUTDOWN_SECONDS

worker_prefetch_multiplier = 1
worker_consumer = "worker.steady_consumer:SteadyConsumer"
worker_pool = "worker.steady_pool:SteadyPool"
worker_send_task_events = True

timezone = _settings.timezone

# The lock is renewed at least every BEAT_LONGEST_SLEEP_SECONDS, so that a standby beat ticks within seconds after
# the active one has died. redbeat's own value would be 25 minutes.
beat_scheduler = "worker.beat:WatchedScheduler"
beat_schedule = SCHEDULE
beat_max_loop_interval = BEAT_LONGEST_SLEEP_SECONDS
redbeat_redis_url = redbeat_url(_settings.redis_url)
redbeat_redis_options = redbeat_options(_settings.redis_url)
redbeat_redis_use_ssl = use_ssl(_settings.redis_url)
redbeat_key_prefix = _settings.keys.beat_prefix
redbeat_lock_timeout = BEAT_LOCK_SECONDS
