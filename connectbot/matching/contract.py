"""A matching: what is asked of the matching service, what it answers, and whether that answer can be believed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from connectbot.errors import JavaServiceRefused


class Employee(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One person as the service wants to know them, under the names of its own API (contract v21).

    Only ``id`` must be there; what is missing is not sent. Any other field, such as a name, is left out when
    reading: it never reaches the service.
    """

    id: int
    department: str | None = None
    grade: str | None = None
    excluded_partners: tuple[int, ...] = ()
    interests: tuple[str, ...] = ()
    preferences: dict[str, Any] = {}

    def __repr__(self) -> str:
        """Only the id: the rest is nothing for a log."""
        return f"Employee(id={self.id})"


class MatchingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A wish that people be paired.

    ``users`` says who, and ``employees`` what is known of them: of the others the service is told the id only. Where
    nothing is known of any, it fetches that itself. Without ``users``, everybody in ``employees`` is meant.
    """

    request_id: str
    users: tuple[int, ...] = ()
    type: str = "coffee"
    employees: tuple[Employee, ...] | None = None
    algorithm_params: dict[str, Any] = {}

    @property
    def people(self) -> tuple[int, ...]:
        """Who is to be paired: each once, in the order asked."""
        return tuple(dict.fromkeys(self.users or (employee.id for employee in self.employees or ())))

    @property
    def known_people(self) -> tuple[Employee, ...]:
        """Those who are to be paired, with what is known of each; nobody where nothing is known of any."""
        asked = dict.fromkeys(self.people)
        known = {employee.id: employee for employee in self.employees or () if employee.id in asked}
        unknown = (Employee(id=one) for one in asked if one not in known)
        return (*known.values(), *unknown) if known else ()

    @property
    def question(self) -> bytes:
        """What the service is asked, whoever asks: the same text for the same, in whatever order people were named.

        Raises `RecursionError` when what is asked is nested too deeply.
        """
        known = sorted(self.known_people, key=lambda one: one.id)
        people = [replace(one, excluded_partners=tuple(sorted(set(one.excluded_partners)))) for one in known]
        asked = self.type, self.algorithm_params, people or sorted(self.people)
        return msgspec.json.encode(asked, order="deterministic")


class Pair(msgspec.Struct, frozen=True):
    """Two people who are to meet."""

    employee1_id: int
    employee2_id: int

    def __iter__(self) -> Iterator[int]:
        return iter((self.employee1_id, self.employee2_id))


class MatchingResult(msgspec.Struct, frozen=True, kw_only=True):
    """Who meets whom. Everybody who was asked for is in it exactly once."""

    request_id: str
    pairs: tuple[Pair, ...]
    unmatched: tuple[int, ...]
    algorithm: str


class _Person(msgspec.Struct):
    id: int


class _Pair(msgspec.Struct):
    """The service's OpenAPI says ids, its code writes objects; what it does not use may be null or missing."""

    employee1_id: int | None = None
    employee2_id: int | None = None
    employee1: _Person | None = None
    employee2: _Person | None = None


class _Answer(msgspec.Struct):
    status: str
    pairs: list[_Pair]
    algorithm: str | None = None
    unmatched_employees: list[int | _Person] | None = None


def read_result(answer: Any, request: MatchingRequest) -> MatchingResult:
    """The result that the service's answer (decoded JSON) holds for ``request``.

    Raises `JavaServiceRefused` (``invalid_result``) when the answer has another shape than the contract's, or
    says what cannot be: somebody twice, somebody who was not asked for, or a pair that is excluded. The message
    names places in the answer, and nobody.
    """
    read = _convert(answer)
    pairs = tuple(_pair(pair, at) for at, pair in enumerate(read.pairs))
    left = [one if isinstance(one, int) else one.id for one in read.unmatched_employees or ()]
    _check_people(
        [
            *((f"pairs[{at}]", one) for at, pair in enumerate(pairs) for one in pair),
            *((f"unmatched_employees[{at}]", one) for at, one in enumerate(left)),
        ],
        request,
    )
    _check_exclusions(pairs, request)
    paired = frozenset(one for pair in pairs for one in pair)
    return MatchingResult(
        request_id=request.request_id,
        pairs=pairs,
        unmatched=tuple(one for one in request.people if one not in paired),
        algorithm=read.algorithm or "",
    )


def _convert(answer: Any) -> _Answer:
    try:
        read = msgspec.convert(answer, _Answer)
    except msgspec.ValidationError as error:
        raise _invalid(f"has the wrong shape: {error}") from error
    if read.status.lower() != "ok":
        raise _invalid("has a status that is neither ok nor error")
    return read


def _pair(pair: _Pair, at: int) -> Pair:
    return Pair(
        _side(pair.employee1_id, pair.employee1, f"pairs[{at}].employee1"),
        _side(pair.employee2_id, pair.employee2, f"pairs[{at}].employee2"),
    )


def _side(id_: int | None, person: _Person | None, place: str) -> int:
    named = {one for one in (id_, person.id if person else None) if one is not None}
    if len(named) != 1:
        raise _invalid(f"does not say clearly who {place} is")
    return named.pop()


def _check_people(named: Iterable[tuple[str, int]], request: MatchingRequest) -> None:
    asked, seen = frozenset(request.people), set[int]()
    for place, one in named:
        if one not in asked:
            raise _invalid(f"names somebody in {place} who was not asked for")
        if one in seen:
            raise _invalid(f"names somebody in {place} for the second time")
        seen.add(one)


def _check_exclusions(pairs: Iterable[Pair], request: MatchingRequest) -> None:
    excluded = {(one.id, other) for one in request.employees or () for other in one.excluded_partners}
    for at, (one, other) in enumerate(pairs):
        if (one, other) in excluded or (other, one) in excluded:
            raise _invalid(f"pairs two people in pairs[{at}] of whom one is excluded for the other")


def _invalid(fault: str) -> JavaServiceRefused:
    return JavaServiceRefused("invalid_result", f"the matching service's answer {fault}: this is for its developers")
