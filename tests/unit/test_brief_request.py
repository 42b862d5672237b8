"""What Flower and ``celery inspect`` are shown of a task's arguments."""

from __future__ import annotations

import json
from types import SimpleNamespace

from kombu.message import Message

from connectbot.entries import Entry
from tasks.matching import request as matching_request
from tests.markers import NAME, found_in
from worker.app import app
from worker.bootstep import OwnPool
from worker.brief_request import BriefRequest, brief
from worker.orders import OrderRequest
from worker.planning import Planner
from worker.routing import ROUTES

EMPLOYEES = [{"id": 1, "interests": ["secret-marker"]}, {"id": 2, "name": "secret-marker"}]


def test_ids_and_words_are_shown_and_people_are_not() -> None:
    args, kwargs = brief([[1, 2], "coffee", EMPLOYEES], {"request_id": "r-1", "employees": EMPLOYEES})
    assert args == "([1, 2], 'coffee', [{2 fields}, {2 fields}])"
    assert kwargs == "{'request_id': 'r-1', 'employees': [{2 fields}, {2 fields}]}"


def test_what_is_long_is_cut() -> None:
    args, kwargs = brief([list(range(1000)), "x" * 1000], {"y": "z" * 1000})
    assert len(args) < 120
    assert len(kwargs) < 60
    assert args.startswith("([0, 1, 2,")


def test_neither_events_nor_inspection_tell_more() -> None:
    body = [[[1, 2], "coffee", EMPLOYEES], {}, {}]
    headers = {"id": "t-1", "task": matching_request.name, "argsrepr": repr(body[0]), "kwargsrepr": "secret-marker"}
    message = Message(
        json.dumps(body), content_type="application/json", content_encoding="utf-8", headers=headers, properties={},
        delivery_info={}, delivery_tag="1", accept={"application/json"},
    )  # fmt: skip
    seen = BriefRequest(message, app=matching_request.app, task=matching_request)
    told = json.dumps([seen.argsrepr, seen.kwargsrepr, seen.info(), seen.info(safe=True), repr(seen), str(seen)])
    assert "secret-marker" not in told
    assert "[1, 2]" in told
    assert list(seen.args) == body[0], "the task itself gets them all"


def test_entries_that_travel_with_their_order_are_not_shown() -> None:
    entry = Entry("1-0", {b"type": b"user.created", b"event": NAME.encode()})
    (order,) = Planner("default", ROUTES).orders_for_news("a", [entry], most=100)
    sent: list[Message] = []
    celery = SimpleNamespace(app=app, call_soon=lambda _, message: sent.append(message))
    OwnPool(celery).send("t-1", order.task, order.batch, time_limit_seconds=1)
    assert found_in(sent[0].body.encode()), "they do travel"

    seen = OrderRequest(sent[0], app=app, task=order.task)
    told = json.dumps([seen.argsrepr, seen.kwargsrepr, seen.info(), seen.info(safe=True), repr(seen), str(seen)])
    assert not found_in(told.encode())
    assert "1 entries of lane default" in told
