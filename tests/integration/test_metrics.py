"""``/metrics`` of a real worker: right, and as the files of deploy/ expect it; its log is of one form."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.events import new_event
from connectbot.probe import ask
from connectbot.settings import Settings
from connectbot.watching.processes import Process, Processes
from tests.support import ROOT, Worker, wait_until
from worker.health import Health, RedisWatch
from worker.metrics import Metrics
from worker.pulse import Pulses

MARKER = "secret-marker"
ALERTS = YAML(typ="safe").load(ROOT / "deploy" / "alerts.yml")
DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
SILENT = 'up{job="connectbot"} == 0'
NAME = re.compile(r"\b(?:connectbot|celery|process)_[a-z0-9_]+")
LABELS = re.compile(r"\bby \(([a-z_, ]+)\)")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def busy(settings: Settings, ours: Clients, tmp_path: Path) -> Iterator[Worker]:
    """A worker of both lanes that has done some of everything; no Java service answers it."""
    settings = dataclasses.replace(settings, java_service_url="http://127.0.0.1:1")
    arguments = ["--concurrency=1", "--without-mingle"]
    with Worker(settings, tmp_path, arguments=arguments) as worker:
        worker.wait_ready()
        users = [
            new_event("user.created", {"user": {"id": id_, "name": MARKER}}, channel="connectbot:global", user_id=id_)
            for id_ in range(100)
        ]
        request = {"users": [1, 2], "request_id": "request-1", "employees": [{"id": 1, "interests": [MARKER]}]}
        matching = new_event("matching.request", request, channel="connectbot:service:matching", event_id="event-1")
        ours.publisher.publish(*users, matching)
        ours.redis.xadd(settings.keys.events, {"type": "user.created", "event": f'{{"id": 1, "data": "{MARKER}"}}'})
        with Celery(broker=settings.broker_url) as app:
            app.send_task("menus.rebuild", args=[[7]], queue="default")
            app.send_task("menus.rebuild", kwargs={"nonsense": MARKER}, queue="default")
        wait_until(lambda: ours.redis.xlen(settings.keys.dead) == 1, deadline_seconds=20, what="the dead letter")
        wait_until(lambda: value(ours, "celery_task_failed_total") == 1, deadline_seconds=20, what="the failed task")
        wait_until(lambda: ages_of(ours) == 100, deadline_seconds=20, what="every effect")
        wait_until(
            lambda: ours.redis.zcard(settings.keys.delayed("java")) or ours.redis.zcard(settings.keys.parked("java")),
            deadline_seconds=20,
            what="the matching request put aside",
        )
        yield worker


def page(ours: Clients) -> str:
    [seen] = Processes(ours.redis, ours.settings.keys).seen()
    host, _, port = seen.process.probes.partition(":")
    status, body = ask(host, int(port), "metrics")
    assert status == 200
    return body


def samples(ours: Clients) -> list[Any]:
    return [sample for family in text_string_to_metric_families(page(ours)) for sample in family.samples]


def value(ours: Clients, metric: str, /, **labels: str) -> float:
    """The sum of all samples of a name that have these labels."""
    return sum(s.value for s in samples(ours) if s.name == metric and labels.items() <= s.labels.items())


def ages_of(ours: Clients) -> float:
    return value(ours, "connectbot_event_age_seconds_count", lane="default")


def test_the_figures_are_right_and_the_log_is_of_one_form(busy: Worker, ours: Clients) -> None:
    _figures_are_right(ours)
    _deploy_names_what_there_is(ours)
    _log_is_of_one_form(busy.log.read_text())


def _figures_are_right(ours: Clients) -> None:
    wait_until(  # the matching request comes back now and then, to be tried again
        lambda: (
            value(ours, "connectbot_backlog_events") == 0
            and value(ours, "connectbot_delayed_events") + value(ours, "connectbot_parked_events") == 1
        ),
        deadline_seconds=20,
        what="a backlog of nothing, and one event put aside",
    )
    assert value(ours, "connectbot_dead_letters") == 1
    assert value(ours, "connectbot_users_known") == 100
    assert value(ours, "connectbot_consumers", lane="default") == value(ours, "connectbot_consumers", lane="java") == 1
    assert value(ours, "connectbot_redis_up") == value(ours, "connectbot_alive") == value(ours, "connectbot_ready") == 1
    assert value(ours, "celery_worker_up") == 1
    assert 0 < value(ours, "connectbot_event_age_seconds_sum", lane="default") < 100 * 20
    rebuilt = {"name": "menus.rebuild", "queue_name": "default"}
    assert value(ours, "celery_task_received_total", **rebuilt) == 2
    assert value(ours, "celery_task_succeeded_total", **rebuilt) == 1
    assert value(ours, "celery_task_runtime_count", **rebuilt) == 1
    assert value(ours, "celery_task_failed_total", exception="TypeError", **rebuilt) == 1
    assert value(ours, "celery_task_succeeded_total", name="menus.follow_users", queue_name="default") >= 1
    assert MARKER not in page(ours)


def _deploy_names_what_there_is(ours: Clients) -> None:
    families = {family.name: family for family in text_string_to_metric_families(page(ours))}
    for expression in expressions():
        if expression == SILENT:
            continue  # of Prometheus itself
        names = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in NAME.findall(expression)}
        assert names, expression
        assert names <= set(families), expression
        if names & {"celery_task_failed", "connectbot_redis_problem", "connectbot_occurrences"}:
            continue  # no series without a failure
        labels = {label for name in names for sample in families[name].samples for label in sample.labels}
        asked = {label.strip() for group in LABELS.findall(expression) for label in group.split(",")}
        assert asked <= labels, expression


def expressions() -> list[str]:
    """Every expression of the alerts and of the dashboard."""
    alerts = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    return alerts + [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def _log_is_of_one_form(text: str) -> None:
    assert MARKER not in text
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    _, _, after_banner = text.partition("{")
    assert all(line.startswith("{") for line in ("{" + after_banner).splitlines()), "every line is JSON"
    assert all({"timestamp", "level", "logger", "message"} <= line.keys() for line in lines)
    [put_aside, *_] = [line for line in lines if line.get("event_id") == "event-1"]
    assert put_aside["lane"] == "java"
    assert put_aside["attempt"] == 1
    assert put_aside["request_id"] == "request-1"
    assert len(put_aside["task_id"]) == 36
    [buried] = [line for line in lines if "becomes a dead letter" in line["message"]]
    assert (buried["lane"], buried["level"]) == ("default", "error")
    of_tasks = [line for line in lines if line["logger"] in ("celery.worker.strategy", "celery.app.trace")]
    assert {line["task"] for line in of_tasks} == {"menus.rebuild"}, "orders have no lines of their own"
    assert all(len(line["task_id"]) == 36 for line in of_tasks)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_alerts_pass_promtool() -> None:
    command = ["promtool", "check", "rules", str(ROOT / "deploy" / "alerts.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_answers_when_redis_refuses_a_command(settings: Settings, ours: Clients) -> None:
    ours.redis.set(settings.keys.counters, "no hash")
    health: Any = SimpleNamespace(redis_answers=True, redis_can_be_read=True, why_not_alive=list, why_not_ready=list)
    body, status, _ = Metrics(settings, Process(role="beat", name="beat@here", pid=1), health, Pulses()).page()
    assert status == 200
    assert b"connectbot_alive 1.0" in body
    assert b"connectbot_redis_up 0.0" in body


def test_figures_are_told_while_redis_takes_nothing(tmp_path: Path) -> None:
    process = Process(role="beat", name="beat@here", pid=1)
    with EmbeddedRedis(tmp_path, config={"min-replicas-to-write": "1"}) as server:
        settings = Settings(redis_url=server.url)
        watch = RedisWatch(settings, process)
        health = Health(Pulses(), watch, lanes=())
        watch.run()
        wait_until(lambda: watch.refuses, deadline_seconds=10, what="a refusal")
        body, _, _ = Metrics(settings, process, health, Pulses()).page()
        watch.stop()
    assert b"connectbot_redis_up 0.0" in body
    assert b"connectbot_stream_entries 0.0" in body


def test_every_alert_says_what_to_do() -> None:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
            assert rule["labels"]["severity"] in ("info", "warning", "critical"), rule["alert"]


def test_the_job_is_called_as_the_alerts_expect_it() -> None:
    assert SILENT in expressions()
    assert "\n  - job_name: connectbot " in (ROOT / "docs" / "production.md").read_text()


def test_alerts_see_a_first_failure_and_end_after_a_flush() -> None:
    expressions = {rule["alert"]: rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]}
    # increase() of a series that has just begun is 0; what Redis says of a flush stays until it is restarted.
    assert "celery_task_failed_total unless celery_task_failed_total offset 10m" in expressions["ConnectBotTasksFail"]
    assert (
        'unless max by (problem) (connectbot_redis_problem{problem="was_flushed"} offset'
        in (expressions["ConnectBotRedisAtRisk"])
    )


def test_what_is_parked_by_hand_is_no_outage() -> None:
    states = {
        rule["alert"]: re.findall(r'connectbot_java_breaker_state\{state="(\w+)"\}', rule["expr"])
        for group in ALERTS["groups"]
        for rule in group["rules"]
        if "breaker" in rule["expr"]
    }
    assert states == {
        "ConnectBotJavaBreakerOpen": ["open"],
        "ConnectBotParkedOld": ["forced_open"],
        "ConnectBotJavaParkedByHand": ["forced_open"],
    }
    assert 'unless on () max(connectbot_java_breaker_state{state="forced_open"}) == 1' in next(
        expression for expression in expressions() if "oldest_parked" in expression and "> 3600" in expression
    )


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells


DJANGO = """
import logging, logging.config
from connectbot.log import about, config
from django.conf import settings
settings.configure(LOGGING=config(), ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
urlpatterns = []
import django
django.setup()
from django.test import Client
with about(request_id="r-1"):
    Client().get("/nowhere")
logging.getLogger("django.server").info("served")
"""


def test_djangos_lines_are_of_the_same_form() -> None:
    done = subprocess.run([sys.executable, "-c", DJANGO], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    not_found, served = [json.loads(line) for line in done.stderr.splitlines()]
    assert (not_found["logger"], not_found["request_id"]) == ("django.request", "r-1")
    assert not_found["message"] == "Not Found: /nowhere"
    assert served["logger"] == "django.server"
