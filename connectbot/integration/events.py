"""v21's ``redis_events``: publishing events, hearing them, and their types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from connectbot.errors import MalformedEvent
from connectbot.events import ConnectBotEvents, Event, UserId
from connectbot.integration.component import Component
from connectbot.integration.site import default_site
from connectbot.keys import Keys
from connectbot.publisher import as_data, global_event, microservice_event, user_event
from connectbot.settings import Settings
from connectbot.subscriber import Subscriber

__all__ = [
    "ConnectBotEvents",
    "EventPublisher",
    "EventSubscriber",
    "publish_activity_scheduled",
    "publish_cache_cleared",
    "publish_matching_request",
    "publish_user_created",
]


class EventPublisher(Component):
    """Publishes events. Each method answers whether the event is in the stream, or kept in the spool meanwhile."""

    @classmethod
    def publish_user_event(cls, user_id: int, event_type: str, data: Mapping[str, Any] | None = None) -> bool:
        """Tell what concerns one user. An id as text, which v21 sent as it was, is sent as the number it is."""
        return cls.site().publish(_named(event_type), lambda keys: user_event(keys, _as_id(user_id), event_type, data))

    @classmethod
    def publish_global_event(cls, event_type: str, data: Mapping[str, Any] | None = None) -> bool:
        """Tell what concerns everybody."""
        return cls.site().publish(_named(event_type), lambda keys: global_event(keys, event_type, data))

    @classmethod
    def publish_microservice_event(
        cls, service_name: str, event_type: str, data: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell a microservice, such as ``matching``."""
        return cls.site().publish(
            _named(event_type), lambda keys: microservice_event(keys, service_name, event_type, data)
        )


class EventSubscriber(Subscriber):
    """Hears events on v21's channels; see `Subscriber`. ``settings`` are those of the process unless given."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings or default_site.settings())


def publish_user_created(user_id: int, user_data: Mapping[str, Any] | None = None) -> bool:
    """Tell that a user exists now; ``user_data`` may tell the ``role``."""
    return _publish(
        ConnectBotEvents.USER_CREATED,
        lambda keys, type_: user_event(
            keys, _as_id(user_id), type_, {"user": {**as_data("user_data", user_data), "id": _as_id(user_id)}}
        ),
    )


def publish_activity_scheduled(activity_id: int, activity_data: Mapping[str, Any] | None = None) -> bool:
    """Tell that an activity was planned: ``activity.created``."""
    return _publish(
        ConnectBotEvents.ACTIVITY_CREATED,
        lambda keys, type_: global_event(
            keys, type_, {"activity": {**as_data("activity_data", activity_data), "id": activity_id}}
        ),
    )


def publish_matching_request(users: Iterable[int], matching_type: str = "coffee") -> bool:
    """Ask the matching service for pairs of some users."""
    return _publish(
        ConnectBotEvents.MATCHING_REQUEST,
        lambda keys, type_: microservice_event(
            keys, "matching", type_, {"users": _as_ids(users), "type": matching_type}
        ),
    )


def publish_cache_cleared(cache_type: str, user_id: int | None = None) -> bool:
    """Tell that a cache was emptied, of one user or of everybody: the worker fills it again."""

    def make(keys: Keys, type_: str) -> Event:
        whose = {} if user_id is None else {"user_id": _as_id(user_id)}
        return global_event(keys, type_, {"cache_type": cache_type, **whose})

    return _publish(ConnectBotEvents.SYSTEM_CACHE_CLEARED, make)


def _publish(event_type: str, make: Callable[[Keys, str], Event]) -> bool:
    """Publish an event whose data is made here: also what is wrong with that is answered False."""
    return EventPublisher.site().publish(_named(event_type), lambda keys: make(keys, event_type))


def _as_ids(users: object) -> list[int]:
    if not isinstance(users, Iterable) or isinstance(users, (str, bytes)):
        raise MalformedEvent(f"users must be a list of ids, and is of type {type(users).__name__}")
    return [_as_id(user_id) for user_id in users]


def _as_id(user_id: object) -> int:
    try:
        return msgspec.convert(user_id, UserId, strict=False)
    except msgspec.ValidationError as error:
        raise MalformedEvent(f"the id of a user is none: {error}") from error


def _named(event_type: object) -> str:
    """An event in a line of the log. What is passed as its type by mistake may be anybody's data."""
    return f"the event {event_type}" if isinstance(event_type, str) else "an event"
