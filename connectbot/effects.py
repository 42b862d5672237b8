"""What a piece of work wants written. Nothing happens before it is committed, and then all of it at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from connectbot.redis_client import Command


@dataclass(slots=True)
class Effects:
    """Commands to be applied in one atomic step, in the order in which they were added."""

    _groups: list[tuple[str, str, list[Command]]] = field(default_factory=list)

    def add(self, *commands: Command) -> None:
        """Commands that are applied in any case."""
        if commands:
            self._groups.append(("", "", list(commands)))

    def add_for_user(self, user_id: int, version: str, commands: Iterable[Command]) -> None:
        """Commands that are left out when something newer than ``version`` is known of the user by then."""
        self._groups.append((str(user_id), version, list(commands)))

    def extend(self, other: Effects) -> None:
        """All that ``other`` holds, after what is here."""
        self._groups.extend(other._groups)

    def __len__(self) -> int:
        return sum(len(commands) for _, _, commands in self._groups)

    def words(self) -> list[Any]:
        """The groups in the form that ``commit.lua`` reads."""
        words: list[Any] = []
        for user, version, commands in self._groups:
            words += (user, version, len(commands))
            for command in commands:
                words.append(len(command))
                words += command
        return words
