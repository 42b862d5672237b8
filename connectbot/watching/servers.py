"""The Redis servers of an installation: the one of all, and the broker's, where ``CELERY_BROKER_URL`` names another.

Who watches asks them with little patience: a Redis that takes longer than `ANSWER_SECONDS` hangs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from connectbot.errors import RedisUnavailable
from connectbot.keys import Keys
from connectbot.redis_client import RedisClient, connect, try_to_write
from connectbot.settings import Settings

ANSWER_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Server:
    """One server: ``called`` so in sentences, named by the variable ``setting``. It ``holds`` events or tasks, and when
    it is full, ``relief`` makes room. The names of its problems begin with ``prefix``.
    """

    url: str
    called: str
    setting: str
    holds: str
    relief: str
    prefix: str = ""

    def client(self) -> RedisClient:
        """A client for who watches."""
        return connect(self.url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)


def servers(settings: Settings) -> Sequence[Server]:
    """The one that holds all first, and the one that holds Celery's queues last: one and the same where one URL names
    both.
    """
    main = Server(
        settings.redis_url,
        called="Redis",
        setting="REDIS_URL",
        holds="events",
        relief="drop dead letters (connectbot dead), or start workers for a lane that lags",
    )
    broker = Server(
        settings.broker_url,
        called="The broker's Redis",
        setting="CELERY_BROKER_URL",
        holds="tasks",
        relief="or start workers for a queue that is long",
        prefix="broker_",
    )
    return [main] if broker.url == main.url else [main, broker]


def refused_write(client: RedisClient, keys: Keys) -> str:
    """Why Redis refuses what is written to it, in its words; empty when it takes it. Raises `RedisUnavailable`."""
    try:
        try_to_write(client, keys.probe)
    except RedisUnavailable as error:
        if not error.refuses_writes:
            raise
        return str(error.__cause__).rstrip(".")
    return ""
