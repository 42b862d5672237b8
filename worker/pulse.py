"""What must keep moving in this process, and when it last did: the ground on which ``/livez`` and ``/readyz`` stand."""

from __future__ import annotations

import time
from collections.abc import Iterator


class Pulse:
    """The pulse of one part of the process, such as ``lane default``. Times are on the monotonic clock.

    Plain attributes: each is written by one thread, and a reader may be an instant behind.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self.moved_at = time.monotonic()
        self._lease_until = 0.0

    def move(self) -> None:
        """The part has gone round once more."""
        self.moved_at = time.monotonic()

    def hold_lease(self, *, seconds: float) -> None:
        """The part has a lease (in Redis) that lives so long from now on; 0 gives it up."""
        self._lease_until = time.monotonic() + seconds

    @property
    def holds_lease(self) -> bool:
        """Whether the lease cannot have run out yet."""
        return time.monotonic() < self._lease_until


class Pulses:
    """All parts of this process. A part begins when it is first asked for, and has some time from then on to move."""

    def __init__(self) -> None:
        self._pulses: dict[str, Pulse] = {}

    def of(self, part: str) -> Pulse:
        """The pulse of a part: one, however often the part itself begins anew."""
        return self._pulses.setdefault(part, Pulse(part))

    def of_lane(self, lane: str) -> Pulse:
        """The pulse of the consumer of a lane."""
        return self.of(f"lane {lane}")

    def __iter__(self) -> Iterator[Pulse]:
        return iter(tuple(self._pulses.values()))


pulses = Pulses()
