"""Pairs made here, when the matching service cannot be waited for any longer.

Nobody is paired with whom they exclude, as many as possible are paired, and as far as that allows across departments.
Who meets whom is drawn by lot, but by the request's id: the same request has the same result wherever it is computed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Final

from connectbot.matching.contract import Employee, MatchingRequest, MatchingResult, Pair
from connectbot.matching.maximum import maximum_matching

ALGORITHM: Final = "local_fallback"


def match_locally(request: MatchingRequest) -> MatchingResult:
    """Pair the people of a request. Those of whom nothing is known are taken to be of one unknown department."""
    people = _drawn(request)
    excluded = _exclusions(people)
    across = maximum_matching([one.department for one in people], excluded)
    partners = maximum_matching(range(len(people)), excluded, across)
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


def _exclusions(people: Sequence[Employee]) -> list[set[int]]:
    """For each place, those of the people who must not be met, whichever side excludes the other."""
    places = {one.id: at for at, one in enumerate(people)}
    excluded = [set[int]() for _ in people]
    for at, one in enumerate(people):
        for other in one.excluded_partners:
            if (place := places.get(other)) is not None:
                excluded[at].add(place)
                excluded[place].add(at)
    return excluded
