"""Processes whose probes are asked, and what ``connectbot check`` says meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses

from connectbot.probe import ask
from connectbot.redis_client import connect
from connectbot.settings import Settings
from connectbot.watching.diagnosis import Diagnosis
from connectbot.watching.processes import Processes
from tests.support import wait_until

RED_SECONDS = 30.0
GREEN_SECONDS = 30.0


@dataclasses.dataclass
class Probed:
    """A process whose probes are asked."""

    address: str

    def asks(self, probe: str) -> int:
        """The status of the answer, 0 when there is none."""
        host, _, port = self.address.partition(":")
        with contextlib.suppress(OSError):
            return ask(host, int(port), probe)[0]
        return 0

    def says(self, probe: str) -> str:
        host, _, port = self.address.partition(":")
        return ask(host, int(port), probe)[1]

    def turns_red(self, probe: str) -> None:
        wait_until(lambda: self.asks(probe) != 200, deadline_seconds=RED_SECONDS, what=f"/{probe} red")

    def turns_green(self, probe: str) -> None:
        wait_until(lambda: self.asks(probe) == 200, deadline_seconds=GREEN_SECONDS, what=f"/{probe} green")


def probes_of(settings: Settings, role: str) -> Probed:
    """The probes of the only process of a role, found as an operator finds them: in Redis."""
    client = connect(settings.redis_url)
    try:
        found = [seen.process for seen in Processes(client, settings.keys).seen()]
    finally:
        client.close()
    [address] = [process.probes for process in found if process.role == role]
    return Probed(address)


def causes(settings: Settings, *, beat: bool = False) -> dict[str, str]:
    """What ``connectbot check`` finds wrong with the lane ``default``: name → cause; of ``beat`` only when asked."""
    problems = Diagnosis(settings, ["default"]).problems()
    return {p.name: p.cause for p in problems if not p.is_advice and (beat or p.name != "beat_silent")}
