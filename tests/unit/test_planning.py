"""What an order holds: its entries themselves where they are small, and where to find them otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectbot.entries import Batch, Entry
from worker.planning import ENCLOSED_BYTES, Planner
from worker.routing import LANES, ROUTES

fields = st.dictionaries(st.binary(max_size=20), st.binary(max_size=60), max_size=5)


def order(*entries: Entry, lane: str = "default") -> Batch:
    (made,) = Planner(lane, ROUTES).orders_for_news("a", entries, most=100)
    return msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(made.batch))), Batch)


def entry(number: int, more: Mapping[bytes, bytes], type_: bytes = b"user.created") -> Entry:
    return Entry(f"{number}-0", {**more, b"type": type_})


@given(st.lists(fields, min_size=1, max_size=5))
def test_small_entries_travel_with_their_order_whatever_they_hold(found: list[dict[bytes, bytes]]) -> None:
    entries = [entry(number, more) for number, more in enumerate(found, 1)]
    assert order(*entries).opened() == entries


def test_large_ones_are_only_named() -> None:
    batch = order(entry(1, {b"event": b"x" * ENCLOSED_BYTES}))
    assert (batch.enclosed, batch.first, batch.count) == ((), "1-0", 1)


def test_what_calls_the_java_service_asks_whether_its_entries_are_still_its_own() -> None:
    assert order(entry(1, {}, b"matching.request"), lane="java").enclosed == ()


@pytest.mark.parametrize("lane", LANES)
def test_an_entry_for_a_lane_that_has_no_task_for_it_is_counted(lane: str) -> None:
    """As a dead letter that is replayed after its type has moved to another lane."""
    mine = {route.type for route in ROUTES if route.lane == lane}
    for type_ in {route.type for route in ROUTES}:
        found = entry(1, {b"lane": lane.encode()}, type_.encode())
        assert Planner("default", ROUTES).is_unknown(found) == (type_ not in mine)


def test_what_travels_is_not_shown() -> None:
    batch = order(entry(1, {b"event": b"secret-marker"}))
    assert batch.enclosed
    assert "secret-marker" not in f"{batch} {batch!r}"


@pytest.mark.parametrize(
    ("lane", "type_", "weight"), [("default", b"user.created", 1 / 32), ("java", b"matching.request", 1)]
)
def test_suspects_that_are_alone_go_out_many_at_once_but_not_where_each_may_take_long(
    lane: str, type_: bytes, weight: float
) -> None:
    suspects = [Entry(f"{number}-0", {b"type": type_}, 3) for number in range(1, 6)]
    orders = Planner(lane, ROUTES).orders_for_suspects("a", suspects)
    assert [one.batch.count for one in orders] == [1] * 5
    assert {one.weight for one in orders} == {weight}


def test_more_than_a_batch_that_was_read_at_once_is_handed_out_in_several() -> None:
    entries = [entry(number, {}, b"matching.request" if number % 2 else b"user.created") for number in range(1, 31)]
    ours = entries[::2]
    orders = Planner("java", ROUTES).orders_for_news("a", ours, most=6)
    parts = [order.batch.picked_from(between(order.batch, entries)) for order in orders]
    assert [len(part) for part in parts] == [order.batch.count for order in orders] == [6, 6, 3]
    assert [one for part in parts for one in part] == ours


TYPES = (b"user.created", b"matching.request", b"notification.sent", b"")
EVERY_KIND = [
    Entry(f"{number}-0", {name: value for name, value in fields if value is not None})
    for number, fields in enumerate(
        product(
            [(b"type", type_) for type_ in (*TYPES, b"\xff", None)],
            [(b"event", b'{"type": "%b"}' % type_) for type_ in TYPES] + [(b"event", b"no JSON")],
            [(b"lane", lane) for lane in (b"", b"default", b"java", b"\xff", None)],
        ),
        1,
    )
]


@pytest.mark.parametrize("lane", LANES)
def test_whatever_an_entry_says_it_goes_into_one_order_or_none(lane: str) -> None:
    planner = Planner(lane, ROUTES)
    ours = planner.ours(EVERY_KIND)
    for orders in (
        planner.orders_for_news("a", ours, most=100),
        planner.orders_for_news("a", ours, most=3),
        *(planner.orders_for_news("a", planner.ours([one]), most=1) for one in ours),
    ):
        parts = [order.batch.picked_from(between(order.batch, EVERY_KIND)) for order in orders]
        assert [len(part) for part in parts] == [order.batch.count for order in orders]
    assert sum(order.batch.count for order in planner.orders_for_suspects("a", ours)) == len(ours) > 20


def between(batch: Batch, entries: list[Entry]) -> list[Entry]:
    ids = [one.id for one in entries]
    return entries[ids.index(batch.first) : ids.index(batch.last) + 1]
