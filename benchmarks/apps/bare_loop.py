"""The limit of redis-py: a loop around XREADGROUP 500, a pipeline of SETs, XACK. No framework, no recovery."""

from __future__ import annotations

import os
from collections.abc import Iterable

import redis

from benchmarks.work import broker_url, chunks, effects_url, fill

STREAM, GROUP = "bench", "bench"


def enqueue(texts: Iterable[str]) -> None:
    """An entry for each event; the group is made first."""
    client = redis.Redis.from_url(broker_url())
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    for chunk in chunks(texts, 500):
        pipe = client.pipeline(transaction=False)
        for text in chunk:
            pipe.xadd(STREAM, {"event": text})
        pipe.execute()


def loop() -> None:
    """The work, batch by batch."""
    client, effects = redis.Redis.from_url(broker_url()), redis.Redis.from_url(effects_url())
    while True:
        for _, rows in client.xreadgroup(GROUP, f"c{os.getpid()}", {STREAM: ">"}, count=500, block=500):
            texts = [fields[b"event"] for _, fields in rows]
            fill(effects.pipeline(transaction=False), texts).execute()
            client.xack(STREAM, GROUP, *[entry_id for entry_id, _ in rows])


if __name__ == "__main__":
    loop()
