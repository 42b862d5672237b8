"""As many pairs as there can be among people nearly all of whom may meet (Edmonds' blossom algorithm).

Who may be paired is written down nowhere, since that would grow with the square of the people. Known are the groups,
which do not meet within themselves, and the exclusions. Most pairs are found greedily. Each further one is a search,
which comes to each person once, and otherwise only to exclusions: it takes steps and memory for people and exclusions
together. A search or two are usual; there are hardly more than the root of the number of exclusions.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence, Set
from typing import Final

_NOBODY: Final = -1
_SEVERAL: Final = object()


def maximum_matching(
    groups: Sequence[Hashable], excluded: Sequence[Set[int]], partners: Sequence[int] = ()
) -> list[int]:
    """The partner of each vertex, -1 where it has none.

    Two vertices may be paired when their ``groups`` differ and neither is in the other's set of ``excluded``: each
    exclusion has to be in both sets. ``partners`` is a matching to begin with: whoever has a partner there has one in
    the end, although maybe another one.
    """
    matching = list(partners) or [_NOBODY] * len(groups)
    _pair_greedily(groups, excluded, matching)
    while matching.count(_NOBODY) > 1 and _Forest(groups, excluded, matching).augment():
        pass
    return matching


def _pair_greedily(groups: Sequence[Hashable], excluded: Sequence[Set[int]], partners: list[int]) -> None:
    """Pair the largest group with the next largest, so that few are left who could have met somebody.

    Of one group, and among groups of one size, those with the most exclusions come first.
    """

    def ranked(members: list[int]) -> tuple[int, int, int, list[int]]:
        return -len(members), -len(excluded[members[-1]]), members[-1], members

    lonely = sorted(_lonely(partners), key=lambda vertex: len(excluded[vertex]))
    heap = [ranked(members) for members in _by_group(groups, lonely).values()]
    heapq.heapify(heap)
    while len(heap) > 1:
        largest = heapq.heappop(heap)[-1]
        vertex = largest.pop()
        tried = [largest]
        while heap and partners[vertex] == _NOBODY:
            members = heapq.heappop(heap)[-1]
            tried.append(members)
            at = next((at for at in reversed(range(len(members))) if members[at] not in excluded[vertex]), None)
            if at is not None:
                other = members.pop(at)
                partners[vertex], partners[other] = other, vertex
        for members in filter(None, tried):
            heapq.heappush(heap, ranked(members))


def _lonely(partners: Sequence[int]) -> Iterator[int]:
    return (vertex for vertex, partner in enumerate(partners) if partner == _NOBODY)


def _by_group(groups: Sequence[Hashable], vertices: Iterable[int]) -> dict[Hashable, list[int]]:
    members: dict[Hashable, list[int]] = {}
    for vertex in vertices:
        members.setdefault(groups[vertex], []).append(vertex)
    return members


class _Forest:
    """One search for an augmenting path, from all lonely vertices at once: each is the root of a tree.

    ``_parent`` is the way back to the root from a vertex at an odd distance; ``_base`` leads to the vertex to which the
    odd cycle (blossom) around a vertex was shrunk. Those at an even distance wait in ``_queue`` until they are scanned.
    """

    def __init__(self, groups: Sequence[Hashable], excluded: Sequence[Set[int]], partners: list[int]) -> None:
        self._groups = groups
        self._excluded = excluded
        self._partners = partners
        self._parent = [_NOBODY] * len(groups)
        self._base = list(range(len(groups)))
        self._root = [vertex if partner == _NOBODY else _NOBODY for vertex, partner in enumerate(partners)]
        self._even = [partner == _NOBODY for partner in partners]
        self._queue = deque(_lonely(partners))
        self._unreached = _by_group(groups, (vertex for vertex, even in enumerate(self._even) if not even))
        self._scanned = _Scanned(groups, excluded)

    def augment(self) -> bool:
        """Give two lonely vertices a partner, and leave nobody alone who is not; False when that cannot be done."""
        while self._queue:
            vertex = self._queue.popleft()
            met = self._scanned.met_by(vertex, self._find(vertex))
            self._scanned.add(vertex, self._find(vertex))
            for other in met:
                if self._root[vertex] != self._root[other]:
                    self._pair(vertex, other)
                    self._pair(other, vertex)
                    return True
                if self._find(vertex) != self._find(other):
                    self._shrink(vertex, other)
            self._reach_from(vertex)
        return False

    def _reach_from(self, vertex: int) -> None:
        """Add to the tree whoever is in none, and may meet ``vertex``; the partner of each comes along."""
        for group in [group for group in self._unreached if group != self._groups[vertex]]:
            left = []
            for other in self._unreached.pop(group):
                if self._root[other] != _NOBODY:
                    continue
                if other in self._excluded[vertex]:
                    left.append(other)
                    continue
                self._parent[other] = vertex
                partner = self._partners[other]
                self._root[other] = self._root[partner] = self._root[vertex]
                self._make_even(partner)
            if left:
                self._unreached[group] = left

    def _make_even(self, vertex: int) -> None:
        if not self._even[vertex]:
            self._even[vertex] = True
            self._queue.append(vertex)

    def _pair(self, vertex: int, partner: int) -> None:
        """Give ``vertex`` this partner, its former one the next on the way to the root, and so on."""
        former = self._partners[vertex]
        self._partners[vertex] = partner
        while former != _NOBODY:
            vertex = self._parent[former]
            following = self._partners[vertex]
            self._partners[former], self._partners[vertex] = vertex, former
            former = following

    def _shrink(self, one: int, other: int) -> None:
        base = self._common_base(one, other)
        self._fold_way(one, base, other)
        self._fold_way(other, base, one)

    def _common_base(self, one: int, other: int) -> int:
        seen = set()
        while True:
            one = self._find(one)
            seen.add(one)
            if self._partners[one] == _NOBODY:
                break
            one = self._parent[self._partners[one]]
        while (other := self._find(other)) not in seen:
            other = self._parent[self._partners[other]]
        return other

    def _fold_way(self, vertex: int, base: int, child: int) -> None:
        while self._find(vertex) != base:
            self._parent[vertex] = child
            child = self._partners[vertex]
            self._make_even(child)
            for folded in (vertex, child):
                if self._base[folded] == folded:
                    self._base[folded] = base
                    self._scanned.join(folded, base)
            vertex = self._parent[child]

    def _find(self, vertex: int) -> int:
        while (base := self._base[vertex]) != vertex:
            self._base[vertex] = self._base[base]
            vertex = base
        return vertex


class _Scanned:
    """The blossoms of the scanned vertices, each known by its base; a vertex alone is a blossom, too.

    They are filed by their group, or as of several groups: who looks for others does not pass all of its own group.
    """

    def __init__(self, groups: Sequence[Hashable], excluded: Sequence[Set[int]]) -> None:
        self._groups = groups
        self._excluded = excluded
        self._members: dict[int, dict[Hashable, list[int]]] = {}
        self._bases: dict[Hashable, dict[int, None]] = {}

    def met_by(self, vertex: int, base: int) -> list[int]:
        """Of each blossom but its own (``base``), one vertex that ``vertex`` may be paired with, where there is one."""
        own = self._groups[vertex]
        met = (
            self._first_met(vertex, other)
            for group, bases in self._bases.items()
            if group != own
            for other in bases
            if other != base
        )
        return [other for other in met if other != _NOBODY]

    def _first_met(self, vertex: int, base: int) -> int:
        own = self._groups[vertex]
        others = (other for group, members in self._members[base].items() if group != own for other in members)
        return next((other for other in others if other not in self._excluded[vertex]), _NOBODY)

    def add(self, vertex: int, base: int) -> None:
        """``vertex`` is scanned now, and belongs to the blossom of ``base``."""
        self._file(base, self._merged(self._taken(base), {self._groups[vertex]: [vertex]}))

    def join(self, folded: int, base: int) -> None:
        """The blossom of ``folded`` is a part of the one of ``base`` from now on."""
        self._file(base, self._merged(self._taken(base), self._taken(folded)))

    def _file(self, base: int, members: dict[Hashable, list[int]]) -> None:
        if members:
            self._members[base] = members
            self._bases.setdefault(self._file_of(members), {})[base] = None

    def _taken(self, base: int) -> dict[Hashable, list[int]]:
        members = self._members.pop(base, {})
        if members:
            file = self._file_of(members)
            del self._bases[file][base]
            if not self._bases[file]:
                del self._bases[file]
        return members

    @staticmethod
    def _file_of(members: dict[Hashable, list[int]]) -> Hashable:
        return _SEVERAL if len(members) > 1 else next(iter(members))

    @staticmethod
    def _merged(one: dict[Hashable, list[int]], other: dict[Hashable, list[int]]) -> dict[Hashable, list[int]]:
        large, small = (one, other) if len(one) >= len(other) else (other, one)
        for group, members in small.items():
            large.setdefault(group, []).extend(members)
        return large
