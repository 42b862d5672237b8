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

from connectbot.cache import CacheCodec
from connectbot.clients import Clients
from connectbot.complaints import Complaints
from connectbot.effects import Effects
from connectbot.errors import RedisUnavailable, SpoolUnusable
from connectbot.events import Event
from connectbot.keys import Keys
from connectbot.offline.local_menus import LocalMenus
from connectbot.offline.outage import Outage
from connectbot.offline.outbox import Delivery, Outbox
from connectbot.offline.spool import Spool
from connectbot.redis_client import Command, connect, told_of, try_to_write
from connectbot.settings import Settings

T = TypeVar("T")
D = TypeVar("D")

CONNECT_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 1.0
"""How long a call may be held up, once, by a Redis that is about to be noticed as away."""
FINISH_SECONDS: Final = 2.0
"""How long the end of the process may wait for what is being sent out of the spool."""

_FAILED: Final = object()
_logger = logging.getLogger("connectbot")


class Site:
    """The clients of one process and its answer to outages. Make it after a fork; many threads may use it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pid = os.getpid()
        quick = connect(settings.redis_url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS)
        self.clients = Clients.open(settings, client=quick)
        self._patient = connect(settings.redis_url)  # for the thread that looks whether Redis is back
        self.codec = CacheCodec(settings.cache_serializer)
        self.local_menus = LocalMenus()
        self.complaints = Complaints(_logger)
        self.outage = Outage(self._recover)
        self.outbox = self._open_outbox() if settings.spool else None
        if self.outbox is not None:
            self.outbox.go_on()

    def ask(self, what: str, work: Callable[[], T], default: D, *, writes: bool = False) -> T | D:
        """What ``work`` answers, which needs Redis; ``default`` when it fails. ``what`` names it in the log.

        ``writes`` tells whether it does more than read.
        """

        def guarded() -> T:
            with self.outage.guarding(writes=writes):
                return work()

        return self.attempt(what, guarded, default)

    def attempt(self, what: str, work: Callable[[], T], default: D) -> T | D:
        """What ``work`` answers, which sees to outages itself; ``default`` when it fails."""
        try:
            return work()
        except RedisUnavailable:
            return default  # the outage has told it, once
        except Exception as error:  # v21 promises its callers an answer, never an exception
            self.complaints.say(f"{what}: {told_of(error)}")
            return default

    def do(self, what: str, work: Callable[[], object]) -> bool:
        """Whether ``work``, which writes to Redis, is done. ``what`` names it in the log."""

        return self.ask(what, work, _FAILED, writes=True) is not _FAILED

    def publish(self, what: str, make: Callable[[Keys], Event]) -> bool:
        """Publish the event that ``make`` makes. Answers whether it is in the stream, or kept in the spool."""
        keys, publisher = self.settings.keys, self.clients.publisher
        if self.outbox is None:
            return self.do(what, lambda: publisher.publish(make(keys)))
        event = self.attempt(what, lambda: make(keys), None)
        if event is None:
            return False
        traced = self.clients.tracer.publishing
        return self.send(
            what,
            lambda: (*publisher.publishing(event, largest_bytes=self.settings.max_event_bytes), *traced(event)),
            event_id=event.id,
        )

    def send(
        self, what: str, commands: Callable[[], Sequence[Command]], *, event_id: str = "", ref: str | None = None
    ) -> bool:
        """Have commands carried out together. Answers whether they are, or are kept in the spool.

        ``event_id`` is that of the event they publish, if they do; ``ref`` names what they are about, for `waiting`.
        """
        if (outbox := self.outbox) is None:
            return self.do(what, lambda: self._apply(commands()))

        def send() -> bool:
            outbox.send(commands(), now=time.time(), event_id=event_id, ref=ref)
            return True

        return self.attempt(what, send, False)

    def waiting(self, ref: str) -> tuple[Command, ...]:
        """The commands about something that came last, as long as they wait in the spool."""
        if (outbox := self.outbox) is None:
            return ()
        return self.attempt("the spool", lambda: outbox.latest(ref), ())

    def waiting_refs(self, starting: str) -> list[str]:
        """What waits in the spool, as far as its ``ref`` begins so."""
        if (outbox := self.outbox) is None:
            return []
        return self.attempt("the spool", lambda: outbox.refs(starting=starting), [])

    def close(self) -> None:
        """Close everything. What waits in the spool is sent by whoever opens it next."""
        self.outage.close()
        if self.outbox is not None:
            self.outbox.close()
        for client in (self.clients.redis, self._patient, self.clients.java):
            client.close()

    # --- inside ---------------------------------------------------------------------------------------

    def _apply(self, commands: Sequence[Command]) -> None:
        effects = Effects()
        effects.add(*commands)
        self.clients.stream.apply(effects)

    def _open_outbox(self) -> Outbox:
        settings, keys = self.settings, self.settings.keys
        spool, drain_spool = (Spool(settings.spool, room=settings.max_backlog) for _ in range(2))
        return Outbox(
            keys=keys,
            outage=self.outage,
            spool=spool,
            delivery=Delivery(self.clients.redis, keys, spool=spool, room=settings.room),
            drain_spool=drain_spool,
            drain_delivery=Delivery(self._patient, keys, spool=drain_spool, room=settings.room),
        )

    def _recover(self) -> bool:
        """What the thread of the outage does again and again, until it answers True."""
        was_read = self.outage.reads
        if not was_read:
            # Where one connection was half-open, the others most likely are, too.
            self._distrust_connections()
        try:
            # Reading may still work where writing does not: only a write tells.
            try_to_write(self._patient, self.settings.keys.probe)
            if was_read and self.outage.now is not None:
                # A master that was replaced refuses to write: others read from it until now, and none may stay there.
                self._distrust_connections()
            self.outage.end()
            self.local_menus.clear()
            return self.outbox is None or self.outbox.drain()
        except RedisUnavailable:
            if self.outbox is not None:
                with suppress(SpoolUnusable):  # whoever wants to write into it is told
                    self.outbox.sync()
            raise

    def _distrust_connections(self) -> None:
        self.clients.distrust_connections()
        if self.outbox is not None:
            self.outbox.distrust_connections()
        self._patient.connection_pool.disconnect(inuse_connections=False)


class SiteSource:
    """Gives the site of this process; opened by the first call, and anew in a process that was forked.

    ``load`` says with which settings.
    """

    def __init__(self, load: Callable[[], Settings]) -> None:
        self.closings = 0
        self._load = load
        self._site: Site | None = None
        self._inherited: Site | None = None
        self._lock = threading.Lock()
        _sources.add(self)

    def __call__(self) -> Site:
        if (site := self._ours()) is not None:
            return site
        with self._lock:
            if (site := self._ours()) is None:
                site = Site(self._load())
                self._inherited, self._site = self._site or self._inherited, site
            return site

    def settings(self) -> Settings:
        """The settings with which the next site is opened."""
        return self._load()

    def finish(self) -> None:
        """At the end of the process: let what waits in the spool be sent, if that is a matter of moments."""
        if (site := self._ours()) is not None:
            site.outage.finish(wait_seconds=FINISH_SECONDS)

    def forget_after_fork(self) -> None:
        """In a child process: the parent's site must be neither used nor closed."""
        self._inherited, self._site = self._site, None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the site; the next call opens another."""
        with self._lock:
            self.closings += 1
            site, self._site = self._ours(), None
        if site is not None:
            site.close()

    def _ours(self) -> Site | None:
        """The site, if this process has opened it: uWSGI forks without `forget_after_fork` being called."""
        site = self._site
        return site if site is not None and site.pid == os.getpid() else None


def default_settings() -> Settings:
    """The settings of this process: those of its Django site, where there is one, else of the environment."""
    conf = sys.modules.get("django.conf")
    if conf is not None and (conf.settings.configured or os.environ.get("DJANGO_SETTINGS_MODULE")):
        from connectbot.django.site import site_settings  # only here: without Django it cannot be imported

        return site_settings()
    return Settings.load()


def _finish_all() -> None:
    for source in list(_sources):
        with suppress(Exception):
            source.finish()


def _forget_all() -> None:
    for source in list(_sources):
        source.forget_after_fork()


_sources: weakref.WeakSet[SiteSource] = weakref.WeakSet()
atexit.register(_finish_all)
os.register_at_fork(after_in_child=_forget_all)

default_site = SiteSource(default_settings)


def generation() -> tuple[int, int]:
    """By which a process keeps what else it opens once: another one in a forked child, and after the site was closed.

    A test that overrides the site's settings closes it (``connectbot.django.apps``).
    """
    return os.getpid(), default_site.closings
