"""Menus follow their users: rebuilt when a user changes, kept warm, removed with the user."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Annotated, Final

import msgspec
from celery import shared_task

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.errors import MalformedEvent
from connectbot.events import ConnectBotEvents, Event, UserId, derived_id, read_data
from connectbot.redis_client import Command
from connectbot.users import LONGEST_ROLE
from tasks.base import Received, event_task
from tasks.process import clients
from tasks.user_changes import WARM_INTERVAL_SECONDS as WARM_INTERVAL_SECONDS
from tasks.user_changes import UserChanges, warming_event

CHUNK_USERS: Final = 500
STEP_SECONDS: Final = 0.25
"""How long one step of the walk over all users takes: then other events have their turn."""
WALK_REMEMBERED_MS: Final = 60_000
"""A walk that was not heard of for so long does not keep another one from beginning."""


# --- what Django and the operators enqueue --------------------------------------------------------------


@shared_task(name="menus.rebuild")
def rebuild(user_ids: Sequence[int], menu_types: Sequence[str] | None = None) -> int:
    """Rebuild the menus of some users now, those of unknown ones for an employee. Answers for how many.

    ``menu_types`` limits it to some menus; by default the warm ones (CONNECTBOT_WARM_MENUS) are rebuilt and the
    others removed, to be built when they are next asked for.
    """
    ours = clients()
    for chunk in _chunks(user_ids):
        changes = UserChanges(ours, chunk)
        for user_id in chunk:
            changes.rebuild(user_id, even_unknown=True)
        ours.stream.apply(changes.effects(types=menu_types or ()))
    return len(user_ids)


@shared_task(name="menus.clear")
def clear(user_ids: Sequence[int]) -> int:
    """Remove every menu of some users from the cache. Answers for how many."""
    ours = clients()
    for chunk in _chunks(user_ids):
        effects = Effects()
        for user_id in chunk:
            effects.add(*ours.menus.clearing(user_id, now=time.time()))
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
        ours.publisher.publish(warming_event(ours.settings.keys))
        return 0
    if scope != "expiring":
        raise ValueError(f'scope must be "expiring" or "all", not {scope!r}')
    # A menu that lives shorter than the interval must not be found again as soon as it was rebuilt.
    ahead = min(WARM_INTERVAL_SECONDS, ours.settings.menu_ttl_seconds / 2)
    return sum(ours.menus.warmer.expiring(before=time.time() + ahead))


# --- events ---------------------------------------------------------------------------------------------


class _User(msgspec.Struct, frozen=True, gc=False):
    id: UserId
    role: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ROLE)] | None = None


EVERYBODY: Final = _User(0)
"""Stands for the user of an event that is about all of them."""


class _Told(msgspec.Struct, frozen=True, gc=False):
    user: _User | None = None


class _Cleared(msgspec.Struct, frozen=True, gc=False):
    user_id: UserId | None = None


class _UserData(msgspec.Struct, frozen=True, gc=False):
    """``user_id`` is whose cache was cleared; the other events tell of a ``user``, or have only an id of their own."""

    user: _User | None = None
    user_id: UserId | None = None


class UserEvent(Event, frozen=True, kw_only=True, gc=False):
    """What menus follow."""

    data: _UserData  # type: ignore[assignment]

    @staticmethod
    def data_of(event: Event) -> _UserData:
        """Only what events of this type tell: whatever else stands there does not matter.

        A number may come as text: v21 passed on ids as it got them.
        """
        if event.type == ConnectBotEvents.SYSTEM_CACHE_CLEARED:
            return _UserData(user_id=read_data(event, _Cleared, strict=False).user_id)
        return _UserData(user=read_data(event, _Told, strict=False).user)


class _WarmData(msgspec.Struct):
    """A step of the walk over all users, from ``place`` on; without one, the wish that somebody walks."""

    place: str | None = None


def follow(ours: Clients, received: Sequence[Received]) -> Effects:
    """Bring users and their menus to the state after these events, whatever their number for one user."""
    by_age = sorted(map(_said, received), key=attrgetter("version"))
    changes = UserChanges(ours, {said.user.id for said in by_age if not said.tells_all})
    for said in by_age:
        _APPLY[said.type](changes, said)
    return changes.effects()


follow_users = event_task("menus.follow_users", reads=UserEvent)(follow)


def walk(ours: Clients, received: Sequence[Received]) -> Effects:
    """Take the walk over all users on; or begin one, once for all who wish it."""
    said = [(one.event.id, read_data(one.event, _WarmData).place) for one in received]
    effects = Effects()
    for cause, place in said:
        if place is not None:
            effects.extend(_walk(ours, place, cause=cause))
    if wishes := [cause for cause, place in said if place is None]:
        effects.extend(_beginning(ours, cause=wishes[0]))
    return effects


warm_chunk = event_task("menus.warm_chunk")(walk)


def _beginning(ours: Clients, *, cause: str) -> Effects:
    """Begin a walk, unless one is going on: who asks meanwhile gets one more after it, together with all others."""
    walking, satisfied = ours.settings.keys.menu_walk, ours.settings.keys.menu_walk_satisfied
    effects = Effects()
    effects.add(("DEL", satisfied))
    effects.add_unless(walking, [_remembering(walking), _step(ours, "", cause=cause)])
    return effects


def _walk(ours: Clients, place: str, *, cause: str) -> Effects:
    """Warm menus for a while, from ``place`` on; then publish the event that goes on, or begins anew for who has asked.

    The menus are written at once, not with the commit. What a page writes is right whoever writes it and however often,
    because Redis reads the users in the same step.
    """
    walking, satisfied = ours.settings.keys.menu_walk, ours.settings.keys.menu_walk_satisfied
    if not place:
        ours.stream.apply(_only(_remembering(satisfied)))
    place = _walk_on(ours, place)
    if place:
        return _only(_remembering(walking), ("PEXPIRE", satisfied, WALK_REMEMBERED_MS), _step(ours, place, cause=cause))
    effects = _only(("DEL", walking))
    effects.add_unless(satisfied, [_remembering(walking), _step(ours, "", cause=cause)])
    return effects


def _walk_on(ours: Clients, place: str) -> str:
    until = time.monotonic() + STEP_SECONDS
    for progress in ours.menus.warmer.everybody(place=place, go_on=lambda: time.monotonic() < until):
        place = progress.place
    return place


def _only(*commands: Command) -> Effects:
    effects = Effects()
    effects.add(*commands)
    return effects


def _remembering(key: str) -> Command:
    return ("SET", key, 1, "PX", WALK_REMEMBERED_MS)


def _step(ours: Clients, place: str, *, cause: str) -> Command:
    """The command that publishes the walk's next step. It is of no interest to listeners."""
    event = warming_event(ours.settings.keys, {"place": place}, event_id=derived_id(cause, "warm", place))
    into_stream, _ = ours.publisher.publishing(event)
    return into_stream


