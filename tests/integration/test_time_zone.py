"""The schedule's time zone, across the changes of the clocks: the scheduler itself, with a moved clock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery, current_app
from celery.schedules import crontab

from connectbot.settings import Settings
from tests.support import ROOT, environment
from worker.steady_beat import SteadyScheduler

STEP = timedelta(minutes=30)
NIGHTLY = "nightly"


class Clock:
    """What the app takes for the time."""

    def __init__(self, zone: str, start: datetime) -> None:
        self.zone = ZoneInfo(zone)
        self.time = start.astimezone(UTC)

    def now(self) -> datetime:
        """As `Celery.now`: in the app's time zone."""
        return self.time.astimezone(self.zone)


class Recorder(SteadyScheduler):
    """The scheduler, which notes when it would have sent a task, in place of sending it."""

    sent: list[datetime]

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **_: Any) -> None:
        next(entry)
        if entry.name == NIGHTLY:  # Celery puts an entry of its own into every schedule
            self.sent.append(self.app.now())

    @property
    def producer(self) -> None:
        """There is nobody to send to."""


@pytest.fixture
def apps(redis_url: str) -> Iterator[Any]:
    """Makes an app with one entry in its schedule, whose time is a `Clock`'s."""
    before = current_app._get_current_object()

    def make(clock: Clock, schedule: crontab) -> Celery:
        app = Celery("dst", broker=redis_url, set_as_current=True)
        app.conf.update(timezone=clock.zone.key, redbeat_redis_url=redis_url, redbeat_key_prefix="test:beat:")
        app.conf.beat_schedule = {NIGHTLY: {"task": "nightly", "schedule": schedule}}
        app.now = clock.now  # type: ignore[method-assign]
        return app

    yield make
    before.set_current()


def ticks(app: Any, clock: Clock, *, days: int) -> list[datetime]:
    """When the entry was due, in the app's zone; the scheduler begins anew each hour, as after a restart."""
    sent: list[datetime] = []
    for _ in range(24 * days):
        scheduler = recorder(app, sent)
        for _ in range(timedelta(hours=1) // STEP):
            scheduler.tick()
            clock.time += STEP
    return sent


def recorder(app: Any, sent: list[datetime]) -> Recorder:
    """A scheduler without a lock."""
    made = Recorder(app=app, lock_key=None)
    made.lock_key, made.sent = None, sent
    return made


@pytest.mark.parametrize(
    ("zone", "before"),
    [
        pytest.param("Europe/Berlin", datetime(2026, 3, 27, 12, tzinfo=UTC), id="Berlin-spring"),
        pytest.param("Europe/Berlin", datetime(2026, 10, 23, 12, tzinfo=UTC), id="Berlin-autumn"),
        pytest.param("Europe/Moscow", datetime(2026, 3, 27, 12, tzinfo=UTC), id="Moscow"),
    ],
)
@pytest.mark.parametrize(("hour", "minute"), [(1, 30), (2, 30), (3, 30), (12, 30)])
def test_a_daily_entry_ticks_once_a_day_whatever_the_clocks_do(
    zone: str, before: datetime, hour: int, minute: int, apps: Any
) -> None:
    """In Berlin 2:30 is left out in spring, when it ticks at 3:30, and comes twice in autumn."""
    clock = Clock(zone, before)
    found = ticks(apps(clock, crontab(hour=hour, minute=minute)), clock, days=4)
    assert [at.date() for at in found] == [before.date() + timedelta(days=day) for day in range(1, 5)]
    left_out = zone == "Europe/Berlin" and hour == 2
    assert {(at.hour, at.minute) for at in found} - ({(3, minute)} if left_out else set()) == {(hour, minute)}


def test_a_clock_that_is_set_back_holds_up_nothing(apps: Any) -> None:
    clock, sent = Clock("UTC", datetime(2027, 3, 27, tzinfo=UTC)), list[datetime]()
    scheduler = recorder(apps(clock, crontab(hour=12, minute=30)), sent)
    for set_back in (timedelta(), timedelta(days=300), timedelta(hours=3)):
        clock.time -= set_back
        for _ in range(timedelta(days=1) // STEP):
            scheduler.tick()
            clock.time += STEP
    assert [at.date().isoformat() for at in sent] == ["2027-03-27", "2026-06-01", "2026-06-02"]


def test_the_time_zone_comes_from_the_settings(settings: Settings) -> None:
    program = "from worker import app; print(app.timezone, app.now().utcoffset())"
    for zone, offset in (("", "UTC 0:00:00"), ("Europe/Moscow", "Europe/Moscow 3:00:00")):
        variables = {**os.environ, **environment(settings), "CONNECTBOT_TIMEZONE": zone}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60
        )
        assert done.stdout.strip() == offset, done.stderr
