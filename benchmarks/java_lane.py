"""Jobs per second through the lane java, beside plain Celery, on the same machine in one run.

    python benchmarks/java_lane.py [--jobs 3000] [--latency-ms 20] [--calls 24]

Both send every request to the Java stand-in (``java MatchingService.java``; the Python one where there is no Java) and
wait for its answer. Plain Celery: prefork with two processes, one ``requests.post`` a task; it needs ``requests``.
Ours: two processes, with the calls in flight that ``--calls`` allows, and once more with 8 in flight in all, beside the
limit that concurrency and latency set. What is counted is what the service has answered, by its own book.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.events import new_event
from connectbot.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PEOPLE = 6
PROCESSES = 2
PATH = "/api/v1/matching/match/secret-coffee"

plain = Celery("plain", broker=os.environ.get("PLAIN_BROKER", "redis://localhost"))
plain.conf.update(worker_prefetch_multiplier=4, task_ignore_result=True)


@plain.task(name="plain.match")  # type: ignore[untyped-decorator]
def match(url: str, key: str, body: dict[str, Any]) -> None:
    """What anybody would write first."""
    import requests

    requests.post(url + PATH, json=body, headers={"Idempotency-Key": key}, timeout=15).raise_for_status()


def body(number: int) -> dict[str, Any]:
    """One request, for people of its own."""
    first = number * PEOPLE
    return {
        "requestId": f"r{number}",
        "employees": [{"id": first + at, "department": f"d{at % 3}"} for at in range(PEOPLE)],
    }


@contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process with all its children, ended in the end."""
    started = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        assert started.stdout is not None
        started.stdout.close()


@contextmanager
def service(latency_ms: int) -> Iterator[str]:
    """The stand-in; answers its address."""
    folder = ROOT / "examples" / "matching-service"
    command = (
        ["java", str(folder / "MatchingService.java")]
        if shutil.which("java")
        else [sys.executable, str(folder / "matching_service.py")]
    )
    with process(*command, "--port", "0", "--latency-ms", str(latency_ms)) as running:
        assert running.stdout is not None
        yield running.stdout.readline().split()[-1]


def answered(url: str) -> tuple[int, int]:
    """How many calls the service has answered, and how many were in flight at once."""
    with urllib.request.urlopen(url + "/__calls") as response:
        seen = json.load(response)
    return seen["requests"] - seen["in_flight"], seen["most_in_flight"]


def measure(url: str, jobs: int) -> dict[str, float]:
    """Jobs per second from the second tenth of the jobs to the last of them."""
    begun, marks = 0.0, 0
    while True:
        done, most = answered(url)
        now = time.monotonic()
        if not begun and done >= jobs / 10:
            begun, marks = now, done
        if done >= jobs:
            return {"jobs_per_second": round((done - marks) / (now - begun), 1), "most_in_flight": most}
        time.sleep(0.5)  # asking costs the service some milliseconds


def with_celery(jobs: int, latency_ms: int) -> dict[str, float]:
    """Plain Celery: a task a job."""
    with EmbeddedRedis() as redis, service(latency_ms) as url:
        plain.conf.broker_url = redis.url
        for number in range(jobs):
            match.delay(url, f"k{number}", body(number))
        arguments = ["-A", "benchmarks.java_lane:plain", "worker", f"--concurrency={PROCESSES}", "--loglevel=ERROR"]
        with process(sys.executable, "-m", "celery", *arguments, PLAIN_BROKER=redis.url):
            return measure(url, jobs)


def with_connectbot(jobs: int, latency_ms: int, *, calls: int, max_concurrent: int) -> dict[str, float]:
    """Ours: an event a job."""
    with EmbeddedRedis() as redis, service(latency_ms) as url:
        settings = Settings(
            redis_url=redis.url,
            java_service_url=url,
            java_calls_per_process=calls,
            java_max_concurrent=max_concurrent,
            java_rate=10_000.0,
            java_batch_size=256,
        )
        ours = Clients.open(settings)
        ours.stream.ensure_lanes(["java"])
        channel = settings.keys.service_channel("matching")
        for number in range(jobs):
            asked = body(number)
            data = {"users": [one["id"] for one in asked["employees"]], "employees": asked["employees"]}
            ours.publisher.publish(new_event("matching.request", data, channel=channel))
        values = {
            field.metadata["variable"]: str(getattr(settings, field.name))
            for field in dataclasses.fields(settings)
            if not isinstance(getattr(settings, field.name), tuple)
        }
        arguments = ["-A", "worker", "worker", "-Q", "java", f"--concurrency={PROCESSES}", "--loglevel=ERROR"]
        with process(sys.executable, "-m", "celery", *arguments, **values):
            return measure(url, jobs)


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--latency-ms", type=int, default=20)
    parser.add_argument("--calls", type=int, default=24, help="calls in flight per process")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    limit = 8 * 1000 / options.latency_ms
    with tempfile.TemporaryDirectory():
        celery = with_celery(options.jobs // 4, options.latency_ms)
        many = with_connectbot(
            options.jobs, options.latency_ms, calls=options.calls, max_concurrent=PROCESSES * options.calls
        )
        eight = with_connectbot(options.jobs, options.latency_ms, calls=8, max_concurrent=8)
    shown = {
        "plain Celery": celery,
        f"ours, {PROCESSES * options.calls} in flight": many,
        "ours, 8 in flight": eight,
        "ratio to plain Celery": round(many["jobs_per_second"] / celery["jobs_per_second"], 2),
        f"share of the limit of {limit:g}/s": round(eight["jobs_per_second"] / limit, 3),
    }
    print(json.dumps(shown) if options.json else "\n".join(f"{name:28} {value}" for name, value in shown.items()))


if __name__ == "__main__":
    main()
