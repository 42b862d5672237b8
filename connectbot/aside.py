"""How an entry leaves its lane without being done: the commands that put it aside, or bury it, as part of a commit."""

from __future__ import annotations

import time
from typing import Final

from connectbot.entries import Entry
from connectbot.keys import Keys
from connectbot.redis_client import Command

BEHIND_MS: Final = 600_000
"""A parked entry's turn comes as though it had first come so much later for each try that failed: those that always
fail never keep the others waiting for long, and each has its turn."""


def delaying(keys: Keys, lane: str, entry: Entry, *, due: float, attempts: int, tries: int) -> tuple[Command, ...]:
    """Put an entry aside until ``due`` (epoch seconds by Redis' clock: `EventStream.now`).

    ``tries`` counts those tries too that are not ``attempts``.
    """
    flat = entry.put_aside(lane=lane, attempts=attempts, tries=tries)
    return (
        ("HSET", keys.delayed_entry(lane, entry.id), *flat),
        ("ZADD", keys.delayed(lane), repr(due), entry.id),
    )


def parking(keys: Keys, lane: str, entry: Entry, *, deadline: float | None, tries: int) -> tuple[Command, ...]:
    """Put an entry aside until the lane's target is back. It is not an attempt.

    ``deadline`` (epoch seconds) is when the entry returns in any case. ``tries`` counts this one too, if it was one.
    """
    turn = int(entry.origin.partition("-")[0]) + tries * BEHIND_MS
    member = f"{entry.version}/{entry.id}"
    flat = entry.put_aside(lane=lane, attempts=entry.attempts, tries=tries)
    commands: tuple[Command, ...] = (
        ("HSET", keys.parked_entry(lane, member), *flat, b"parked", member),
        ("ZADD", keys.parked(lane), turn, member),
    )
    if deadline is None:
        return commands
    return (*commands, ("ZADD", keys.parked_deadlines(lane), repr(deadline), member))


def burying(keys: Keys, lane: str, entry: Entry, *, reason: str, error: str, attempts: int) -> Command:
    """Make an entry a dead letter (fields: contract v21)."""
    return (
        "XADD", keys.dead, "*", "type", entry.fields.get(b"type", b""), "event", entry.text,
        "lane", lane, "reason", reason, "error", error, "attempts", attempts, "entry_id", entry.origin,
        "died_at", repr(time.time()),
    )  # fmt: skip
