"""Hearing events on v21's channels, through restarts of Redis."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from connectbot import json_text
from connectbot.errors import RedisUnavailable, UnreadableValue
from connectbot.keys import Keys
from connectbot.listener import Listener, Message
from connectbot.log import about
from connectbot.redis_client import connect
from connectbot.settings import Settings

Handler: TypeAlias = Callable[[dict[str, Any]], object]
"""Is called with the event as v21's JSON says it: ``{"id", "type", "data", "timestamp", "channel", ...}``."""

LOOK_SECONDS: Final = 0.5
"""How long `stop` and a new subscription may take to be noticed."""
RECONNECT_SECONDS: Final = 1.0

_NOTHING: Final = b"\0"  # ends no JSON: nothing is ignored
_logger = logging.getLogger(__name__)


class Subscriber:
    """Calls handlers for what is published on channels from now on. Pub/sub keeps nothing: see the stream for that.

    Subscribing and listening may be done by different threads. What a handler raises is logged.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys: Keys = settings.keys
        # A Redis that hangs must not hold up `listen_for_messages` beyond its timeout.
        self._redis = connect(settings.redis_url, socket_connect_timeout=0.5, socket_timeout=0.5)
        self._channels: dict[str, list[Handler]] = {}
        self._types: dict[str, list[Handler]] = {}
        self._stopped = threading.Event()
        self._looking = threading.Lock()
        self._listener: Listener | None = None
        self._listening_to: frozenset[str] = frozenset()
        self._away = False

    def subscribe_to_user_events(self, user_id: int, handler: Handler | None = None) -> None:
        """Hear what concerns one user; ``handler`` is called for all of it."""
        self._subscribe(self._keys.user_channel(user_id), handler)

    def subscribe_to_global_events(self, handler: Handler | None = None) -> None:
        """Hear what concerns everybody; ``handler`` is called for all of it."""
        self._subscribe(self._keys.global_channel, handler)

    def subscribe_to_service_events(self, service_name: str, handler: Handler | None = None) -> None:
        """Hear what is told to a microservice; ``handler`` is called for all of it."""
        self._subscribe(self._keys.service_channel(service_name), handler)

    def register_handler(self, event_type: str, handler: Handler) -> None:
        """Have ``handler`` called for events of one type, on whatever subscribed channel they come."""
        self._types.setdefault(event_type, []).append(handler)

    def listen_for_messages(self, timeout: float | None = None) -> int:
        """Listen for ``timeout`` seconds, or until `stop`. Answers how many events were heard.

        While Redis is away it keeps trying to come back to it; what is published meanwhile is not heard.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        heard = 0
        while not self._stopped.is_set():
            left = LOOK_SECONDS if deadline is None else min(LOOK_SECONDS, deadline - time.monotonic())
            heard += self._look(max(0.0, left))
            if deadline is not None and time.monotonic() >= deadline:
                break
        return heard

    def stop(self) -> None:
        """End `listen_for_messages`, from another thread or a handler; calling it again then answers at once."""
        self._stopped.set()

    def close(self) -> None:
        """Close the connection, once nobody looks at it any more: within a second."""
        self.stop()
        with self._looking:
            self._drop_listener()
            self._redis.close()

    # --- inside ---------------------------------------------------------------------------------------

    def _subscribe(self, channel: str, handler: Handler | None) -> None:
        handlers = [handler] if handler is not None else []
        self._channels[channel] = [*self._channels.get(channel, ()), *handlers]

    def _look(self, wait_seconds: float) -> int:
        if not self._channels:
            self._stopped.wait(wait_seconds)
            return 0
        try:
            messages = self._hear(wait_seconds)
        except RedisUnavailable as error:
            self._note_away(error)
            self._stopped.wait(min(wait_seconds, RECONNECT_SECONDS))
            return 0
        return sum(self._handle(message) for message in messages)

    def _hear(self, wait_seconds: float) -> Sequence[Message]:
        with self._looking:
            if self._stopped.is_set():  # perhaps by `close`, after which no connection may be opened
                return ()
            return self._listening().hear(wait_seconds=wait_seconds).messages

    def _listening(self) -> Listener:
        wanted = frozenset(self._channels)
        if self._listener is None:
            listener = Listener(self._redis, channels=sorted(wanted), ignoring=_NOTHING)
            self._listener = listener.__enter__()
            if self._away:
                _logger.info("the subscriber hears v21's channels again")
            self._away = False
        elif further := wanted - self._listening_to:
            self._listener.listen_to(*further)
        self._listening_to = wanted
        return self._listener

    def _note_away(self, error: RedisUnavailable) -> None:
        self._drop_listener()
        if not self._away:
            _logger.warning("the subscriber hears nothing until Redis is back: %s", error)
        self._away = True

    def _drop_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _handle(self, message: Message) -> bool:
        try:
            event = json_text.loads(message.text.decode())
            if not isinstance(event, dict):
                raise UnreadableValue("it is no JSON object")  # noqa: TRY301
        except (UnreadableValue, UnicodeDecodeError) as error:
            _logger.warning("a message on %s is no event: %s", message.channel.decode("utf-8", "replace"), error)
            return False
        for handler in self._handlers(message, event):
            try:
                handler(event)
            except Exception:  # one handler must not keep the others from hearing
                with about(event_id=str(event.get("id", ""))):
                    _logger.exception("a handler failed on the event %s (%s)", event.get("id"), event.get("type"))
        return True

    def _handlers(self, message: Message, event: dict[str, Any]) -> list[Handler]:
        channel = message.channel.decode("utf-8", "replace")
        return [*self._channels.get(channel, ()), *self._types.get(str(event.get("type")), ())]
