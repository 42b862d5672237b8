"""The event that asks for a matching, whoever publishes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from connectbot.events import ConnectBotEvents, Event, derived_id, new_event
from connectbot.keys import Keys

SERVICE: Final = "matching"


def request_event(
    keys: Keys,
    request_id: str,
    users: Iterable[int],
    *,
    type: str,  # noqa: A002 - contract v21
    employees: Iterable[Mapping[str, Any]] | None,
    deadline: float | None = None,
) -> Event:
    """The event of a request; ``deadline`` is in epoch seconds.

    Its id follows from ``request_id``: it is the call's ``Idempotency-Key``, and must be the same whoever asks again.
    """
    data = {"users": list(users), "type": type, "employees": employees, "request_id": request_id, "deadline": deadline}
    return new_event(
        ConnectBotEvents.MATCHING_REQUEST,
        {name: value for name, value in data.items() if value is not None},
        channel=keys.service_channel(SERVICE),
        event_id=derived_id(request_id, "request"),
    )
