"""Two trials of `java_trials`: answers of 10 MB with a crowd behind them, and single calls that take long."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import percentile
from benchmarks.installation import environment, wait_until
from benchmarks.java_work import publish
from benchmarks.process import Processes
from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.settings import Settings
from tests.support import environment as variables

Seen = tuple[dict[str, Any], dict[str, bool]]

SMALL: Final = b'{"status": "ok", "pairs": [], "algorithm": "small"}'
LARGE: Final = b'{"status": "ok", "pairs": [], "algorithm": "large", "meta": "' + b"x" * 10_000_000 + b'"}'
LARGE_EVERY: Final = 10
"""Two answers of 10 MB a second."""
THOUSAND: Final = [{"id": at, "department": f"d{at % 7}", "interests": ["x"] * 5} for at in range(1000)]
FORWARDED: Final = 10
SLOW_EVERY, SLOW_SECONDS, QUICK_SECONDS = 64, 5.0, 0.02


class Service(BaseHTTPRequestHandler):
    """Answers what a trial needs, which no stand-in does: ``trial`` is ``crowd`` or ``slow``."""

    protocol_version = "HTTP/1.1"
    trial = "crowd"

    def do_POST(self) -> None:
        """By its number, a request gets a large answer, or a slow one."""
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        found = re.search(rb'"requestId":"r(\d+)"', asked)
        number = int(found[1]) if found else 0
        if self.trial == "crowd":
            time.sleep(0.05)
            self._answer(SMALL if number % LARGE_EVERY else LARGE)
        else:
            time.sleep(QUICK_SECONDS if number % SLOW_EVERY else SLOW_SECONDS)
            self._answer(SMALL)

    def _answer(self, answer: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def crowd(options: argparse.Namespace) -> Seen:
    """The lane default, before and while the lane java has its hands full."""
    with service("crowd") as url, EmbeddedRedis() as redis, tempfile.TemporaryDirectory() as directory:
        settings = Settings(redis_url=redis.url, java_service_url=url, java_rate=20.0, java_max_concurrent=8)
        ours = Clients.open(settings)
        with worker(ours, "default", Path(directory)), worker(ours, "java", Path(directory)) as java:
            latencies(ours, 1, seconds=2)
            before = latencies(ours, 1_000, seconds=options.seconds)
            memory = [java.memory().rss_mib]
            _fill(ours, options.jobs)
            with _watching(java, memory):
                meanwhile = latencies(ours, 100_000, seconds=options.seconds)
            seen = {
                "default_lane_before": before, "default_lane_meanwhile": meanwhile,
                "java_worker_mib_before": round(memory[0]), "java_worker_mib_most": round(max(memory)),
                "answered_of_them": ours.redis.scard(settings.keys.temp_namespace("matching_results")),
                "redis_mib": round(ours.redis.info("memory")["used_memory"] / 2**20),
                "dead": ours.redis.xlen(settings.keys.dead),
            }  # fmt: skip
        # Every call in flight may hold an answer: as bytes, and as text once it is decoded.
        bound = settings.java_calls_per_process * 3 * len(LARGE) / 2**20
        return seen, {
            "p99 of the lane default at most doubles": meanwhile["p99_ms"] <= 2 * before["p99_ms"],
            f"the java worker grows by at most {bound:.0f} MiB": max(memory) - memory[0] <= bound,
            "nothing dead": seen["dead"] == 0,
        }


def slow(options: argparse.Namespace) -> Seen:
    """One call of many takes long: what the others lose by it. All slots busy all the time would be the ideal."""
    processes, calls_each = 2, 8
    with service("slow") as url, EmbeddedRedis() as redis, tempfile.TemporaryDirectory() as directory:
        settings = Settings(redis_url=redis.url, java_service_url=url, java_calls_per_process=calls_each)
        ours = Clients.open(settings)
        ours.stream.ensure_lanes(["default", "java"])
        for number in range(options.jobs):
            publish(ours, number)
        done = lambda: ours.redis.scard(settings.keys.temp_namespace("matching_results"))  # noqa: E731
        with worker(ours, "java", Path(directory), processes=processes):
            begun = time.monotonic()
            wait_until(lambda: done() >= options.jobs, what=f"{options.jobs} answers")
            taken = time.monotonic() - begun
    slow_calls = -(-options.jobs // SLOW_EVERY)
    busy = slow_calls * SLOW_SECONDS + (options.jobs - slow_calls) * QUICK_SECONDS
    ideal = busy / (processes * calls_each)
    seen = {
        "jobs": options.jobs, "slow_calls": slow_calls, "seconds": round(taken, 1), "seconds_at_best": round(ideal, 1),
        "seconds_if_each_batch_waited": round(slow_calls * SLOW_SECONDS / processes, 1),
    }  # fmt: skip
    # The last slow call may begin when all the others are done.
    return seen, {"at most twice the best, and a slow call": taken <= 2 * ideal + SLOW_SECONDS}


def _fill(ours: Clients, jobs: int) -> None:
    publish(ours, 0, users=list(range(1000)), employees=THOUSAND)
    for number in range(FORWARDED):
        data = {"operation": "secret_coffee", "payload": {"employees": THOUSAND}, "idempotency_key": f"k{number}"}
        ours.publisher.publish_microservice_event("java", "java.forward", data)
    for number in range(1, jobs):
        publish(ours, number)


def latencies(ours: Clients, first: int, *, seconds: float) -> dict[str, float]:
    """From publishing user.created to the menu in the cache, 20 times a second."""
    taken = []
    for user in range(first, first + int(seconds * 20)):
        begun = time.monotonic()
        ours.publisher.publish_global_event("user.created", {"user": {"id": user}})
        key = ours.settings.cache_keys.physical(f"menu:user:{user}:main")
        wait_until(lambda: ours.redis.exists(key), what=f"the menu of user {user}", poll_seconds=0.002)  # noqa: B023
        taken.append((time.monotonic() - begun) * 1000)
        time.sleep(max(0.0, begun + 0.05 - time.monotonic()))
    return {"p50_ms": round(percentile(taken, 50), 1), "p99_ms": round(percentile(taken, 99), 1)}


@contextmanager
def worker(ours: Clients, lane: str, directory: Path, *, processes: int = 1) -> Iterator[Processes]:
    """A worker of one lane, ready."""
    command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-Q", lane, "-n", f"{lane}@%h"]
    command += [f"--concurrency={processes}", "--loglevel=WARNING"]
    around = {**environment(ours.settings.redis_url), **variables(ours.settings)}
    with Processes(command, copies=1, environment=around, log=directory / f"{lane}.log") as started:

        def is_ready() -> bool:
            leases = ours.redis.keys(ours.settings.keys.lease("*"))
            return lane.encode() in map(ours.redis.get, leases)

        wait_until(is_ready, what=f"a worker of lane {lane}")
        yield started


@contextmanager
def _watching(processes: Processes, memory: list[float]) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.25):
            memory.append(processes.memory().rss_mib)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def service(trial: str) -> Iterator[str]:
    """The service of a trial, in a process of its own; answers its address."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "service.log"
        command = [sys.executable, "-u", "-m", "benchmarks.java_crowd", trial]
        with Processes(command, copies=1, environment=environment(""), log=log):
            wait_until(lambda: "\n" in log.read_text(), what="the service")
            yield json.loads(log.read_text())


if __name__ == "__main__":
    Service.trial = sys.argv[1]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    print(json.dumps(f"http://127.0.0.1:{server.server_port}"))
    server.serve_forever()
