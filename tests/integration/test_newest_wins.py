"""Promise 5: what is known of a user in the end is what the events say in their own order, whoever commits last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count, permutations, product

import pytest

from connectbot.cache_keys import menu_key
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Entry
from connectbot.events import encode, new_event
from connectbot.users import DEFAULT_ROLE
from tasks import menus
from tasks.work import Received, Work

KINDS = {
    "created as admin": ("user.created", "admin"),
    "created as employee": ("user.created", "employee"),
    "created": ("user.created", None),
    "made a manager": ("user.updated", "manager"),
    "updated": ("user.updated", None),
    "deleted": ("user.deleted", None),
}
HISTORIES = [*product(KINDS, repeat=2), *product(KINDS, repeat=3)]
CLEARED = "cache cleared"


def at_last(history: Iterable[str]) -> str | None:
    """The role that a user has after all of it."""
    role = None
    for kind in history:
        type_, told = KINDS[kind]
        if type_ == "user.deleted":
            role = None
        elif type_ == "user.created" or told:
            role = told or role or DEFAULT_ROLE
    return role


def entries(user_id: int, history: Iterable[str]) -> list[Entry]:
    made = []
    for second, kind in enumerate(history, 1):
        type_, role = KINDS.get(kind, ("system.cache_cleared", None))
        user = {"id": user_id, "role": role} if role else {"id": user_id}
        event = new_event(type_, {"user": user, "user_id": user_id}, channel="connectbot:global")
        made.append(Entry(f"{second}000-0", {b"type": type_.encode(), b"event": encode(event)}))
    return made


def effects(ours: Clients, entry: Entry) -> Effects:
    return follow(ours, [entry])


def follow(ours: Clients, entries: Iterable[Entry]) -> Effects:
    work: Work = menus.follow_users.work
    return work.handle(ours, [Received(entry, work.read(entry.text)) for entry in entries])


def one_after_the_other(ours: Clients, them: Iterable[Entry]) -> Iterator[Effects]:
    return (effects(ours, entry) for entry in them)


def all_at_the_same_time(ours: Clients, them: Iterable[Entry]) -> Iterator[Effects]:
    return iter([effects(ours, entry) for entry in them])


WorkOut = Callable[[Clients, Iterable[Entry]], Iterator[Effects]]


@pytest.mark.parametrize("work_out", [one_after_the_other, all_at_the_same_time])
def test_the_order_of_the_commits_does_not_matter(ours: Clients, work_out: WorkOut) -> None:
    user_ids = count(1)
    for history in HISTORIES:
        for order in permutations(range(len(history))):
            user_id = next(user_ids)
            them = entries(user_id, history)
            for written in work_out(ours, [them[nth] for nth in order]):
                ours.stream.apply(written)
            known, menu = ours.users.look_up([user_id]).get(user_id), ours.menus.get(user_id, "main")
            role = known.role if known else None
            assert role == at_last(history), (history, order)
            assert menu is None or menu["data"]["role"] == role, (history, order)


@pytest.mark.parametrize("work_out", [one_after_the_other, all_at_the_same_time])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_user_who_is_gone_is_not_remembered_as_seen(ours: Clients, work_out: WorkOut, order: tuple[int, int]) -> None:
    them = entries(7, ["created", "deleted"])
    for written in work_out(ours, [them[nth] for nth in order]):
        ours.stream.apply(written)
    assert ours.users.look_up([7])[7].role is None
    assert not ours.redis.exists(ours.settings.keys.seen_users)


@pytest.mark.parametrize(
    "history",
    [("created as admin", "made a manager"), ("made a manager", "created as admin"), ("deleted", "created as admin"),
     ("created as admin", CLEARED), (CLEARED, "created as admin"), ("created as admin", "created as employee"),
     ("created as admin", "deleted", "created as employee")],
    ids=", then ".join,
)  # fmt: skip
def test_old_menus_go_where_a_user_is_not_only_created(ours: Clients, history: tuple[str, ...]) -> None:
    """All in one batch, about somebody of whom nothing was known: who is only created has no old ones."""
    old = f":1:{menu_key(7, 'activities')}"
    ours.redis.set(old, "made for what the user was")
    ours.stream.apply(follow(ours, entries(7, history)))
    assert not ours.redis.exists(old)
