"""Pairs made here, when the matching service cannot be waited for any longer.

Nobody is paired with whom they exclude, as many as possible are paired, and as far as that allows across departments.
Who meets whom is drawn by lot, but by the request's id: the same request has the same result wherever it is computed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Final

from connectbot.matching.contract import Employee, MatchingRequest, MatchingResult, Pair
from connectbot.matching.maximum import maximum_matching

ALGORITHM: Final = "local_fallback"


def match_locally(request: MatchingRequest) -> MatchingResult:
    """Pair the people of a request. Those of whom nothing is known are taken to be of one unknown department."""
    people = _drawn(request)
    across = maximum_matching([list(_choice(people, one, across=True)) for one in people])
    partners = maximum_matching([list(_choice(people, one, across=False)) for one in people], across)
    pairs = tuple(Pair(people[at].id, people[partner].id) for at, partner in enumerate(partners) if partner > at)
    paired = frozenset(one for pair in pairs for one in pair)
    return MatchingResult(
        request_id=request.request_id,
        pairs=pairs,
        unmatched=tuple(one for one in request.people if one not in paired),
        algorithm=ALGORITHM,
    )


def _drawn(request: MatchingRequest) -> list[Employee]:
    """Everybody, in an order that only the request's id and its people decide."""
    known = {employee.id: employee for employee in request.known_people}
    people = [known.get(one) or Employee(id=one) for one in sorted(request.people)]
    seed = hashlib.sha256(request.request_id.encode("utf-8", "surrogatepass")).digest()
    random.Random(seed).shuffle(people)  # noqa: S311 - a lot that can be drawn again, not a secret
    return people


def _choice(people: Sequence[Employee], one: Employee, *, across: bool) -> Iterator[int]:
    """The places of those whom ``one`` may meet; with ``across``, only those of other departments."""
    excluded = frozenset(one.excluded_partners)
    for at, other in enumerate(people):
        if other.id == one.id or other.id in excluded or one.id in other.excluded_partners:
            continue
        if not across or other.department != one.department:
            yield at
