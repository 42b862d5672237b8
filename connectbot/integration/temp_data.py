"""v21's ``redis_temp_data``: small things kept for a while, for a user, a session, an activity, or by any key."""

from __future__ import annotations

import time
from typing import Any, Final

from connectbot.cache_keys import SESSIONS, temp_key, told_temp_key, user_namespace
from connectbot.integration.arguments import as_seconds, writing
from connectbot.integration.component import Component
from connectbot.integration.site import Site
from connectbot.redis_client import Command
from connectbot.temp_data import decode

__all__ = [
    "ActivityTempDataManager",
    "SessionDataManager",
    "TempDataManager",
    "UserTempDataManager",
    "get_quick_data",
    "get_user_temp_manager",
    "store_quick_data",
]

FORM_SECONDS: Final = 3600
CONVERSATION_SECONDS: Final = 7200
SESSION_SECONDS: Final = 86_400
MATCHING_REQUEST_SECONDS: Final = 1800
ACTIVITY_DRAFT_SECONDS: Final = 3600
QUICK_SECONDS: Final = 300

_MATCHING_REQUESTS: Final = "matching_requests"
_ACTIVITY_DRAFTS: Final = "activity_drafts"
_CONVERSATION: Final = "conversation_state"


class TempDataManager(Component):
    """Temporary data by key and namespace.

    What writes answers whether it is done, or kept in the spool until it can be; what reads, its default when there
    is nothing.
    """

    @classmethod
    def store_temp_data(cls, key: str, data: object, timeout: float | None = None, namespace: str = "default") -> bool:
        """Keep ``data`` for ``timeout`` seconds (unset: TEMP_DATA_TTL_SECONDS)."""
        site, now = cls.site(), time.time()
        ttl_seconds = site.settings.temp_data_ttl_seconds if timeout is None else timeout
        return site.send(
            _named(namespace, key),
            lambda: _storing(site, namespace, key, data, ttl_seconds=as_seconds(ttl_seconds), now=now),
            ref=_ref(site, namespace, key),
        )

    @classmethod
    def get_temp_data(cls, key: str, default: Any = None, namespace: str = "default") -> Any:
        """What was stored; ``default`` when nothing is there."""
        site, what = cls.site(), _named(namespace, key)
        if waiting := site.waiting(_ref(site, namespace, key)):
            return site.attempt(what, lambda: _data_in(site, waiting[0], namespace, key, default), default)
        return site.ask(what, lambda: site.clients.temp_data.get(namespace, key, default), default)

    @classmethod
    def delete_temp_data(cls, key: str, namespace: str = "default") -> bool:
        """Remove one piece of data."""
        site = cls.site()
        return site.send(
            _named(namespace, key),
            lambda: site.clients.temp_data.removing(namespace, [key]),
            ref=_ref(site, namespace, key),
        )

    @classmethod
    def extend_timeout(cls, key: str, timeout: float, namespace: str = "default") -> bool:
        """Let data live ``timeout`` seconds from now, without rewriting it. Answers whether there is any."""
        site, now, what = cls.site(), time.time(), _named(namespace, key)
        temp_data, ref = site.clients.temp_data, _ref(site, namespace, key)
        ttl_seconds = site.attempt(what, lambda: as_seconds(timeout), None)
        if ttl_seconds is None:
            return False
        if waiting := site.waiting(ref):
            return _is_there(waiting[0]) and site.send(what, lambda: _extended(waiting, ttl_seconds, now=now), ref=ref)
        return site.ask(
            what, lambda: temp_data.extend(namespace, key, ttl_seconds=ttl_seconds, now=now), False, writes=True
        )

    @classmethod
    def get_keys(cls, namespace: str = "default", starting: str = "") -> list[str]:
        """The keys of a namespace that begin so, whoever wrote them. Looks at every key of Redis, in steps."""
        site = cls.site()
        keys_of = site.clients.temp_data.all_keys_of
        found = site.ask(_named(namespace, "*"), lambda: keys_of(namespace, starting=starting), [])
        prefix = _ref(site, namespace, "")
        waiting = {ref.removeprefix(prefix): site.waiting(ref) for ref in site.waiting_refs(prefix + starting)}
        stored = {key for key, commands in waiting.items() if commands and _is_there(commands[0])}
        return sorted({key for key in found if not waiting.get(key)} | stored)


class UserTempDataManager:
    """The temporary data of one user: forms, the state of the conversation, anything else by key."""

    def __init__(self, user_id: int, temp_data: type[TempDataManager] = TempDataManager) -> None:
        self.user_id = user_id
        self.namespace = user_namespace(user_id)
        self._temp_data = temp_data

    def store_form_data(self, step: str | int, data: object, timeout: float = FORM_SECONDS) -> bool:
        """Keep what was entered in one step of a form."""
        return self.store_data(_form(step), data, timeout)

    def get_form_data(self, step: str | int, default: Any = None) -> Any:
        """What was entered in one step of a form."""
        return self.get_data(_form(step), default)

    def clear_form_data(self, step: str | int) -> bool:
        """Forget one step of a form."""
        return self.delete_data(_form(step))

    def clear_all_form_data(self) -> bool:
        """Forget every step. Answers whether all are gone: those that v21 wrote cannot be found while Redis is away."""
        cleared = [self.delete_data(key) for key in self._temp_data.get_keys(self.namespace, _form(""))]
        return all(cleared) and self._temp_data.site().outage.reads

    def store_conversation_state(self, state: object, timeout: float = CONVERSATION_SECONDS) -> bool:
        """Keep where the conversation stands."""
        return self.store_data(_CONVERSATION, state, timeout)

    def get_conversation_state(self, default: Any = None) -> Any:
        """Where the conversation stands."""
        return self.get_data(_CONVERSATION, default)

    def clear_conversation_state(self) -> bool:
        """Forget where the conversation stands."""
        return self.delete_data(_CONVERSATION)

    def store_data(self, key: str, data: object, timeout: float | None = None) -> bool:
        """Keep anything of the user's."""
        return self._temp_data.store_temp_data(key, data, timeout, self.namespace)

    def get_data(self, key: str, default: Any = None) -> Any:
        """Anything of the user's."""
        return self._temp_data.get_temp_data(key, default, self.namespace)

    def delete_data(self, key: str) -> bool:
        """Forget anything of the user's."""
        return self._temp_data.delete_temp_data(key, self.namespace)

    def extend_data(self, key: str, timeout: float) -> bool:
        """Let anything of the user's live ``timeout`` seconds from now. Answers whether there is any."""
        return self._temp_data.extend_timeout(key, timeout, self.namespace)


