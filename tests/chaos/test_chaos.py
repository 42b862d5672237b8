"""A short run of ``connectbot chaos``, on an embedded Redis and on an operator's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from connectbot.redis_client import RedisClient
from tests.support import ROOT


def chaos(*arguments: str) -> dict[str, Any]:
    """The scorecard of one run."""
    command = [sys.executable, "-m", "worker.cli", "chaos", "--json", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    assert answer["scorecards"][0]["broken"] == [], done.stderr
    assert (answer["ok"], done.returncode) == (True, 0)
    card: dict[str, Any] = answer["scorecards"][0]
    return card


def test_killed_workers_lose_nothing_and_do_nothing_twice() -> None:
    card = chaos("--events", "5000", "--kills", "5", "--seed", "1")
    assert card["events"] >= 5000
    assert card["kills"] == 5
    assert card["executions_per_event"] >= 1


def test_an_operators_redis_is_left_as_it_was(client: RedisClient, redis_url: str) -> None:
    client.set("somebody:else", 1)
    chaos("--events", "1000", "--kills", "1", "--workers", "2", "--redis-url", redis_url, "--allow-foreign-keys")
    assert list(client.scan_iter()) == [b"somebody:else"]
