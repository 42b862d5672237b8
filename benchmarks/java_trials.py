"""Hard days of the lane java, played with real processes; what CI plays small, large. Each prints one JSON object.

    python benchmarks/java_trials.py outage [--jobs 12000] [--speed 15]
    python benchmarks/java_trials.py kills [--jobs 1000] [--kills 20]
    python benchmarks/java_trials.py crowd [--jobs 10000] [--seconds 15]

``outage``: the service is away for ten minutes of load at 20 jobs a second, on a clock that is sped up, and comes back
while the load goes on. ``kills``: kill -9 of workers in the middle of their calls. ``crowd``: a request for 1,000
people, 10,000 requests waiting and answers of 10 MB in the lane java, and what the lane default feels of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.java_lane import ROOT, body, process
from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis, free_port
from connectbot.events import new_event
from connectbot.settings import Settings
from tests.support import Worker

LARGE = b'{"status": "ok", "pairs": [], "algorithm": "large", "meta": "' + b"x" * 10_000_000 + b'"}'


@contextmanager
def stand_in(port: int, *options: str) -> Iterator[None]:
    """The Java stand-in on a port of its own, ready."""
    source = ROOT / "examples" / "matching-service" / "MatchingService.java"
    with process("java", str(source), "--port", str(port), *options) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield


def calls(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url + "/__calls") as response:
        seen: dict[str, Any] = json.load(response)
    return seen


def wait(condition: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not within {seconds:g} s: {what}")
        time.sleep(0.2)


def publish(ours: Clients, number: int, **changes: Any) -> None:
    asked = body(number)
    data = {"users": [one["id"] for one in asked["employees"]], "employees": asked["employees"], **changes}
    channel = ours.settings.keys.service_channel("matching")
    ours.publisher.publish(new_event("matching.request", {"request_id": f"r{number}", **data}, channel=channel))


def completed(ours: Clients) -> list[str]:
    rows = ours.redis.xrange(ours.settings.keys.events)
    return [
        json.loads(row[b"event"])["data"]["request_id"] for _, row in rows if row.get(b"type") == b"matching.completed"
    ]


def results(ours: Clients) -> int:
    return int(ours.redis.scard(ours.settings.keys.temp_namespace("matching_results")))


def attempts(ours: Clients) -> int:
    """Attempts counted on all jobs that are put aside."""
    prefix = ours.settings.namespace
    found = [
        key
        for kind in ("parked", "delayed")
        for key in ours.redis.scan_iter(f"{prefix}:{kind}:java:*", count=1000, _type="hash")
    ]
    with ours.redis.pipeline(transaction=False) as pipe:
        for key in found:
            pipe.hget(key, "attempts")
        return sum(int(one or 0) for one in pipe.execute())


def most_per_second(times: list[float]) -> int:
    times, most, first = sorted(times), 0, 0
    for at, moment in enumerate(times):
        while moment - times[first] >= 1:
            first += 1
        most = max(most, at - first + 1)
    return most


@contextmanager
def workers(settings: Settings, count: int, *, lanes: tuple[str, ...] = ("java",)) -> Iterator[list[Worker]]:
    with ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        made = [
            stack.enter_context(Worker(settings, Path(directory), lanes=lanes, name=f"{lanes[0]}{at}"))
            for at in range(count)
        ]
        for worker in made:
            worker.wait_ready(deadline_seconds=60)
        yield made


def outage(options: argparse.Namespace) -> dict[str, Any]:
    rate, concurrent, speed = 300.0, 10, options.speed
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with EmbeddedRedis() as redis:
        settings = Settings(
            redis_url=redis.url, java_service_url=url, java_rate=rate, java_max_concurrent=concurrent,
            breaker_wait_duration_seconds=10 / speed, stream_keep=10 * options.jobs,
        )  # fmt: skip
        ours = Clients.open(settings)
        with workers(settings, 2):
            begun, during = time.monotonic(), options.jobs
            for number in range(during):
                publish(ours, number)
                time.sleep(max(0.0, begun + number / (20 * speed) - time.monotonic()))
            keys = settings.keys
            aside = lambda: ours.redis.zcard(keys.parked("java")) + ours.redis.zcard(keys.delayed("java"))  # noqa: E731
            wait(lambda: aside() == during, 60, "all jobs put aside")
            away_seconds, counted = time.monotonic() - begun, attempts(ours)
            delayed = ours.redis.zcard(keys.delayed("java"))
            with stand_in(port, "--latency-ms", "20"):
                back = time.monotonic()
                for number in range(during, during + 500):
                    publish(ours, number)
                    time.sleep(0.01)
                wait(lambda: results(ours) >= during + 500, 300, "every job done")
                drained, seen = time.monotonic() - back, calls(url)
        order = [int(call["request_id"][1:]) for call in seen["calls"]]
        displaced = [abs(number - at) for at, number in enumerate(order)]
        return {
            "jobs": during + 500, "done": len(set(completed(ours))), "completed_events": len(completed(ours)),
            "dead": ours.redis.xlen(keys.dead), "away_seconds": round(away_seconds, 1),
            "delayed_when_back": delayed, "attempts_counted_while_away": counted,
            "drained_in_seconds": round(drained, 1), "permitted_per_second": rate,
            "most_per_second": most_per_second([call["first_at"] for call in seen["calls"]]),
            "permitted_in_flight": concurrent, "most_in_flight": seen["most_in_flight"],
            "first_asked": order[:5], "places_out_of_order_p99": sorted(displaced)[int(len(displaced) * 0.99)],
            "places_out_of_order_max": max(displaced),
            "breaker_opened": ours.java_gate.breaker.status().opened,
        }  # fmt: skip


def kills(options: argparse.Namespace) -> dict[str, Any]:
    jobs, lot = options.jobs, random.Random(options.seed)
    port = free_port()
    with EmbeddedRedis() as redis, stand_in(port, "--latency-ms", "50"):
        settings = Settings(
            redis_url=redis.url, java_service_url=f"http://127.0.0.1:{port}", stream_keep=10 * jobs,
            java_service_timeout_seconds=5.0, java_max_concurrent=12, java_rate=60.0,
        )  # fmt: skip
        ours = Clients.open(settings)
        with workers(settings, 3) as living:
            for number in range(jobs):
                publish(ours, number)
            for kill in range(options.kills):
                reached = jobs * (kill + 1) // (options.kills + 2)
                wait(lambda: results(ours) >= reached, 120, f"{reached} answers")  # noqa: B023
                victim = lot.choice(living)
                victim.kill()
                victim.start()
            wait(lambda: results(ours) >= jobs, 120, "every answer")
            wait(lambda: ours.redis.xpending(settings.keys.events, "java")["pending"] == 0, 60, "nothing pending")
        seen, told = calls(settings.java_service_url), completed(ours)
        return {
            "jobs": jobs, "kills": options.kills, "keys_seen_by_the_service": len(seen["calls"]),
            "repeated_calls": seen["repeated"], "completed_events": len(told), "completed_requests": len(set(told)),
            "results_stored": results(ours), "dead": ours.redis.xlen(settings.keys.dead),
            "permits_left": ours.java_gate.breaker.status().in_flight,
        }  # fmt: skip


class LargeAnswers(BaseHTTPRequestHandler):
    """Answers 10 MB to every second request, after 50 ms."""

    protocol_version = "HTTP/1.1"
    numbers = itertools.count()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.05)
        answer = LARGE if next(self.numbers) % 2 else b'{"status": "ok", "pairs": [], "algorithm": "small"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def serve() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), LargeAnswers)
    print(f"large answers on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def latencies(ours: Clients, first: int, seconds: float) -> dict[str, Any]:
    """From publishing user.created to the menu in the cache, 20 times a second."""
    taken, start = [], time.monotonic()
    for user in range(first, first + int(seconds * 20)):
        begun = time.monotonic()
        ours.publisher.publish_global_event("user.created", {"user": {"id": user}})
        key = ours.settings.cache_keys.physical(f"menu:user:{user}:main")
        while not ours.redis.exists(key):
            time.sleep(0.002)
        ended = time.monotonic()
        taken.append((round((ended - begun) * 1000, 1), round(begun - start, 1)))
        time.sleep(max(0.0, 0.05 - (ended - begun)))
    taken.sort()
    return {
        "p50_ms": taken[len(taken) // 2][0],
        "p99_ms": taken[int(len(taken) * 0.99)][0],
        "slowest_ms_at_second": taken[:-5:-1],
    }


def memory_mb(pid: int) -> float:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(one.memory_info().rss for one in family) / 2**20


def crowd(options: argparse.Namespace) -> dict[str, Any]:
    command = (sys.executable, str(Path(__file__).resolve()), "serve")
    with EmbeddedRedis() as redis, process(*command) as large:
        assert large.stdout is not None
        url = large.stdout.readline().split()[-1]
        settings = Settings(redis_url=redis.url, java_service_url=url, java_rate=20.0, java_max_concurrent=8)
        ours = Clients.open(settings)
        with workers(settings, 1, lanes=("default",)), workers(settings, 1) as (java,):
            latencies(ours, 1, 2)
            before = latencies(ours, 1000, options.seconds)
            memory_before = memory_mb(java.pid)
            thousand = [{"id": at, "department": f"d{at % 7}", "interests": ["x"] * 5} for at in range(1000)]
            users = list(range(1000))
            publish(ours, 0, users=users, employees=thousand)
            for number in range(1, options.jobs):
                publish(ours, number)
            payload = {"employees": thousand}
            for number in range(50):
                data = {"operation": "secret_coffee", "payload": payload, "idempotency_key": f"k{number}"}
                ours.publisher.publish_microservice_event("java", "java.forward", data)
            ours.redis.config_set("slowlog-log-slower-than", 5000)
            most, ended = [memory_before], threading.Event()

            def watch() -> None:
                while not ended.wait(0.5):
                    most.append(memory_mb(java.pid))

            with ThreadPoolExecutor(1) as pool:
                watching = pool.submit(watch)
                during = latencies(ours, 5000, options.seconds)
                ended.set()
                watching.result()
            return {
                "default_lane_before": before, "default_lane_meanwhile": during,
                "java_worker_mb_before": round(memory_before), "java_worker_mb_most": round(max(most)),
                "redis_commands_over_5_ms": [
                    (one["duration"] / 1000, one["command"][:60].decode("latin-1"))
                    for one in ours.redis.slowlog_get(12)
                ],
                "answered_meanwhile": results(ours),
                "redis_mb": round(ours.redis.info("memory")["used_memory"] / 2**20),
                "dead": ours.redis.xlen(settings.keys.dead),
            }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", choices=["outage", "kills", "crowd", "serve"])
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--speed", type=float, default=15.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.trial == "serve":
        serve()
        return
    trial = {"outage": outage, "kills": kills, "crowd": crowd}[options.trial]
    options.jobs = options.jobs or {"outage": 12_000, "kills": 1000, "crowd": 10_000}[options.trial]
    print(json.dumps(trial(options), indent=2))


if __name__ == "__main__":
    main()
