"""What keeps the installation small: trimming, forgetting, and burying what nobody can read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from celery import shared_task

from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.errors import Never
from tasks.base import Received, event_task
from tasks.process import clients

DELETED_USERS_KEPT_SECONDS: Final = 86_400.0
"""An event about a user may be that late and still not bring a deleted user back."""
FORGET_AT_ONCE: Final = 10_000


@shared_task(name="events.upkeep")
def upkeep() -> int:
    """Trim the stream below what every lane has finished with, forget users deleted long ago, and look for temporary
    data that would stay for ever.

    Answers how many entries were removed.
    """
    ours = clients()
    ours.users.forget_deleted(before=time.time() - DELETED_USERS_KEPT_SECONDS, limit=FORGET_AT_ONCE)
    ours.temp_data.limit_lives()
    return ours.stream.trim(keep=ours.settings.stream_keep)


@event_task("events.bury")
def bury(ours: Clients, received: Sequence[Received]) -> Effects:
    """Put entries whose type could not be read with the dead letters: decoding them again says why."""
    raise Never("the type of the event could not be read")
