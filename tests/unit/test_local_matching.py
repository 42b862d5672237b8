"""Pairs made here: as many as there can be, none that is excluded, the same each time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from connectbot.matching.contract import Employee, MatchingRequest
from connectbot.matching.local import match_locally
from connectbot.matching.maximum import maximum_matching

Edges = frozenset[frozenset[int]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, Edges]:
    size = draw(st.integers(0, 8))
    possible = [frozenset(pair) for pair in itertools.combinations(range(size), 2)]
    return size, frozenset(draw(st.sets(st.sampled_from(possible)))) if possible else frozenset()


def most_pairs(vertices: tuple[int, ...], edges: Edges) -> int:
    """By trying everything."""
    if not vertices:
        return 0
    one, *others = vertices
    alone = most_pairs(tuple(others), edges)
    paired = (
        1 + most_pairs(tuple(left for left in others if left != other), edges)
        for other in others
        if frozenset({one, other}) in edges
    )
    return max(alone, *paired, 0)


@given(graphs())
@settings(deadline=None, max_examples=300)
def test_there_are_as_many_pairs_as_there_can_be(graph: tuple[int, Edges]) -> None:
    size, edges = graph
    neighbours = [[other for other in range(size) if frozenset({one, other}) in edges] for one in range(size)]
    partners = maximum_matching(neighbours)
    paired = [at for at in range(size) if partners[at] >= 0]
    assert all(partners[partners[at]] == at and partners[at] in neighbours[at] for at in paired)
    assert len(paired) == 2 * most_pairs(tuple(range(size)), edges)


def test_many_who_stay_alone_do_not_each_look_at_everybody() -> None:
    looks = []

    class Neighbours(list[int]):
        def __iter__(self) -> Iterator[int]:
            looks.append(1)
            return super().__iter__()

    few, all_ = range(10), range(60)
    partners = maximum_matching([Neighbours(other for other in all_ if (other in few) != (one in few)) for one in all_])
    assert sum(partner >= 0 for partner in partners) == 2 * len(few)
    assert len(looks) < 4 * len(all_)


def request(*employees: Employee, users: tuple[int, ...] = (), request_id: str = "r") -> MatchingRequest:
    return MatchingRequest(request_id=request_id, users=users, employees=employees or None)


def test_people_meet_across_departments_where_possible() -> None:
    people = [Employee(id=at, department="ABC"[at % 3]) for at in range(30)]
    result = match_locally(request(*people))
    assert result.algorithm == "local_fallback"
    assert len(result.pairs) == 15
    assert all(one % 3 != other % 3 for one, other in result.pairs)


def test_a_department_that_is_too_large_meets_itself_rather_than_nobody() -> None:
    people = [Employee(id=at, department="A" if at < 9 else "B") for at in range(12)]
    result = match_locally(request(*people))
    assert len(result.pairs) == 6
    assert sum((one < 9) != (other < 9) for one, other in result.pairs) == 3


def test_nobody_meets_whom_either_side_excludes() -> None:
    result = match_locally(request(Employee(id=1, excluded_partners=(2,)), Employee(id=2), Employee(id=3)))
    assert {frozenset(pair) for pair in result.pairs} <= {frozenset({1, 3}), frozenset({2, 3})}
    assert len(result.pairs) == 1
    nobody = match_locally(request(Employee(id=1), Employee(id=2, excluded_partners=(1,))))
    assert (nobody.pairs, nobody.unmatched) == ((), (1, 2))


def test_the_same_request_has_the_same_result_and_another_has_another() -> None:
    people = [Employee(id=at) for at in range(20)]
    first = match_locally(request(*people))
    assert match_locally(request(*reversed(people))).pairs == first.pairs
    assert match_locally(request(*people, request_id="another")).pairs != first.pairs


def test_people_of_whom_nothing_is_known_are_paired_too() -> None:
    result = match_locally(request(users=(5, 6, 7, 5)))
    assert len(result.pairs) == len(result.unmatched) == 1
    assert match_locally(request()).pairs == ()
