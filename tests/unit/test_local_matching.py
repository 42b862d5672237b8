"""Pairs made here: as many as there can be, none that is excluded, the same each time."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectbot.matching.contract import Employee, MatchingRequest
from connectbot.matching.local import match_locally
from connectbot.matching.maximum import maximum_matching


@st.composite
def crowds(draw: st.DrawFn) -> tuple[list[int], list[set[int]], list[int]]:
    """Groups, exclusions, and some pairs to begin with."""
    size = draw(st.integers(0, 8))
    groups = draw(st.one_of(st.just(list(range(size))), st.lists(st.integers(0, 3), min_size=size, max_size=size)))
    possible = list(itertools.combinations(range(size), 2))
    drawn = draw(st.sets(st.sampled_from(possible))) if possible else set()
    excluded = [set[int]() for _ in groups]
    for one, other in drawn if draw(st.booleans()) else set(possible) - drawn:
        excluded[one].add(other)
        excluded[other].add(one)
    partners = [-1] * size
    for one, other in draw(st.permutations(possible))[: draw(st.integers(0, size))]:
        if partners[one] == partners[other] == -1 and may_meet(groups, excluded, one, other):
            partners[one], partners[other] = other, one
    return groups, excluded, partners


def may_meet(groups: list[int], excluded: list[set[int]], one: int, other: int) -> bool:
    return groups[one] != groups[other] and other not in excluded[one]


def most_pairs(groups: list[int], excluded: list[set[int]], vertices: tuple[int, ...]) -> int:
    """By trying everything."""
    if not vertices:
        return 0
    one, *others = vertices
    alone = most_pairs(groups, excluded, tuple(others))
    paired = (
        1 + most_pairs(groups, excluded, tuple(left for left in others if left != other))
        for other in others
        if may_meet(groups, excluded, one, other)
    )
    return max(alone, *paired, 0)


@given(crowds())
@settings(deadline=None, max_examples=300)
def test_there_are_as_many_pairs_as_there_can_be(crowd: tuple[list[int], list[set[int]], list[int]]) -> None:
    groups, excluded, before = crowd
    partners = maximum_matching(groups, excluded, before)
    paired = [at for at, partner in enumerate(partners) if partner >= 0]
    assert all(partners[partners[at]] == at and may_meet(groups, excluded, at, partners[at]) for at in paired)
    assert len(paired) == 2 * most_pairs(groups, excluded, tuple(range(len(groups))))
    assert {at for at, partner in enumerate(before) if partner >= 0} <= set(paired)


@pytest.mark.parametrize("group_of_8", [8, 2])
def test_two_who_are_alone_find_each_other_around_two_odd_cycles(group_of_8: int) -> None:
    """0-1=2, 2-3=4-2, 3-8, 8=9-7-8, 7=6-5: a hyphen is a possible pair, an equals sign one that there is."""
    possible = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 2), (3, 8), (8, 9), (9, 7), (7, 8), (7, 6), (6, 5)]
    partners = [-1, 2, 1, 4, 3, -1, 7, 6, 9, 8]
    excluded = [{other for other in range(10) if not {(one, other), (other, one)} & {*possible}} for one in range(10)]
    groups = [*range(8), group_of_8, 9]
    assert maximum_matching(groups, excluded, partners) == [1, 0, 4, 8, 2, 6, 5, 9, 3, 7]


class Excluded(set[int]):
    """Counts how often somebody is looked for in any."""

    looks = 0

    def __contains__(self, one: object) -> bool:
        Excluded.looks += 1
        return super().__contains__(one)


def test_many_who_stay_alone_do_not_each_look_at_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Excluded, "looks", 0)
    few, all_ = range(10), range(60)
    excluded = [Excluded(other for other in all_ if (other in few) == (one in few)) for one in all_]
    partners = maximum_matching(all_, excluded)
    assert sum(partner >= 0 for partner in partners) == 2 * len(few)
    assert Excluded.looks < 4 * sum(map(len, excluded))


@pytest.mark.parametrize("hermits", [0, 1])
def test_a_large_crowd_costs_steps_for_its_people_and_exclusions_not_for_its_possible_pairs(
    monkeypatch: pytest.MonkeyPatch, hermits: int
) -> None:
    """Each excludes two; a hermit excludes everybody, and the one left over looks through all others in vain."""
    monkeypatch.setattr(Excluded, "looks", 0)
    size = 10_000
    excluded = [Excluded({(at - 1) % size, (at + 1) % size, *range(hermits)}) for at in range(size)]
    for hermit in range(hermits):
        excluded[hermit].update(range(size))
    groups = [min(at * 5 // size, 2) for at in range(size)]  # 20 %, 20 % and 60 %
    partners = maximum_matching(groups, excluded)
    assert sum(partner >= 0 for partner in partners) == 2 * (size * 4 // 10 - hermits)
    assert Excluded.looks < 4 * (size + sum(map(len, excluded)))
    partners = maximum_matching(range(size), excluded, partners)
    assert sum(partner >= 0 for partner in partners) == size - 2 * hermits
    assert Excluded.looks < 8 * (size + sum(map(len, excluded)))


def test_a_large_crowd_costs_memory_for_its_people_not_for_its_possible_pairs() -> None:
    size = 10_000
    asked = request(*(Employee(id=at, department=str(at % 7), excluded_partners=(at - 1,)) for at in range(size)))
    tracemalloc.start()
    try:
        assert len(match_locally(asked).pairs) == size // 2
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2_000 * size


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
