"""Menus of many users written anew inside Redis, a page of users at a time.

The menus of one type and role differ in the user's id only. So Redis is given what they have in common (`Stencil`), and
fills in the ids itself: what travels does not grow with the users.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

from connectbot.cache import BLANK, Ending
from connectbot.keys import Keys
from connectbot.quick_script import QuickScript
from connectbot.redis_client import RedisClient, translated_errors

USERS_A_PAGE: Final = 1000
"""A page is written in one step, some milliseconds in which Redis serves nobody else."""
MOST_STENCILS: Final = 64
"""Roles (and lengths of ids) that are sent along with every page: the others are sent where they come."""

EndingOf: TypeAlias = Callable[[str, str], Ending]
"""Tells what the menus of one type and role have in common."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a walk over all known users is.

    ``place`` is where to go on, now or another day; empty when nothing is left. ``done`` counts the users that were
    looked at, deleted ones included, and ``total`` those known at this moment. While Redis resizes their hash some come
    twice, so that ``done`` may get above ``total``.
    """

    place: str
    done: int
    total: int


class MenuWarmer:
    """Writes warm menus. Raises `RedisUnavailable` when Redis cannot serve.

    ``types`` are the menus of each user; they live ``ttl_seconds``. ``prefix`` is what their keys begin with.
    """

    def __init__(
        self,
        client: RedisClient,
        *,
        keys: Keys,
        prefix: str,
        types: Sequence[str],
        ttl_seconds: int,
        ending_of: EndingOf,
    ) -> None:
        self._redis = client
        self._keys = keys
        self._prefix = prefix
        self._endings = [f":{menu_type}" for menu_type in types]
        self._types = types
        self._ttl_seconds = ttl_seconds
        self._ending_of = ending_of
        self._seen: set[tuple[str, int]] = set()

    def everybody(self, *, place: str = "", done: int = 0) -> Iterator[Progress]:
        """Warm the menus of every known user; tells after each page how far it is.

        ``place`` and ``done`` are what an earlier walk told last, to go on there. Where Redis was restarted meanwhile,
        the walk begins anew by itself. Who is added during the walk gets menus from the event that tells it.
        """
        while True:
            begun_anew, place, looked_at, total = self._page("after", place)
            done = looked_at if begun_anew else done + looked_at
            yield Progress(place, done, total)
            if not place:
                return

    def expiring(self, *, before: float) -> Iterator[int]:
        """Warm the menus that run out ``before`` (epoch seconds); tells after each page for how many users it was."""
        more = "more"
        while more:
            _, more, written, _ = self._page("before", repr(before), ahead_seconds=before - time.time())
            yield written

    def _page(self, which: str, where: str, *, ahead_seconds: float = 0.0) -> tuple[bool, str, int, int]:
        now = time.time()
        written = [USERS_A_PAGE, repr(now + self._ttl_seconds), self._ttl_seconds * 1000, int(ahead_seconds * 1000)]
        missing = [b""]
        while missing:
            words = [which, where, *written, self._prefix, len(self._endings), *self._endings, *self._stencils(now)]
            with translated_errors():
                begun_anew, place, done, total, missing = self._script(keys=self._script_keys, args=words)
            self._seen.update(zip((role.decode() for role in missing[::2]), missing[1::2], strict=True))
        if len(self._seen) > MOST_STENCILS:
            self._seen = set()
        return bool(begun_anew), place.decode(), done, total

    def _stencils(self, now: float) -> Iterator[Any]:
        start = menu_start(now)
        for role, length in tuple(self._seen):
            yield from (role, length)
            for menu_type in self._types:
                yield from self._ending_of(menu_type, role).stencil(start, length)

    @cached_property
    def _script_keys(self) -> list[str]:
        return [self._keys.users, self._keys.warm_menus, self._keys.cleared_menus]

    @cached_property
    def _script(self) -> QuickScript:
        return QuickScript(self._redis, "stencil", "set_values", "warm")


def menu_start(now: float) -> str:
    """How the cached text of every menu built at ``now`` begins, with `BLANK` twice for the user's id."""
    return f'{{"cached_at":{now!r},"user_id":{BLANK},"data":{{"user_id":{BLANK},'
