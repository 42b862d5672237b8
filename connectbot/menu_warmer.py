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
from uuid import uuid4

from connectbot.cache import BLANK, Ending
from connectbot.keys import Keys
from connectbot.quick_script import Call, QuickScript
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

    def everybody(
        self, *, place: str = "", done: int = 0, go_on: Callable[[], bool] = lambda: True
    ) -> Iterator[Progress]:
        """Warm the menus of every known user; tells after each page how far it is.

        ``place`` and ``done`` are what an earlier walk told last, to go on there. Where Redis was restarted meanwhile,
        the walk begins anew by itself. Who is added during the walk gets menus from the event that tells it.

        ``go_on`` is asked after a page whether to begin another; one more is under way then, and is told, too. Who
        stops listening instead leaves that one undone or done.
        """
        for begun_anew, at, looked_at, total in self._pages("after", place, "next", go_on=go_on):
            done = looked_at if begun_anew else done + looked_at
            yield Progress(at, done, total)

    def expiring(self, *, before: float) -> Iterator[int]:
        """Warm the menus that run out ``before`` (epoch seconds); tells after each page for how many users it was."""
        where = repr(before)
        for _, _, written, _ in self._pages("before", where, where, ahead_seconds=before - time.time()):
            yield written

    def _pages(
        self,
        which: str,
        first: str,
        next_: str,
        *,
        ahead_seconds: float = 0.0,
        go_on: Callable[[], bool] = lambda: True,
    ) -> Iterator[tuple[bool, str, int, int]]:
        """What the script answers, page by page, when it is told where the first page and the next ones begin."""
        walk, told, is_over = uuid4().hex, False, False

        def calls() -> Iterator[Call]:
            yield self._call(which, first, walk, int(ahead_seconds * 1000))
            while not is_over and (not told or go_on()):
                yield self._call(which, next_, walk, int(ahead_seconds * 1000))

        with translated_errors():
            for begun_anew, place, done, total, missing in self._script.ahead(calls()):
                self._seen.update(zip((role.decode() for role in missing[::2]), missing[1::2], strict=True))
                if missing or is_over:
                    continue
                told, is_over = True, not place
                if len(self._seen) > MOST_STENCILS:
                    self._seen = set()
                yield bool(begun_anew), place.decode(), done, total

    def _call(self, which: str, place: str, walk: str, ahead_ms: int) -> Call:
        now = time.time()
        written = [USERS_A_PAGE, repr(now + self._ttl_seconds), self._ttl_seconds * 1000, ahead_ms]
        menus = [self._prefix, len(self._endings), *self._endings, *self._stencils(now)]
        return [*self._script_keys, self._keys.menu_walk_page(walk)], [which, place, *written, *menus]

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
