"""Menus follow their users: rebuilt when a user changes, kept warm, removed with the user."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from celery import shared_task

from connectbot.clients import Clients
from connectbot.effects import Column, Effects
from connectbot.errors import MalformedEvent
from connectbot.events import ConnectBotEvents, Event, UserId, derived_id, new_event, read_data
from connectbot.keys import user_namespace
from connectbot.users import DEFAULT_ROLE, NO_VERSION, KnownUser
from tasks.base import Received, event_task
from tasks.process import clients

CHUNK_USERS: Final = 500
CHUNKS_A_STEP: Final = 4
"""Chunks that one step of the walk over all users finds."""
WARM_INTERVAL_SECONDS: Final = 300.0
"""How often `warm` runs (see worker/schedule.py): what runs out before its next run is rebuilt now."""


# --- what Django and the operators enqueue --------------------------------------------------------------


@shared_task(name="menus.rebuild")
def rebuild(user_ids: Sequence[int], menu_types: Sequence[str] | None = None) -> int:
    """Rebuild the menus of some users now. Answers for how many.

    ``menu_types`` limits it to some menus; by default the warm ones (CONNECTBOT_WARM_MENUS) are rebuilt and the
    others removed, to be built when they are next asked for.
    """
    ours = clients()
    for chunk in _chunks(user_ids):
        changes = UserChanges(ours, chunk)
        for user_id in chunk:
            changes.rebuild(user_id)
        ours.stream.apply(changes.effects(types=menu_types or ()))
    return len(user_ids)


@shared_task(name="menus.clear")
def clear(user_ids: Sequence[int]) -> int:
    """Remove every menu of some users from the cache. Answers for how many."""
    ours = clients()
    effects = Effects()
    for user_id in user_ids:
        effects.add(*ours.menus.removing(user_id))
    ours.stream.apply(effects)
    return len(user_ids)


@shared_task(name="menus.warm")
def warm(scope: str = "expiring") -> int:
    """Rebuild menus before they run out. Answers for how many users.

    ``scope`` is ``"expiring"`` for what runs out before the next run, or ``"all"`` for every known user: that is
    handed to the stream, which keeps its place when a worker dies, and answers 0.
    """
    ours = clients()
    if scope == "all":
        ours.publisher.publish(_going_on(ours, 0, cause=f"menus.warm at {time.time_ns()}"))
        return 0
    if scope != "expiring":
        raise ValueError(f'scope must be "expiring" or "all", not {scope!r}')
    return sum(rebuild(users) for users in _running_out(ours))


def _running_out(ours: Clients) -> Iterator[list[int]]:
    # A menu that lives shorter than the interval must not be found again as soon as it was rebuilt.
    before = time.time() + min(WARM_INTERVAL_SECONDS, ours.settings.menu_ttl_seconds / 2)
    while users := ours.menus.running_out(before=before, limit=CHUNK_USERS):
        yield users


# --- events ---------------------------------------------------------------------------------------------


class _User(msgspec.Struct):
    id: UserId
    role: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None


EVERYBODY: Final = _User(0)
"""Stands for the user of an event that is about all of them."""


class _UserData(msgspec.Struct):
    user: _User | None = None


class _CacheClearedData(msgspec.Struct):
    user_id: UserId | None = None


class _WarmData(msgspec.Struct):
    """The next step of a walk (``cursor``; 0 begins one), or users that a step has found."""

    cursor: int = 0
    users: tuple[UserId, ...] = ()


def follow(ours: Clients, received: Sequence[Received]) -> Effects:
    """Bring users and their menus to the state after these events, whatever their number for one user."""
    by_age = sorted(map(_said, received), key=attrgetter("version"))
    changes = UserChanges(ours, {said.user.id for said in by_age if said.user is not EVERYBODY})
    for said in by_age:
        _APPLY[said.event.type](changes, said)
    return changes.effects()


follow_users = event_task("menus.follow_users")(follow)


@event_task("menus.warm_chunk", one_by_one=True)
def warm_chunk(ours: Clients, received: Sequence[Received]) -> Effects:
    """Take the next step of the walk over all users, or rebuild the menus of those whom a step has found."""
    (one,) = received
    data = read_data(one.event, _WarmData)
    return _rebuild_chunk(ours, data.users) if data.users else _walk(ours, data.cursor, cause=one.event.id)


def _walk(ours: Clients, cursor: int, *, cause: str) -> Effects:
    """Find the next users, and publish the event that goes on after them: one atomic step.

    Finding is quick, so that it is done by one; rebuilding is not, and is left to as many as there are.
    """
    found: list[Event] = []
    for _ in range(CHUNKS_A_STEP):
        cursor, users = ours.users.scan(cursor, count=CHUNK_USERS)
        if living := [user.user_id for user in users if user.role is not None]:
            found.append(_warming(ours, {"users": living}, event_id=derived_id(cause, "chunk", len(found))))
        if not cursor:
            break
    effects = Effects()
    if cursor:
        effects.add(*ours.stream.publishing(_going_on(ours, cursor, cause=cause)))
    for event in found:
        into_stream, _ = ours.stream.publishing(event)  # of no interest to listeners
        effects.add(into_stream)
    return effects


def _rebuild_chunk(ours: Clients, user_ids: Iterable[int]) -> Effects:
    living = [user for user in ours.users.look_up(user_ids).values() if user.role is not None]
    effects = Effects()
    effects.add_for_users({user.user_id: user.version for user in living}, ours.menus.writing(living, now=time.time()))
    return effects


class UserChanges:
    """What some events and requests make of some users. The newest word about a user's role wins."""

    def __init__(self, ours: Clients, user_ids: Iterable[int]) -> None:
        self._clients = ours
        self._known = ours.users.look_up(user_ids)
        self._changed: dict[int, KnownUser] = {}
        self._cold: set[int] = set()
        self._everybody = ""

    def set_role(self, user_id: int, role: str, version: str) -> None:
        """The user has this role since ``version``."""
        known = self._current(user_id)
        self._changed[user_id] = KnownUser(user_id, version, role) if version >= known.version else known

    def appear(self, user_id: int, version: str) -> None:
        """The user exists since ``version``; the role was not said."""
        known = self._current(user_id)
        if known.role is None and version > known.version:
            known = KnownUser(user_id, version, DEFAULT_ROLE)
        self._changed[user_id] = known

    def rebuild(self, user_id: int) -> None:
        """The user's menus are to be built anew from what is known; those of a deleted user stay away."""
        self._changed[user_id] = self._current(user_id)

    def warm_up(self, user_id: int) -> None:
        """The user's menus are to be built if they are missing or about to run out."""
        self._cold.add(user_id)

    def delete(self, user_id: int, version: str) -> None:
        """The user is gone since ``version``."""
        if version >= self._current(user_id).version:
            self._changed[user_id] = KnownUser(user_id, version, None)

    def warm_everybody(self, cause: str) -> None:
        """The menus of every known user are to be built anew, because of the event with the id ``cause``."""
        self._everybody = cause

    def effects(self, *, types: Iterable[str] = ()) -> Effects:
        """All of it, as it is to be written."""
        untouched = self._cold - self._changed.keys()
        for user_id in self._clients.menus.cold(sorted(untouched), within_seconds=WARM_INTERVAL_SECONDS):
            self.rebuild(user_id)
        effects, now = Effects(), time.time()
        living = [user for user in self._changed.values() if user.role is not None]
        remembering = self._clients.users.remembering(living)
        effects.add_for_users(
            {user.user_id: user.version for user in living},
            [remembering, *self._clients.menus.writing(living, now=now, types=types)],
        )
        for user in self._changed.values():
            if user.role is None:
                effects.add_for_users({user.user_id: user.version}, self._removing(user, now=now))
        if self._everybody:
            warming = _going_on(self._clients, 0, cause=self._everybody)
            effects.add(*self._clients.stream.publishing(warming))
        return effects

    def _current(self, user_id: int) -> KnownUser:
        stranger = KnownUser(user_id, NO_VERSION, DEFAULT_ROLE)
        return self._changed.get(user_id) or self._known.get(user_id) or stranger

    def _removing(self, user: KnownUser, *, now: float) -> list[Column]:
        namespace = user_namespace(user.user_id)
        temp_data = self._clients.temp_data
        commands = [
            *self._clients.menus.removing(user.user_id),
            *temp_data.removing(namespace, temp_data.keys_of(namespace)),
        ]
        return [
            self._clients.users.remembering([user]),
            self._clients.users.marking_deleted(user.user_id, now=now),
            *map(Column.of, commands),
        ]


