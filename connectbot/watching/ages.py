"""How old events are when they have their effect: a histogram for each lane, kept in Redis.

It is written by the commit that writes the effect. So it counts what has really happened, once, whichever process of
whichever worker did it, and it survives them all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from connectbot.redis_client import Command

BUCKETS_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the ages that are counted together; what is older still counts as `OLDER`."""
OLDER: Final = "+Inf"
SUM: Final = "sum_ms"

_BOUNDS_MS: Final = tuple(seconds * 1000 for seconds in BUCKETS_SECONDS)
_NAMES: Final = (*map(str, BUCKETS_SECONDS), OLDER)


@dataclass(frozen=True, slots=True)
class Ages:
    """The ages of a lane's events so far: ``buckets`` are (upper bound in seconds, as text; events up to it)."""

    buckets: Sequence[tuple[str, int]]
    sum_seconds: float

    @property
    def count(self) -> int:
        """How many events have had their effect."""
        return self.buckets[-1][1]

    @classmethod
    def read(cls, held: Mapping[bytes, bytes]) -> Ages:
        """What the hash `Keys.ages` says."""
        total, buckets = 0, []
        for name in _NAMES:
            total += int(held.get(name.encode(), 0))
            buckets.append((name, total))
        return cls(buckets, int(held.get(SUM.encode(), 0)) / 1000)


def counting(key: str, entries: Iterable[str], *, now: float) -> list[Command]:
    """The commands that count entries (ids, which begin with epoch milliseconds) whose effect comes at ``now``.

    ``now`` is in epoch seconds of this machine: a clock that is behind Redis' makes an age of 0.
    """
    now_ms = int(now * 1000)
    sum_ms, buckets = 0, Counter[str]()
    for came_ms, many in Counter([id_.partition("-")[0] for id_ in entries]).items():  # many came in the same instant
        age_ms = max(0, now_ms - int(came_ms))
        sum_ms += age_ms * many
        buckets[_NAMES[bisect_left(_BOUNDS_MS, age_ms)]] += many
    commands: list[Command] = [("HINCRBY", key, bucket, many) for bucket, many in buckets.items()]
    return [*commands, ("HINCRBY", key, SUM, sum_ms)] if commands else []
