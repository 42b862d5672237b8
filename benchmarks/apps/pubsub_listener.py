"""v21's listener: what is published while it is down is lost, so that it is started first."""

from __future__ import annotations

import time
from collections.abc import Iterable

import redis

from benchmarks.work import broker_url, chunks, effects_url, handle

CHANNEL = "connectbot:global"


def enqueue(texts: Iterable[str]) -> None:
    """Publish each event, once somebody listens."""
    client = redis.Redis.from_url(broker_url())
    while not client.pubsub_numsub(CHANNEL)[0][1]:
        time.sleep(0.01)
    for chunk in chunks(texts, 500):
        pipe = client.pipeline(transaction=False)
        for text in chunk:
            pipe.publish(CHANNEL, text)
        pipe.execute()


def listen() -> None:
    """The work, message by message."""
    effects = redis.Redis.from_url(effects_url())
    listener = redis.Redis.from_url(broker_url()).pubsub(ignore_subscribe_messages=True)
    listener.subscribe(CHANNEL)
    for message in listener.listen():
        handle(effects, message["data"])


if __name__ == "__main__":
    listen()
