"""How an outage of Redis feels to a bot: ``python -m benchmarks.outage [--seconds 20] [--hang] [--kill-publisher]``.

A process calls v21's facade 100 times a second, ten events for each menu, with the spool on. In the middle, Redis is
killed (or made to hang) for some seconds. Printed are the times of the calls as the handler saw them, and what of the
events is in the stream at the end. With ``--kill-publisher`` the process is killed with -9 half-way through the
outage and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from connectbot.embedded import EmbeddedRedis
from connectbot.integration import RedisIntegration
from connectbot.redis_client import connect
from connectbot.settings import Settings

CALLS_A_SECOND = 100
EVENTS_A_MENU = 10
SECONDS_AROUND = 1.0

CALLER = f"""
import sys, time
from connectbot.integration import redis_integration
first, calls = int(sys.argv[1]), int(sys.argv[2])
begun = time.perf_counter()
for number in range(first, calls):
    time.sleep(max(0, begun + (number - first) / {CALLS_A_SECOND} - time.perf_counter()))
    before = time.perf_counter()
    if number % {EVENTS_A_MENU + 1}:
        well = redis_integration.events.publish_user_event(7, "user.action.count", {{"number": number}})
    else:
        well = len(redis_integration.menu_builder.build_main_menu(number, "admin")["options"]) == 5
    print(number, int(well), (time.perf_counter() - before) * 1000, flush=True)
"""


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="for how long Redis is away")
    parser.add_argument("--hang", action="store_true", help="let Redis hang (SIGSTOP) instead of killing it")
    parser.add_argument("--kill-publisher", action="store_true", help="kill -9 the calling process in between")
    arguments = parser.parse_args()
    with EmbeddedRedis() as redis, TemporaryDirectory() as directory:
        settings = Settings(redis_url=redis.url, spool=str(Path(directory) / "spool.db"))
        lines = play(redis, settings, Path(directory), arguments)
        report(lines, settings)


def play(redis: EmbeddedRedis, settings: Settings, directory: Path, arguments: argparse.Namespace) -> list[list[str]]:
    """Take Redis away from a process that calls, and give it back. Answers a line for each call."""
    calls = int((arguments.seconds + 2 * SECONDS_AROUND) * CALLS_A_SECOND)
    logs = [directory / "first.txt", directory / "second.txt"]
    caller = start(settings, logs[0], first=0, calls=calls)
    until_called(logs[0], SECONDS_AROUND)
    (redis.freeze if arguments.hang else redis.kill)()
    gone = time.monotonic()
    if arguments.kill_publisher:
        time.sleep(arguments.seconds / 2)
        caller.kill()
        caller.wait()
        caller = start(settings, logs[1], first=int(lines_of(logs[0])[-1][0]) + 1, calls=calls)
    time.sleep(max(0.0, gone + arguments.seconds - time.monotonic()))
    (redis.thaw if arguments.hang else redis.start)()
    caller.wait()
    return [line for log in logs if log.exists() for line in lines_of(log)]


def start(settings: Settings, log: Path, *, first: int, calls: int) -> subprocess.Popen[bytes]:
    """A process that makes the calls from number ``first`` on."""
    environment = {**os.environ, "REDIS_URL": settings.redis_url, "CONNECTBOT_SPOOL": settings.spool}
    with log.open("wb") as output:
        return subprocess.Popen([sys.executable, "-c", CALLER, str(first), str(calls)], env=environment, stdout=output)


def until_called(log: Path, seconds: float) -> None:
    """Wait until the process has called for so long."""
    while len(lines_of(log)) < seconds * CALLS_A_SECOND:
        time.sleep(0.01)


def lines_of(log: Path) -> list[list[str]]:
    """Number, answer and milliseconds of each call; a line cut off by a kill is left out."""
    return [line.split() for line in log.read_text().split("\n")[:-1]]


def report(lines: list[list[str]], settings: Settings) -> None:
    """Print what the calls saw, and what arrived."""
    facade = RedisIntegration(settings)
    facade.events.publish_global_event("user.action.count", {"number": -1})  # whoever calls next sends what waits
    while facade.health_check()["status"] != "healthy" or facade.health_check()["spool"]["waiting"]:
        time.sleep(0.05)
    facade.close()
    client = connect(settings.redis_url)
    rows = client.xrange(settings.keys.events)
    arrived = [json.loads(fields[b"event"])["data"]["number"] for _, fields in rows][:-1]
    milliseconds = sorted(float(line[2]) for line in lines)
    published = [int(line[0]) for line in lines if int(line[0]) % (EVENTS_A_MENU + 1)]
    menus = [line for line in lines if not int(line[0]) % (EVENTS_A_MENU + 1)]
    print(f"calls            {len(lines)}: {len(published)} events, {len(menus)} menus")
    print(f"answered well    {sum(line[1] == '1' for line in lines)}")
    for share in (0.5, 0.99, 0.999, 1.0):
        at = min(len(milliseconds) - 1, int(share * len(milliseconds)))
        print(f"{share:>7.1%} within  {milliseconds[at]:.2f} ms")
    print(f"lost             {len(set(published) - set(arrived))}")
    print(f"doubled          {sum(count - 1 for count in Counter(arrived).values())}")
    print(f"out of order     {sum(a > b for a, b in pairwise(arrived))}")


if __name__ == "__main__":
    main()