_TELL_ROLES: Final = frozenset({ConnectBotEvents.USER_CREATED, ConnectBotEvents.USER_UPDATED})


class _Said(msgspec.Struct, frozen=True, gc=False):
    """What one event says: about whom, and how new it is."""

    version: str
    type: str
    user: _User

    @property
    def tells_all(self) -> bool:
        """Whether nothing that is known of the user matters beside it. That nothing newer is, the commit sees to."""
        if self.type in _TELL_ROLES:
            return bool(self.user.role)
        return self.user is EVERYBODY or self.type == ConnectBotEvents.USER_DELETED


def _said(one: Received) -> _Said:
    event: UserEvent = one.event  # type: ignore[assignment] # for that is what the task reads
    return _Said(one.entry.version, event.type, _user(event))


def _user_created(changes: UserChanges, said: _Said) -> None:
    if not said.user.role:
        changes.appear(said.user.id, said.version)
    else:
        changes.create(said.user.id, said.user.role, said.version)


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
        changes.warm_everybody()
    else:
        changes.rebuild(said.user.id)


_APPLY: Final = {
    ConnectBotEvents.USER_CREATED: _user_created,
    ConnectBotEvents.USER_UPDATED: _user_updated,
    ConnectBotEvents.USER_DELETED: _user_deleted,
    ConnectBotEvents.USER_LOGIN: _user_login,
    ConnectBotEvents.SYSTEM_CACHE_CLEARED: _cache_cleared,
}


def _user(event: UserEvent) -> _User:
    """The user of ``data``, or else of the event itself, as v21 publishes both."""
    if event.type == ConnectBotEvents.SYSTEM_CACHE_CLEARED:
        return EVERYBODY if event.data.user_id is None else _User(event.data.user_id)
    if event.data.user is not None:
        return event.data.user
    if event.user_id is None:
        raise MalformedEvent(f"{event.type} names no user, neither in data.user.id nor in user_id")
    return _User(event.user_id)


def _chunks(user_ids: Sequence[int]) -> Iterator[list[int]]:
    ids = list(user_ids)
    for at in range(0, len(ids), CHUNK_USERS):
        yield ids[at : at + CHUNK_USERS]
