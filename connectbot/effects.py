"""What a piece of work wants written. Nothing happens before it is committed, and then all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from connectbot.redis_client import Command

USERS_IN_A_TABLE: Final = 1000
"""One command takes the words of them all, and Lua's ``unpack`` no more than some 8,000."""


@dataclass(frozen=True, slots=True)
class Column:
    """One kind of command for some users: its ``first`` words (one or two), then as many words for each user.

    ``rows`` holds the words of one user after those of the other. ``together`` tells that one command takes them all
    (HSET, ZADD, DEL …); otherwise each user gets a command.
    """

    first: Command
    rows: Sequence[Any]
    together: bool = True

    @classmethod
    def of(cls, command: Command) -> Column:
        """A column for one user alone."""
        return cls(command[:1], command[1:])


@dataclass(slots=True)
class Effects:
    """Commands to be applied in one atomic step, in the order in which they were added."""

    _words: list[Any] = field(default_factory=list)

    def add(self, *commands: Command) -> None:
        """Commands that are applied in any case."""
        self.add_unless("", commands)

    def add_unless(self, key: str, commands: Iterable[Command]) -> None:
        """Commands that are left out when ``key`` exists by then; one of them may make it."""
        given = list(commands)
        if given:
            self._words += ("group", key, len(given))
        for command in given:
            self._words.append(len(command))
            self._words += command

    def add_for_users(self, versions: Mapping[int, str], columns: Sequence[Column]) -> None:
        """Commands for users, given with their versions, column by column.

        What is for a user is left out when something newer than the user's version is known by then.
        """
        users, texts = list(versions), list(versions.values())
        for at in range(0, len(users), USERS_IN_A_TABLE):
            part = slice(at, at + USERS_IN_A_TABLE)
            self._words += ("table", len(users[part]), len(columns), *users[part], *texts[part])
            for column in columns:
                width = len(column.rows) // len(users)
                self._words += ("together" if column.together else "each", len(column.first), width, *column.first)
                self._words += column.rows[at * width : (at + USERS_IN_A_TABLE) * width]

    def extend(self, other: Effects) -> None:
        """All that ``other`` holds, after what is here."""
        self._words += other._words

    def __bool__(self) -> bool:
        return bool(self._words)

    def words(self) -> list[Any]:
        """All of it in the form that ``commit.lua`` reads."""
        return self._words
