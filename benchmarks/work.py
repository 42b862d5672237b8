"""The work that every system is given: one event in, one menu of v21 into the cache, as django-redis reads it.

This module is imported in the environments of the peers too: it needs redis-py and nothing of ours. What it does is
what Django code would do with the standard library (contract v21: "Redis cache", "Menus", "Events").
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

TTL_MS = 1_800_000
FIRST_USER = 1_000_000
EFFECTS_DB = 1
"""The database of the peers' effects: what a peer keeps for itself is in database 0, and is not counted."""


def broker_url() -> str:
    """Redis of the system that is measured."""
    return os.environ["BENCH_REDIS_URL"]


def effects_url() -> str:
    """The same Redis, where a peer is to write its menus."""
    return f"{broker_url().rpartition('/')[0]}/{EFFECTS_DB}"


def be_quiet() -> None:
    """A line of log for each event would slow down some peers, and say nothing."""
    logging.disable(logging.INFO)


# --- in ---------------------------------------------------------------------------------------------------


def role_of(user_id: int) -> str:
    """Every tenth user is an administrator."""
    return "admin" if user_id % 10 == 0 else "employee"


def user_ids(count: int) -> range:
    """The users of a run."""
    return range(FIRST_USER, FIRST_USER + count)


def event_texts(count: int) -> Iterator[str]:
    """The events of a run, as v21 writes them."""
    for user_id in user_ids(count):
        yield json.dumps(
            {
                "id": str(uuid.uuid4()),
                "type": "user.created",
                "data": {"user": {"id": user_id, "role": role_of(user_id), "username": f"user{user_id}"}},
                "timestamp": datetime.now(UTC).isoformat(),
                "channel": "connectbot:global",
                "user_id": user_id,
                "source": "django-connectbot",
            }
        )


def chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """The texts, some at a time."""
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


# --- the work ---------------------------------------------------------------------------------------------


def main_menu(user_id: int, role: str) -> dict[str, Any]:
    """v21's main menu."""
    options = [
        {"key": "profile", "label": "👤 Профиль", "action": "show_profile"},
        {"key": "activities", "label": "🎯 Мои активности", "action": "show_activities"},
        {"key": "preferences", "label": "⚙️ Настройки", "action": "show_preferences"},
    ]
    if role in ("admin", "super_admin"):
        options += [
            {"key": "admin_panel", "label": "🔧 Админ панель", "action": "admin_panel"},
            {"key": "manage_users", "label": "👥 Управление пользователями", "action": "manage_users"},
        ]
    return {"type": "main", "user_id": user_id, "role": role, "options": options}


def menu_key(user_id: int) -> str:
    """The key that Redis sees."""
    return f":1:menu:user:{user_id}:main"


def menu_text(user_id: int, role: str) -> str:
    """What v21 caches: JSON, as text."""
    record = {"data": main_menu(user_id, role), "user_id": user_id, "menu_type": "main", "cached_at": 0}
    return json.dumps(record, ensure_ascii=False)


def effect(event: str | bytes | dict[str, Any]) -> tuple[str, bytes]:
    """The key and the value that one event leads to: the work itself."""
    found = event if isinstance(event, dict) else json.loads(event)
    user = found["data"]["user"]
    text = menu_text(user["id"], user["role"])
    return menu_key(user["id"]), zlib.compress(pickle.dumps(text, pickle.DEFAULT_PROTOCOL))


def handle(client: Any, event: str | bytes | dict[str, Any]) -> None:
    """All of it for one event."""
    key, value = effect(event)
    client.set(key, value, px=TTL_MS)


async def handle_async(client: Any, event: str | bytes | dict[str, Any]) -> None:
    """The same with ``redis.asyncio``."""
    key, value = effect(event)
    await client.set(key, value, px=TTL_MS)


def fill(pipe: Any, events: Sequence[str | bytes | dict[str, Any]]) -> Any:
    """The work for many events, in one pipeline that is still to be executed."""
    for event in events:
        key, value = effect(event)
        pipe.set(key, value, px=TTL_MS)
    return pipe
