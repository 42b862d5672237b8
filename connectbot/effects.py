"""What a piece of work wants written. Nothing happens before it is committed, and then all of it at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from connectbot.redis_client import Command

if TYPE_CHECKING:
    from connectbot.cache import Stencil
    from connectbot.users import KnownUser

USERS_IN_A_TABLE: Final = 500
"""One command carries the words of all users of a table, and Lua's ``unpack`` takes some 8,000. lua/warm.lua reads
users back in the same groups."""


Word: TypeAlias = tuple[Any, ...]
"""A word of a command that is made for each user: its kind, and what that kind needs (see lua/commit.lua)."""


def same(word: Any) -> Word:
    """One and the same for every user."""
    return ("same", word)


def with_id(before: str = "", after: str = "") -> Word:
    """The user's id, between two texts."""
    return ("id", before, after)


@dataclass(frozen=True, slots=True)
class ForEach:
    """One command for some users: its ``first`` words, then the ``words`` made for each user.

    ``only_known`` leaves out those of whom nothing was known before.
    """

    first: Command
    words: Sequence[Word]
    only_known: bool = False

    @classmethod
    def of(cls, command: Command) -> ForEach:
        """A column for one user alone."""
        return cls(command[:1], [same(word) for word in command[1:]])

    def described(self, role: str, ids: Iterable[str]) -> Iterator[Any]:
        """It in the form that ``commit.lua`` reads."""
        how = "each, if known" if self.only_known else "each"
        yield from (how, len(self.first), *self.first, len(self.words))
        for word in self.words:
            yield from word


@dataclass(frozen=True, slots=True)
class Record:
    """Stores the version and the role of each of some users in the hash of users."""

    def described(self, role: str, ids: Iterable[str]) -> Iterator[Any]:
        """In the form that ``commit.lua`` reads."""
        yield "record"


@dataclass(frozen=True, slots=True)
class Listed:
    """One command for some users: its ``first`` words, and one word with all their ids, parted by spaces."""

    first: Command

    def described(self, role: str, ids: Iterable[str]) -> Iterator[Any]:
        """It in the form that ``commit.lua`` reads."""
        yield from ("list", len(self.first), *self.first)


@dataclass(frozen=True, slots=True)
class Values:
    """A value of the cache for each of some users, who have it for ``lifetime_ms``.

    Its key is the user's id between two texts; the value is a stencil with the id filled in. ``stencil_of`` tells it by
    the user's role and the length of the id.
    """

    before: str
    after: str
    lifetime_ms: int
    stencil_of: Callable[[str, int], Stencil]

    def described(self, role: str, ids: Iterable[str]) -> Iterator[Any]:
        """It in the form that ``commit.lua`` reads."""
        lengths = set(map(len, ids))
        yield from ("value", self.before, self.after, self.lifetime_ms, len(lengths))
        for length in lengths:
            yield from (length, *self.stencil_of(role, length))


Column: TypeAlias = ForEach | Record | Listed | Values
"""What is done for some users."""


@dataclass(slots=True)
class Effects:
    """Commands to be applied in one atomic step, in the order in which they were added."""

    _words: list[Any] = field(default_factory=list)

    def add(self, *commands: Command) -> None:
        """Commands that are applied in any case."""
        self.add_unless("", commands)

    def add_unless(self, key: str, commands: Iterable[Command]) -> None:
        """Commands that are left out when ``key`` exists by then; one of them may make it."""
        self._add_group("group", key, list(commands))

    def add_if_it_can_be(self, *commands: Command) -> None:
        """Commands that nothing depends on: what Redis refuses of them does not hold up the rest."""
        self._add_group("if it can", "", commands)

    def add_for_users(self, users: Sequence[KnownUser], columns: Sequence[Column]) -> None:
        """Commands for users, column by column.

        What is for a user is left out when something newer than the user's version is known by then.
        """
        by_role: defaultdict[str, list[KnownUser]] = defaultdict(list)
        for user in users:
            by_role[user.role or ""].append(user)
        for role, alike in by_role.items():
            for at in range(0, len(alike), USERS_IN_A_TABLE):
                self._add_table(role, alike[at : at + USERS_IN_A_TABLE], columns)

    def add_sight(self, user: KnownUser) -> None:
        """The user existed as of the version. The role counts only while no event, earlier or later, tells one."""
        self._words += ("sight", user.user_id, user.version, user.role)

    def extend(self, other: Effects) -> None:
        """All that ``other`` holds, after what is here."""
        self._words += other._words

    def __bool__(self) -> bool:
        return bool(self._words)

    def words(self) -> list[Any]:
        """All of it in the form that ``commit.lua`` reads."""
        return self._words

    def _add_table(self, role: str, users: Sequence[KnownUser], columns: Sequence[Column]) -> None:
        ids, after_version = [str(user.user_id) for user in users], f" {role}" if role else ""
        described = [word for column in columns for word in column.described(role, ids)]
        rows = [""] * (2 * len(ids))
        rows[::2], rows[1::2] = ids, [user.version + after_version for user in users]
        self._words += ("table", role, len(ids), len(described), *rows, *described)

    def _add_group(self, kind: str, key: str, given: Sequence[Command]) -> None:
        if given:
            self._words += (kind, key, len(given))
        for command in given:
            self._words.append(len(command))
            self._words += command
