"""What events and requests make of users, gathered before anything is written."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from connectbot.cache_keys import user_namespace
from connectbot.clients import Clients
from connectbot.effects import Column, Effects, ForEach
from connectbot.events import ConnectBotEvents, Event, new_event
from connectbot.keys import Keys
from connectbot.users import DEFAULT_ROLE, NO_VERSION, KnownUser

MOST_TEMP_KEYS: Final = 50_000
"""So much of a deleted user's temporary data goes in the commit, which Redis takes only so long."""
WARM_INTERVAL_SECONDS: Final = 300.0
"""How often `menus.warm` runs (see worker/schedule.py): what runs out before its next run is rebuilt now."""


class UserChanges:
    """What some events and requests make of some users. The newest word about a user's role wins.

    ``user_ids`` are the users whose known state is read first. For any other user only `create`, `set_role` and
    `delete` may be called; the commit leaves out what is outdated by then.

    A user whose role no event has told has the role for which the site has cached a main menu. The site knew its users
    long before the first event told us of them: the menus of whom we know nothing at all are left for it to build.
    """

    def __init__(self, ours: Clients, user_ids: Iterable[int]) -> None:
        self._clients = ours
        self._known = _known(ours, set(user_ids))
        self._changed: dict[int, KnownUser] = {}
        self._created: set[int] = set()
        self._seen: dict[int, KnownUser] = {}
        self._cold: set[int] = set()
        self._left: set[int] = set()
        self._everybody = False

    def create(self, user_id: int, role: str, version: str) -> None:
        """The user exists since ``version``, with this role."""
        if user_id in self._changed or user_id in self._left:
            self._created.discard(user_id)
        else:
            self._created.add(user_id)
        self._set_role(user_id, role, version)

    def set_role(self, user_id: int, role: str, version: str) -> None:
        """The user has this role since ``version``, maybe another than before."""
        self._created.discard(user_id)
        self._set_role(user_id, role, version)

    def appear(self, user_id: int, version: str) -> None:
        """The user exists since ``version``; the role was not said."""
        known = self._current(user_id)
        if known.role is None and version > known.version:
            known = KnownUser(user_id, known.version, DEFAULT_ROLE)  # as of the deletion: a role told since is better
        self._changed[user_id] = known
        self._seen[user_id] = KnownUser(user_id, version, DEFAULT_ROLE)

    def rebuild(self, user_id: int, *, even_unknown: bool = False) -> None:
        """The user's menus are to be built anew from what is known; those of a deleted user stay away."""
        self._created.discard(user_id)
        if even_unknown or self._is_known(user_id):
            self._changed[user_id] = self._current(user_id)
        else:
            self._left.add(user_id)

    def warm_up(self, user_id: int) -> None:
        """The menus of the user, if known, are to be built where they are missing or about to run out."""
        if self._is_known(user_id):
            self._cold.add(user_id)

    def delete(self, user_id: int, version: str) -> None:
        """The user is gone since ``version``."""
        if version >= self._current(user_id).version:
            self._changed[user_id] = KnownUser(user_id, version, None)

    def warm_everybody(self) -> None:
        """The menus of every known user are to be built anew."""
        self._everybody = True

    def effects(self, *, types: Iterable[str] = ()) -> Effects:
        """All of it, as it is to be written."""
        untouched = self._cold - self._changed.keys()
        for user_id in self._clients.menus.cold(sorted(untouched), within_seconds=WARM_INTERVAL_SECONDS):
            self.rebuild(user_id)
        effects, now = Effects(), time.time()
        for user_id in self._left - self._changed.keys():
            removing = map(ForEach.of, self._clients.menus.removing(user_id))
            effects.add_for_users([KnownUser(user_id, NO_VERSION, DEFAULT_ROLE)], list(removing))
        for user in self._seen.values():  # first: a deletion later in this commit reads them
            effects.add_sight(user)
        living = [user for user in self._changed.values() if user.role is not None]
        for are_new in (False, True):
            users = [user for user in living if (user.user_id in self._created) is are_new]
            menus = self._clients.menus.writing(now=now, types=types, are_new=are_new)
            effects.add_for_users(users, [self._clients.users.remembering(), *menus])
        for user in self._changed.values():
            if user.role is None:
                effects.add_for_users([user], self._removing(user, now=now))
        if self._everybody:
            effects.add(*self._clients.publisher.publishing(warming_event(self._clients.settings.keys)))
        return effects

    def _set_role(self, user_id: int, role: str, version: str) -> None:
        known = self._changed.get(user_id) or self._known.get(user_id)
        if known is None or version >= known.version:
            known = KnownUser(user_id, version, role)
        self._changed[user_id] = known

    def _is_known(self, user_id: int) -> bool:
        return user_id in self._changed or user_id in self._known

    def _current(self, user_id: int) -> KnownUser:
        known = self._changed.get(user_id) or self._known.get(user_id)
        return known or KnownUser(user_id, NO_VERSION, DEFAULT_ROLE)

    def _removing(self, user: KnownUser, *, now: float) -> list[Column]:
        namespace = user_namespace(user.user_id)
        temp_data = self._clients.temp_data
        keys = temp_data.keys_of(namespace)
        if len(keys) > MOST_TEMP_KEYS:
            temp_data.delete(namespace, *keys[MOST_TEMP_KEYS:])
        commands = [
            *self._clients.menus.removing(user.user_id),
            *temp_data.removing(namespace, keys[:MOST_TEMP_KEYS]),
        ]
        return [
            self._clients.users.remembering(),
            self._clients.users.marking_deleted(now=now),
            *map(ForEach.of, commands),
        ]


def _known(ours: Clients, user_ids: set[int]) -> dict[int, KnownUser]:
    known = ours.users.look_up(user_ids)
    untold = user_ids - {user.user_id for user in known.values() if user.version != NO_VERSION}
    shown = ours.menus.roles_shown(untold)
    return known | {user_id: KnownUser(user_id, NO_VERSION, role) for user_id, role in shown.items()}


def warming_event(keys: Keys, data: dict[str, Any] | None = None, *, event_id: str | None = None) -> Event:
    """An event of the walk over all users; without ``data`` it asks for one."""
    return new_event(ConnectBotEvents.MENUS_WARM, data or {}, channel=keys.global_channel, event_id=event_id)
