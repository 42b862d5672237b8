"""What the stand-in for the matching service takes, whom it pairs, and what it answers (contract v21)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

HEALTH: Final = "/api/v1/matching/health"
MADE_UP_PEOPLE: Final = (1, 2, 3, 4, 5, 6)
DEPARTMENTS: Final = ("Engineering", "Finance", "Sales")

Person = dict[str, Any]
Query = Mapping[str, Sequence[str]]


class NotUnderstood(Exception):
    """The request cannot be used; the message says why. Answered as HTTP 400."""


class Asked(NamedTuple):
    """Who is to be paired, and who is left out from the beginning."""

    people: list[Person]
    aside: list[Person]


class Paired(NamedTuple):
    """Who meets whom, and who meets nobody."""

    pairs: list[tuple[Person, Person]]
    unmatched: list[Person]


def pair(asked: Asked) -> Paired:
    """The same pairs for the same people, whatever their order.

    The next to be paired is always from the department with most people left, and gets the first allowed
    partner of the largest other one: so, as few as possible meet within their own department.
    """
    waiting = _by_department(asked.people)
    pairs, left = [], list(asked.aside)
    while waiting:
        own, *others = sorted(waiting, key=lambda department: (-len(waiting[department]), department))
        person = waiting[own].pop(0)
        candidates = (other for department in (*others, own) for other in waiting[department])
        partner = next((other for other in candidates if _may_meet(person, other)), None)
        if partner is None:
            left.append(person)
        else:
            waiting[_department(partner)].remove(partner)
            pairs.append((person, partner))
        waiting = {department: group for department, group in waiting.items() if group}
    return Paired(pairs, sorted(left, key=_id))


def _by_department(people: Sequence[Person]) -> dict[str, list[Person]]:
    groups: dict[str, list[Person]] = {}
    for person in sorted({_id(person): person for person in people}.values(), key=_id):
        groups.setdefault(_department(person), []).append(person)
    return groups


def _id(person: Person) -> int:
    return int(person["id"])


def _department(person: Person) -> str:
    return str(person.get("department") or "")


def _may_meet(one: Person, other: Person) -> bool:
    return other["id"] not in _listed(one, "excluded_partners") and one["id"] not in _listed(other, "excluded_partners")


def _listed(person: Person, field: str) -> Sequence[Any]:
    return person.get(field) or ()


# --- what each endpoint takes -------------------------------------------------------------------------------


def _with_employees(body: Any, _query: Query) -> Asked:
    return Asked(_people(_object(body).get("employees")), [])


def _from_api(body: Any, _query: Query) -> Asked:
    ids = _object(body).get("employeeIds") or _object(body).get("users") or list(MADE_UP_PEOPLE)
    if not isinstance(ids, list) or not all(type(id_) is int for id_ in ids):
        raise NotUnderstood("employeeIds is a list of ids")
    return Asked([{"id": id_, "department": DEPARTMENTS[id_ % len(DEPARTMENTS)]} for id_ in ids], [])


def _simple(body: Any, _query: Query) -> Asked:
    return Asked([{**person, "department": ""} for person in _people(body)], [])


def _by_interest(body: Any, query: Query) -> Asked:
    interest = "".join(query.get("interest", ()))
    if not interest:
        raise NotUnderstood("the parameter interest is needed")
    asked = Asked([], [])
    for person in _people(body):
        (asked.people if interest in _listed(person, "interests") else asked.aside).append(person)
    return asked


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise NotUnderstood("the body is an object")
    return body


def _people(given: Any) -> list[Person]:
    if not isinstance(given, list) or not given:
        raise NotUnderstood("employees are a list that is not empty")
    if not all(_is_person(person) for person in given):
        raise NotUnderstood("an employee is an object with an id, and lists of excluded_partners and interests")
    return given


def _is_person(given: Any) -> bool:
    if not isinstance(given, dict) or type(given.get("id")) is not int:
        return False
    return all(isinstance(_listed(given, field), (list, tuple)) for field in ("excluded_partners", "interests"))


ENDPOINTS: Final[Mapping[str, tuple[str, Callable[[Any, Query], Asked]]]] = {
    "/api/v1/matching/match/secret-coffee": ("cross_department", _with_employees),
    "/api/v1/matching/match/secret-coffee/from-api": ("cross_department", _from_api),
    "/api/matching/coffee/simple": ("simple", _simple),
    "/api/matching/coffee/interest": ("interest", _by_interest),
}
"""Path → the name of its algorithm, and who is asked for by a request. All are POST."""


def read(body: bytes) -> Any:
    """The body's JSON. Raises `NotUnderstood`."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood("the body is not JSON") from error


def request_id(body: bytes) -> Any:
    """What the caller calls its request; None when the body does not tell."""
    try:
        asked = read(body)
    except NotUnderstood:
        return None
    return asked.get("requestId") if isinstance(asked, dict) else None


# --- what is answered ---------------------------------------------------------------------------------------


def result(paired: Paired, *, request_id: Any, algorithm: str, pair_shape: str, list_unmatched: bool) -> dict[str, Any]:
    """The answer to a request that went well."""
    answer = {
        "requestId": request_id,
        "status": "ok",
        "error": None,
        "algorithm": algorithm,
        "pairs": [_pair(one, other, pair_shape) for one, other in paired.pairs],
        "meta": {"stand_in": "python"},
    }
    if list_unmatched:
        answer["unmatched_employees"] = [person["id"] for person in paired.unmatched]
    return answer


def failure(reason: str, *, request_id: Any = None) -> dict[str, Any]:
    """The answer to a request that did not."""
    return {
        "requestId": request_id,
        "status": "error",
        "error": reason,
        "algorithm": None,
        "pairs": [],
        "meta": {"stand_in": "python"},
    }


def _pair(one: Person, other: Person, shape: str) -> dict[str, Any]:
    if shape == "ids":
        return {"employee1_id": one["id"], "employee2_id": other["id"]}
    return {"employee1": _shown(one), "employee2": _shown(other)}


def _shown(person: Person) -> dict[str, Any]:
    return {"id": person["id"], "department": person.get("department")}
