"""A short run of ``connectbot chaos``, on an embedded Redis and on an operator's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from connectbot.redis_client import RedisClient
from tests.support import ROOT
from worker.chaos.run import PROBE_SECONDS


def chaos(*arguments: str) -> dict[str, Any]:
    """The scorecard of one run."""
    command = [sys.executable, "-m", "worker.cli", "chaos", "--json", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    card: dict[str, Any] = answer["scorecards"][0]
    broken = [promise for promise in card["broken"] if "p99" not in promise]  # a machine of CI may be slow
    assert broken == [], done.stderr
    assert (answer["ok"], done.returncode) == ((False, 1) if card["broken"] else (True, 0))
    return card


def test_nothing_is_lost_nor_done_twice() -> None:
    card = chaos("--events", "5000", "--kills", "3", "--redis-outages", "4", "--seed", "1")
    assert card["events"] >= 5000
    assert card["kills"] == 3
    assert card["executions_per_event"] >= 1
    assert sorted(card["outages"]) == ["redis_empty", "redis_freeze", "redis_half_open", "redis_kill"]
    assert card["outage_to_effect"]["max"] < PROBE_SECONDS, "the work did not go on after an outage"


def test_an_operators_redis_is_left_as_it_was(client: RedisClient, redis_url: str) -> None:
    client.set("somebody:else", 1)
    chaos("--events", "1000", "--kills", "1", "--workers", "2", "--redis-url", redis_url, "--allow-foreign-keys")
    assert list(client.scan_iter()) == [b"somebody:else"]