class SessionDataManager(TempDataManager):
    """Data of sessions, by their id."""

    @classmethod
    def store_session_data(cls, session_id: str, data: object, timeout: float = SESSION_SECONDS) -> bool:
        """Keep the data of a session."""
        return cls.store_temp_data(session_id, data, timeout, SESSIONS)

    @classmethod
    def get_session_data(cls, session_id: str, default: Any = None) -> Any:
        """The data of a session."""
        return cls.get_temp_data(session_id, default, SESSIONS)

    @classmethod
    def delete_session_data(cls, session_id: str) -> bool:
        """Forget a session."""
        return cls.delete_temp_data(session_id, SESSIONS)

    @classmethod
    def extend_session(cls, session_id: str, timeout: float = SESSION_SECONDS) -> bool:
        """Let a session live ``timeout`` seconds from now. Answers whether there is one."""
        return cls.extend_timeout(session_id, timeout, SESSIONS)


class ActivityTempDataManager(TempDataManager):
    """Requests for matching, by their id, and drafts of activities, one a user."""

    @classmethod
    def store_matching_request(cls, request_id: str, data: object, timeout: float = MATCHING_REQUEST_SECONDS) -> bool:
        """Keep a request for matching."""
        return cls.store_temp_data(request_id, data, timeout, _MATCHING_REQUESTS)

    @classmethod
    def get_matching_request(cls, request_id: str, default: Any = None) -> Any:
        """A request for matching."""
        return cls.get_temp_data(request_id, default, _MATCHING_REQUESTS)

    @classmethod
    def delete_matching_request(cls, request_id: str) -> bool:
        """Forget a request for matching."""
        return cls.delete_temp_data(request_id, _MATCHING_REQUESTS)

    @classmethod
    def store_activity_draft(cls, user_id: int, data: object, timeout: float = ACTIVITY_DRAFT_SECONDS) -> bool:
        """Keep the activity that a user is about to plan."""
        return cls.store_temp_data(_draft(user_id), data, timeout, _ACTIVITY_DRAFTS)

    @classmethod
    def get_activity_draft(cls, user_id: int, default: Any = None) -> Any:
        """The activity that a user is about to plan."""
        return cls.get_temp_data(_draft(user_id), default, _ACTIVITY_DRAFTS)

    @classmethod
    def delete_activity_draft(cls, user_id: int) -> bool:
        """Forget the activity that a user was about to plan."""
        return cls.delete_temp_data(_draft(user_id), _ACTIVITY_DRAFTS)


def store_quick_data(key: str, data: object, timeout: float = QUICK_SECONDS) -> bool:
    """Keep something for some minutes."""
    return TempDataManager.store_temp_data(key, data, timeout)


def get_quick_data(key: str, default: Any = None) -> Any:
    """What `store_quick_data` kept."""
    return TempDataManager.get_temp_data(key, default)


def get_user_temp_manager(user_id: int) -> UserTempDataManager:
    """The temporary data of one user."""
    return UserTempDataManager(user_id)


def _form(step: str | int) -> str:
    return f"form_data_{step}"


def _draft(user_id: int) -> str:
    return f"activity_draft_{user_id}"


def _named(namespace: str, key: str) -> str:
    return f"the temporary data {told_temp_key(namespace, key)}"


def _ref(site: Site, namespace: str, key: str) -> str:
    return site.settings.cache_keys.physical(temp_key(namespace, key))


def _storing(
    site: Site, namespace: str, key: str, data: object, *, ttl_seconds: float, now: float
) -> tuple[Command, ...]:
    with writing("data", data, in_json=isinstance(data, (dict, list, tuple))):
        return site.clients.temp_data.storing(namespace, key, data, ttl_seconds=ttl_seconds, now=now)


def _is_there(command: Command) -> bool:
    match command:
        case ("SET", _, _, "PXAT", ends_ms):
            return bool(ends_ms > time.time() * 1000)
    return False


def _extended(storing: tuple[Command, ...], timeout: float, *, now: float) -> tuple[Command, ...]:
    """The commands out of the spool that store something, for another time: once theirs is over they store nothing."""
    (set_, key, value, *_), (zadd, index, _, member), *rest = storing
    return (set_, key, value, "PX", int(timeout * 1000)), (zadd, index, repr(now + timeout), member), *rest


def _data_in(site: Site, command: Command, namespace: str, key: str, default: object) -> object:
    """What a command out of the spool will have stored."""
    return decode(namespace, key, site.codec.decode(command[2])) if _is_there(command) else default
