"""What a piece of work wants written. Nothing happens before it is committed, and then all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from connectbot.redis_client import Command

if TYPE_CHECKING:
    from connectbot.cache import Stencil
    from connectbot.users import KnownUser

USERS_IN_A_TABLE: Final = 1000
"""One command takes the words of them all, and Lua's ``unpack`` no more than some 8,000."""


Word: TypeAlias = tuple[Any, ...]
"""A word of a command that is made for each user: its kind, and what that kind needs (see lua/commit.lua)."""

RECORD: Final[Word] = ("record",)
"""What is kept of a user: the version and the role."""


def same(word: Any) -> Word:
    """One and the same for every user."""
    return ("same", word)


def with_id(before: str = "", after: str = "") -> Word:
    """The user's id, between two texts."""
    return ("id", before, after)


def filled_in(stencils: Mapping[tuple[str, int], Stencil]) -> Word:
    """A value of the cache in which the user's id is filled in, by the role and the length of the id."""
    return ("stencil", len(stencils), *(word for where, stencil in stencils.items() for word in (*where, *stencil)))


TOGETHER: Final = "together"
"""One command takes the words for all users (HSET, ZADD, DEL …)."""
TOGETHER_IF_KNOWN: Final = "together, if known"
"""One command takes the words for those users who were known before."""
EACH: Final = "each"
"""Each user gets a command."""


@dataclass(frozen=True, slots=True)
class Column:
    """One kind of command for some users: its ``first`` words, then the ``words`` made for each user."""

    first: Command
    words: Sequence[Word]
    how: Literal["together", "together, if known", "each"] = TOGETHER

    @classmethod
    def of(cls, command: Command) -> Column:
        """A column for one user alone."""
        return cls(command[:1], [same(word) for word in command[1:]])


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
        described = [word for column in columns for word in _describe(column)]
        for at in range(0, len(users), USERS_IN_A_TABLE):
            part = users[at : at + USERS_IN_A_TABLE]
            self._words += ("table", len(part), len(columns))
            self._words += [user.user_id for user in part]
            self._words += [user.version for user in part]
            self._words += [user.role or "" for user in part]
            self._words += described

    def add_sight(self, user: KnownUser) -> None:
        """The user was there as of the version, and has the role unless another is told, before or after."""
        self._words += ("sight", user.user_id, user.version, user.role)

    def extend(self, other: Effects) -> None:
        """All that ``other`` holds, after what is here."""
        self._words += other._words

    def __bool__(self) -> bool:
        return bool(self._words)

    def words(self) -> list[Any]:
        """All of it in the form that ``commit.lua`` reads."""
        return self._words

    def _add_group(self, kind: str, key: str, given: Sequence[Command]) -> None:
        if given:
            self._words += (kind, key, len(given))
        for command in given:
            self._words.append(len(command))
            self._words += command


def _describe(column: Column) -> Iterator[Any]:
    yield from (column.how, len(column.first), *column.first, len(column.words))
    for word in column.words:
        yield from word