class _Said(NamedTuple):
    """What one event says: about whom, and how new it is."""

    version: str
    event: Event
    user: _User


def _said(one: Received) -> _Said:
    if one.event.type != ConnectBotEvents.SYSTEM_CACHE_CLEARED:
        return _Said(one.entry.version, one.event, _user(one.event))
    user_id = read_data(one.event, _CacheClearedData).user_id
    return _Said(one.entry.version, one.event, EVERYBODY if user_id is None else _User(user_id))


def _user_created(changes: UserChanges, said: _Said) -> None:
    if not said.user.role:
        changes.appear(said.user.id, said.version)
    else:
        changes.set_role(said.user.id, said.user.role, said.version)


def _user_updated(changes: UserChanges, said: _Said) -> None:
    if not said.user.role:
        changes.rebuild(said.user.id)
    else:
        changes.set_role(said.user.id, said.user.role, said.version)


def _user_deleted(changes: UserChanges, said: _Said) -> None:
    changes.delete(said.user.id, said.version)


def _user_login(changes: UserChanges, said: _Said) -> None:
    changes.warm_up(said.user.id)


def _cache_cleared(changes: UserChanges, said: _Said) -> None:
    if said.user is EVERYBODY:
        changes.warm_everybody(said.event.id)
    else:
        changes.rebuild(said.user.id)


_APPLY: Final = {
    ConnectBotEvents.USER_CREATED: _user_created,
    ConnectBotEvents.USER_UPDATED: _user_updated,
    ConnectBotEvents.USER_DELETED: _user_deleted,
    ConnectBotEvents.USER_LOGIN: _user_login,
    ConnectBotEvents.SYSTEM_CACHE_CLEARED: _cache_cleared,
}


def _user(event: Event) -> _User:
    """The user of ``data``, or else of the event itself, as v21 publishes both."""
    user = read_data(event, _UserData).user
    if user is not None:
        return user
    if event.user_id is None:
        raise MalformedEvent(f"{event.type} names no user, neither in data.user.id nor in user_id")
    return _User(event.user_id)


def _going_on(ours: Clients, cursor: int, *, cause: str) -> Event:
    """The event that takes the walk over all users on from ``cursor``."""
    return _warming(ours, {"cursor": cursor}, event_id=derived_id(cause, "warm", cursor))


def _warming(ours: Clients, data: dict[str, Any], *, event_id: str) -> Event:
    channel = ours.settings.keys.global_channel
    return new_event(ConnectBotEvents.MENUS_WARM, data, channel=channel, event_id=event_id)


def _chunks(user_ids: Sequence[int]) -> Iterator[list[int]]:
    ids = list(user_ids)
    for at in range(0, len(ids), CHUNK_USERS):
        yield ids[at : at + CHUNK_USERS]
