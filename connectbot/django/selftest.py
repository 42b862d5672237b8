"""Trying out for real what a site does with Redis: the work of ``manage.py test_redis``.

What the site's facade writes is looked at by another way, and the reverse: the facade alone would also answer while
Redis is away.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis
from django.core.cache import cache as django_cache

from connectbot.cache_keys import menu_key, temp_key, user_namespace
from connectbot.errors import RedisUnavailable
from connectbot.integration import EventSubscriber, RedisIntegration
from connectbot.redis_client import RedisClient, connect, translated_errors, try_to_write
from connectbot.redis_url import RedisAddress
from connectbot.settings import Settings

ANSWER_SECONDS: Final = 1.5
HEAR_SECONDS: Final = 2.0
ALL_SECONDS: Final = 7.0
"""All components together must be through by then, whatever hangs."""
TTL_SECONDS: Final = 60
LOOKED_THROUGH: Final = 1000
EVENT_TYPE: Final = "user.action.test_redis"
"""Known to the workers, and without effect."""

DIFFERENT = (
    "see that CACHES['default'] is made by connectbot.django.redis_settings(), or names the Redis, KEY_PREFIX, VERSION "
    "and SERIALIZER of the environment; `manage.py check` tells the difference"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one component; ``remedy`` says what to do when it does not work."""

    component: str
    works: bool
    saw: str
    remedy: str = ""


class Broken(Exception):
    """A component does not work."""

    def __init__(self, saw: str, remedy: str) -> None:
        super().__init__(saw)
        self.remedy = remedy


