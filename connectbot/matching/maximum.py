"""As many pairs as there can be: a maximum matching of a graph (Edmonds' blossom algorithm)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

_NOBODY = -1


def maximum_matching(neighbours: Sequence[Sequence[int]], partners: Sequence[int] = ()) -> list[int]:
    """The partner of each vertex, -1 where it has none.

    ``neighbours`` lists for each vertex those it may be paired with; who comes first is preferred. ``partners`` is a
    matching to begin with: whoever has a partner there has one in the end, although maybe another one.
    """
    search = _Search(neighbours, list(partners) or [_NOBODY] * len(neighbours))
    search.pair_greedily()
    for vertex in range(len(neighbours)):
        if search.partners[vertex] == _NOBODY:
            search.augment_from(vertex)
    return search.partners


class _Search:
    """Looks for augmenting paths: each gives two lonely vertices a partner.

    ``_parent`` is the way back to the root from a vertex at an odd distance; ``_base`` is the vertex to which the odd
    cycle (blossom) around a vertex was shrunk. ``_settled`` are those that a search came to in vain: no path leads
    through them any more (Edmonds), so that many lonely vertices are not each a search through everything.
    """

    def __init__(self, neighbours: Sequence[Sequence[int]], partners: list[int]) -> None:
        self.partners = partners
        self._neighbours = neighbours
        self._all = range(len(neighbours))
        self._parent: list[int] = []
        self._base: list[int] = []
        self._even: list[bool] = []
        self._settled = [False] * len(neighbours)

    def pair_greedily(self) -> None:
        """Pair those who have few to choose from first."""
        for vertex in sorted(self._all, key=lambda vertex: len(self._neighbours[vertex])):
            if self.partners[vertex] == _NOBODY:
                lonely = (other for other in self._neighbours[vertex] if self.partners[other] == _NOBODY)
                other = next(lonely, _NOBODY)
                if other != _NOBODY:
                    self.partners[vertex], self.partners[other] = other, vertex

    def augment_from(self, root: int) -> None:
        """Find a partner for ``root`` if one can be found without leaving anybody alone who is not."""
        end = self._find_path(root)
        while end != _NOBODY:
            before = self._parent[end]
            following = self.partners[before]
            self.partners[end], self.partners[before] = before, end
            end = following

    def _find_path(self, root: int) -> int:
        self._parent = [_NOBODY] * len(self._all)
        self._base = list(self._all)
        self._even = [False] * len(self._all)
        self._even[root] = True
        queue = deque([root])
        while queue:
            vertex = queue.popleft()
            for other in self._neighbours[vertex]:
                if self._settled[other] or self._base[vertex] == self._base[other] or self.partners[vertex] == other:
                    continue
                if other == root or (self.partners[other] != _NOBODY and self._even[other]):
                    self._shrink(vertex, other, queue)
                elif self._parent[other] == _NOBODY:
                    self._parent[other] = vertex
                    if self.partners[other] == _NOBODY:
                        return other
                    self._even[self.partners[other]] = True
                    queue.append(self.partners[other])
        for vertex in self._all:
            self._settled[vertex] |= self._even[vertex] or self._parent[vertex] != _NOBODY
        return _NOBODY

    def _shrink(self, one: int, other: int, queue: deque[int]) -> None:
        root = self._common_base(one, other)
        in_blossom = [False] * len(self._all)
        self._mark_way(one, root, other, in_blossom)
        self._mark_way(other, root, one, in_blossom)
        for vertex in self._all:
            if in_blossom[self._base[vertex]]:
                self._base[vertex] = root
                if not self._even[vertex]:
                    self._even[vertex] = True
                    queue.append(vertex)

    def _common_base(self, one: int, other: int) -> int:
        seen = set()
        while True:
            one = self._base[one]
            seen.add(one)
            if self.partners[one] == _NOBODY:
                break
            one = self._parent[self.partners[one]]
        while (other := self._base[other]) not in seen:
            other = self._parent[self.partners[other]]
        return other

    def _mark_way(self, vertex: int, root: int, child: int, in_blossom: list[bool]) -> None:
        while self._base[vertex] != root:
            in_blossom[self._base[vertex]] = in_blossom[self._base[self.partners[vertex]]] = True
            self._parent[vertex] = child
            child = self.partners[vertex]
            vertex = self._parent[child]
