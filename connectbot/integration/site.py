"""What stands behind v21's classes in one process: the way to Redis, and what is done while it is away.

Nothing here raises because Redis is away or refuses something: a read answers its default, a write False.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import redis

from connectbot.cache import CacheCodec
from connectbot.clients import Clients
from connectbot.complaints import Complaints
from connectbot.effects import Effects
from connectbot.errors import Fault, RedisUnavailable, SpoolUnusable
from connectbot.events import Event
from connectbot.keys import temp_key
from connectbot.local_menus import LocalMenus
from connectbot.outage import Outage
from connectbot.outbox import Delivery, Outbox
from connectbot.redis_client import Command, connect, translated_errors
from connectbot.settings import Settings
from connectbot.spool import Spool
from connectbot.temp_data import decode

T = TypeVar("T")
D = TypeVar("D")

CONNECT_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 0.5
"""How long a call may be held up, once, by a Redis that is about to be noticed as away."""
FINISH_SECONDS: Final = 2.0
"""How long the process's end may wait for what is being sent out of the spool."""

_PROBE_MS: Final = 1000
_logger = logging.getLogger("connectbot")


class Site:
    """The clients of one process and its answer to outages. Make it after a fork; it may be used by many threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pid = os.getpid()
        quick = connect(settings.redis_url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS)
        self.clients = Clients.open(settings, client=quick)
        self._patient = connect(settings.redis_url)  # for the thread that looks whether Redis is back
        self._codec = CacheCodec(settings.cache_serializer)
        self.local_menus = LocalMenus(ttl_seconds=settings.menu_ttl_seconds)
        self.complaints = Complaints(_logger)
        self.outage = Outage(self._recover)
        self.outbox: Outbox | None = None
        if settings.spool:
            self._open_outbox()

    # --- asking and telling ---------------------------------------------------------------------------

    def ask(self, what: str, work: Callable[[], T], default: D) -> T | D:
        """What ``work`` answers; ``default`` when it fails. ``what`` names it for the log."""
        try:
            with self.outage.guarding():
                return work()
        except RedisUnavailable:
            return default  # the outage has said so, once
        except Exception as error:  # v21's promise to its callers: an answer, never an exception
            self.complaints.say(_complaint(what, error))
            return default

    def publish(self, event: Event) -> bool:
        """Publish an event. Answers whether it is in the stream, or in the spool."""
        stream = self.clients.stream
        if self.outbox is None:
            return self.ask(f"event {event.type}", lambda: self._done(self.clients.publisher.publish(event)), False)
        return self._send(f"event {event.type}", lambda: stream.publishing(event), event_id=event.id)

    def store_temp(self, namespace: str, key: str, data: object, ttl_seconds: float | None) -> bool:
        """Keep temporary data. Answers whether it is in Redis, or in the spool."""
        now, temp_data = time.time(), self.clients.temp_data
        return self._send(
            f"temporary data {temp_key(namespace, key)}",
            lambda: temp_data.storing(namespace, key, data, ttl_seconds=ttl_seconds, now=now),
            ref=self._ref(namespace, key),
        )

    def delete_temp(self, namespace: str, key: str) -> bool:
        """Remove temporary data. Answers whether that is done, or in the spool."""
        return self._send(
            f"temporary data {temp_key(namespace, key)}",
            lambda: self.clients.temp_data.removing(namespace, [key]),
            ref=self._ref(namespace, key),
        )

    def extend_temp(self, namespace: str, key: str, ttl_seconds: float) -> bool:
        """Let temporary data live so long from now. Answers whether there is such data, as far as can be known."""
        now, temp_data, what = time.time(), self.clients.temp_data, f"temporary data {temp_key(namespace, key)}"
        if self.outbox and self._waiting(namespace, key):
            return self._send(
                what, lambda: temp_data.extending(namespace, key, ttl_seconds=ttl_seconds, now=now)
            )
        return self.ask(what, lambda: temp_data.extend(namespace, key, ttl_seconds=ttl_seconds, now=now), False)

    def temp(self, namespace: str, key: str, default: object) -> object:
        """Temporary data, from the spool where a newer word about it waits there."""
        what = f"temporary data {temp_key(namespace, key)}"
        if waiting := self._waiting(namespace, key):
            return self._told(what, lambda: self._data_in(namespace, key, waiting[0], default), default)
        return self.ask(what, lambda: self.clients.temp_data.get(namespace, key, default), default)