class Selftest:
    """The components of one site, tried out on behalf of one user, whose own data is left alone."""

    def __init__(self, settings: Settings, facade: RedisIntegration, *, user_id: int) -> None:
        self._settings = settings
        self._facade = facade
        self._user_id = user_id
        self._address = RedisAddress.parse(settings.redis_url)
        self._token = uuid.uuid4().hex
        self._away: RedisUnavailable | None = None

    def findings(self, components: Sequence[str], *, within_seconds: float = ALL_SECONDS) -> Iterator[Finding]:
        """Try the components one after the other; what has not answered in time counts as broken."""
        found: queue.SimpleQueue[Finding] = queue.SimpleQueue()
        deadline = time.monotonic() + within_seconds

        def try_all() -> None:
            for component in components:
                found.put(self._try(component))

        # Whatever hangs, hangs there: a daemon does not keep the process from ending.
        threading.Thread(target=try_all, name="test-redis", daemon=True).start()
        for component in components:
            try:
                yield found.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                yield Finding(component, False, f"no answer within {within_seconds:g} s", self._start_redis())

    def _try(self, component: str) -> Finding:
        begun = time.monotonic()
        try:
            with translated_errors():  # those that come through Django's cache
                saw = COMPONENTS[component](self)
        except Broken as broken:
            return Finding(component, False, str(broken), broken.remedy)
        except RedisUnavailable as error:
            return Finding(component, False, str(error), self._start_redis())
        except Exception as error:  # it must be told, whatever it is
            return Finding(
                component, False, f"{type(error).__name__}: {error}", "see the log of Redis and of this site"
            )
        return Finding(component, True, f"{saw} ({(time.monotonic() - begun) * 1000:.0f} ms)")

    # --- the components -------------------------------------------------------------------------------

    def try_cache(self) -> str:
        """Menus and values, each written on one side and read on the other."""
        self._require_redis()
        menu_type, menus = f"test_redis_{self._token}", self._facade.menu_cache
        key = menu_key(self._user_id, menu_type)
        try:
            _must(django_cache.set(key, self._token, TTL_SECONDS), "Django's cache stored nothing", DIFFERENT)
            _must(django_cache.get(key) == self._token, "Django's cache lost what it had stored", DIFFERENT)
            django_cache.set(key, json.dumps(self._v21_record(menu_type)), TTL_SECONDS)
            menu = menus.get_user_menu(self._user_id, menu_type) or {}
            _must(_holds(menu, self._token), "a menu that Django's cache stored is not in menu_cache", DIFFERENT)
            menus.set_user_menu(self._user_id, {"test": [self._token]}, menu_type, TTL_SECONDS)
            text = django_cache.get(key)
            _must(
                isinstance(text, str) and _holds(json.loads(text), [self._token]),
                "a menu that menu_cache stored is not in Django's cache",
                DIFFERENT,
            )
        finally:
            django_cache.delete(key)
        return f"a menu of user {self._user_id}: Django's cache and menu_cache each read what the other wrote"

    def try_events(self) -> str:
        """An event published, heard on the user's channel, and found in the stream."""
        self._require_redis()
        subscriber = EventSubscriber(self._settings)
        heard: list[str] = []
        try:
            subscriber.subscribe_to_user_events(self._user_id, lambda event: self._note(event, heard, subscriber.stop))
            subscriber.listen_for_messages(0)
            published = self._facade.events.publish_user_event(self._user_id, EVENT_TYPE, {"token": self._token})
            _must(published, "an event was not taken", "see what `--component=health` says of the stream")
            subscriber.listen_for_messages(HEAR_SECONDS)
            _must(
                heard,
                f"an event was taken, and not heard within {HEAR_SECONDS:g} s",
                "events may be waiting in the spool: see what `--component=health` says of it",
            )
        finally:
            subscriber.close()
        where = self._find_in_stream(heard[0])
        return f"an event of user {self._user_id} was heard on its channel, and {where}"

    def try_temp_data(self) -> str:
        """Data stored, read by the site's other cache, given more time, and removed."""
        self._require_redis()
        manager = self._facade.get_user_manager(self._user_id)
        key, data = f"test_redis_{self._token}", {"token": self._token, "list": [1, "два", None]}
        try:
            _must(manager.store_data(key, data, TTL_SECONDS), "temporary data was not taken", DIFFERENT)
            _must(manager.get_data(key) == data, "temporary data was taken, and is not there", DIFFERENT)
            text = django_cache.get(temp_key(user_namespace(self._user_id), key))
            _must(
                isinstance(text, str) and json.loads(text)["data"] == data,
                "temporary data was taken, and is not in Django's cache",
                DIFFERENT,
            )
            _must(manager.extend_data(key, 2 * TTL_SECONDS), "the time of temporary data was not extended", DIFFERENT)
        finally:
            manager.delete_data(key)
        _must(manager.get_data(key) is None, "temporary data was removed, and is still there", DIFFERENT)
        return f"data of user {self._user_id} was stored, read by Django's cache too, given more time, and removed"

    def try_health(self) -> str:
        """What the facade says of itself."""
        health = self._facade.health_check()
        causes = [part["cause"] for part in (health["redis"], *health["components"].values())]
        against = "; ".join(sorted({cause for cause in causes if cause}))
        told = f"health_check() answers {health['status']!r}"
        _must(health["status"] == "healthy", f"{told}: {against or 'see its `spool`'}", self._start_redis())
        return told

    # --- inside ---------------------------------------------------------------------------------------

    def _require_redis(self) -> None:
        """Raises `RedisUnavailable` soon when Redis does not take a write: what follows could only wait in vain."""
        if self._away is not None:
            raise self._away
        client = self._connect()
        try:
            try_to_write(client, self._settings.keys.probe)
        except RedisUnavailable as error:
            self._away = error
            raise
        finally:
            client.close()

    def _connect(self) -> RedisClient:
        return connect(self._settings.redis_url, socket_connect_timeout=ANSWER_SECONDS, socket_timeout=ANSWER_SECONDS)

    def _v21_record(self, menu_type: str) -> dict[str, Any]:
        menu = {"test": self._token}
        return {"data": menu, "user_id": self._user_id, "menu_type": menu_type, "cached_at": 0}

    def _note(self, event: dict[str, Any], heard: list[str], stop: Callable[[], None]) -> None:
        if event.get("data") == {"token": self._token}:
            heard.append(event["id"])
            stop()

    def _find_in_stream(self, event_id: str) -> str:
        """Where an event that was heard is. Raises `Broken` when it is not in the stream."""
        stream, client = self._settings.keys.events, self._connect()
        try:
            entries = client.xrevrange(stream, count=LOOKED_THROUGH)
        except redis.exceptions.NoPermissionError:  # a site's user needs no such right (deploy/redis-acl)
            return f"went into {stream}, as far as this user of Redis may see"
        finally:
            client.close()
        texts = (fields.get(b"event", b"") for _, fields in entries)
        _must(
            any(event_id.encode() in text for text in texts),
            f"an event was heard, and is not in the stream {stream}",
            "see that no older ConnectBot publishes under the same name (CONNECTBOT_NAMESPACE)",
        )
        return f"is in {stream}"

    def _start_redis(self) -> str:
        return (
            f"see that the Redis at {self._address} runs, answers and takes writes: start it (`connectbot up` brings "
            "one), or correct REDIS_URL in the environment or in .env; `connectbot check` says more"
        )


COMPONENTS: Final[dict[str, Callable[[Selftest], str]]] = {
    "cache": Selftest.try_cache,
    "events": Selftest.try_events,
    "temp_data": Selftest.try_temp_data,
    "health": Selftest.try_health,
}


def _must(holds: object, otherwise: str, remedy: str) -> None:
    if not holds:
        raise Broken(otherwise, remedy)


def _holds(record: dict[str, Any], test: object) -> bool:
    return record.get("data") == {"test": test}
