"""What a check of a probe costs: next to nothing, for who asks and for who is asked."""

from __future__ import annotations

import subprocess
import sys
import time

from connectbot.probe import ask
from connectbot.settings import Settings
from connectbot.watching.processes import Process
from tests.support import ROOT
from worker.health import Health, RedisWatch
from worker.probe_server import ProbeServer
from worker.probes import answer
from worker.pulse import Pulses

CHECKS = 200
MOST_CPU_SECONDS = 0.005

WHAT_IT_IMPORTS = """
import runpy, sys
sys.argv = ["connectbot.probe", "livez", "readyz", "127.0.0.1:1"]
try:
    runpy.run_module("connectbot.probe", run_name="__main__")
except SystemExit as end:
    print(end.code, *sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names - {"__main__"}))
"""


def test_a_check_imports_nothing_but_itself() -> None:
    command = [sys.executable, "-S", "-c", WHAT_IT_IMPORTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["1", "connectbot"], done.stderr
    assert done.stderr.startswith("connectbot.probe: nobody answers at 127.0.0.1:1")


def test_a_check_costs_less_than_five_milliseconds_of_cpu(settings: Settings) -> None:
    """CPU time, not time: another process that is busy changes nothing. Who asks is counted in."""
    pulses = Pulses()
    for lane in ("default", "java"):
        pulses.of_lane(lane).hold_lease(seconds=60)
    watch = RedisWatch(settings, Process(role="worker", name="worker@here", pid=1))
    watch.fault = ""
    health = Health(pulses, watch, lanes=("default", "java"))
    server = ProbeServer("127.0.0.1:0", {"/livez": lambda: answer(health.why_not_alive()),
                                         "/readyz": lambda: answer(health.why_not_ready())})  # fmt: skip
    server.run()
    host, _, port = server.address.partition(":")
    begun = time.process_time()
    told = {ask(host, int(port), ("livez", "readyz")[number % 2]) for number in range(CHECKS)}
    used = time.process_time() - begun
    server.stop()
    assert told == {(200, '{"ok": true, "reasons": []}\n')}
    assert used / CHECKS < MOST_CPU_SECONDS
