"""Finding keys by pattern, in steps: SCAN never stops Redis for long, however many keys there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from connectbot.redis_client import RedisClient, translated_errors

KEYS_A_STEP: Final = 2000
"""Keys that one SCAN looks at: about a millisecond of Redis."""


def pages(client: RedisClient, pattern: str) -> Iterator[list[bytes]]:
    """The keys that match ``pattern``, some at a time; one that is written meanwhile may be missed or come twice.

    Raises `RedisUnavailable`.
    """
    cursor = 0
    while True:
        with translated_errors():
            cursor, found = client.scan(cursor, match=pattern, count=KEYS_A_STEP)
        if found:
            yield found
        if not cursor:
            return


def literally(text: str) -> str:
    """A pattern that matches ``text`` and nothing else."""
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)
