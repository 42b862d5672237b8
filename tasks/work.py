"""What a task for events is made of: a handler, and what else has to be known of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Entry
from connectbot.events import Event, decode


class Received(msgspec.Struct, frozen=True, gc=False):
    """An event together with the entry that brought it."""

    entry: Entry
    event: Event


Handler: TypeAlias = Callable[[Clients, Sequence[Received]], Effects]
Farewell: TypeAlias = Callable[[Clients, Received, str], Effects]
"""Says what else to write when an event becomes a dead letter: called with the event and the reason.
Of an event that cannot be read it gets what there is: its type, and the ``request_id`` in its data.

It may raise `RedisUnavailable` and nothing else.
"""
Deadline: TypeAlias = Callable[[Clients, Received], float | None]
"""Says until when, in epoch seconds, an event is to be finished with: however long it is put aside, it is back then."""


@dataclass(frozen=True, slots=True)
class Work:
    """How one kind of event is worked on: ``read`` reads it, ``handle`` says what follows from it.

    ``one_by_one``: the handler does not take a whole batch but single events, some of them in threads at the same time
    (CONNECTBOT_JAVA_CALLS), each committed as soon as it is done. The last ones may end after the task.
    """

    handle: Handler
    farewell: Farewell | None = None
    one_by_one: bool = False
    deadline: Deadline | None = None
    read: Callable[[bytes], Event] = decode
