# SPDX-License-Identifier: Apache-2.0
"""Clusters of documents that are nearly the same, and which document of each is the best."""

from array import array
from collections import Counter
from collections.abc import Iterator

import numpy as np

from .document_spool import DocumentSpool
from .minhash import jaccard
from .text_units import shingles

MAX_LEADERS = 64  # documents of a band that others are compared with; bounds the time
MAX_REMEMBERED = 1 << 18  # pairs known to differ: some 30 MiB


class UnionFind:
    """Disjoint sets of documents, each named for its first. Memory: 8 bytes per document."""

    def __init__(self, count: int):
        self._parents = array("q", range(count))

    def find(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    def unite(self, one: int, other: int) -> None:
        one, other = self.find(one), self.find(other)
        self._parents[max(one, other)] = min(one, other)

    def roots(self) -> np.ndarray:
        """The first document of each one's set. Shapes: int64 [documents]."""
        roots = np.array(self._parents)
        while (roots[roots] != roots).any():
            roots = roots[roots]
        return roots


class NearDuplicates:
    """Compares documents that share a band key by their shingles, so that no guess decides."""

    def __init__(self, spool: DocumentSpool, threshold: float, ngram: int):
        self.spool, self.threshold, self.ngram = spool, threshold, ngram
        self.sets = UnionFind(spool.num_documents)
        self.compared = self.not_compared = 0
        self._differing: set[tuple[int, int]] = set()

    def find(self) -> np.ndarray:
        """The first document of each one's cluster. Shapes: int64 [documents]."""
        for number in range(self.spool.num_bands):
            for group in groups_of_equals(self.spool.band(number)):
                self._compare(group)
        return self.sets.roots()

    def _compare(self, group: np.ndarray) -> None:
        """Unites each document with all before it that it is like, up to MAX_LEADERS of them."""
        leaders: list[tuple[int, np.ndarray]] = []
        if len({self.sets.find(number) for number in group.tolist()}) == 1:
            return
        for number in group.tolist():
            own = shingles(self.spool.units(number), self.ngram)
            if len(leaders) == MAX_LEADERS:
                self.not_compared += 1
            is_new = True
            for leader, theirs in leaders:
                is_new = is_new and not np.array_equal(own, theirs)
                if self.sets.find(leader) != self.sets.find(number):
                    self._unite_if_alike(leader, theirs, number, own)
            if is_new and len(leaders) < MAX_LEADERS:
                leaders.append((number, own))

    def _unite_if_alike(self, leader: int, theirs: np.ndarray, number: int, own) -> None:
        if (leader, number) in self._differing:
            return
        self.compared += 1
        if jaccard(theirs, own) >= self.threshold:
            self.sets.unite(leader, number)
            return
        if len(self._differing) >= MAX_REMEMBERED:
            self._differing.clear()
        self._differing.add((leader, number))


def groups_of_equals(values: np.ndarray) -> Iterator[np.ndarray]:
    """For each value that occurs more than once the ascending numbers of its places."""
    if not len(values):
        return
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.concatenate([starts[1:], [len(values)]])
    for index in np.flatnonzero(ends - starts > 1):
        yield order[starts[index] : ends[index]]


def sides_by_cluster(
    sets: UnionFind, keys: np.ndarray, in_holdout: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each document is held out, and the first document that decides it.

    Near copies and documents of one key are on the side of the first of them. Changes `sets`.
    """
    for group in groups_of_equals(keys):
        for number in group[1:].tolist():
            sets.unite(int(group[0]), number)
    roots = sets.roots()
    return in_holdout[roots], roots


def best_of_each(roots: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The document of each one's cluster with most targets, the first of those.

    Shapes: result int64 [documents].
    """
    order = np.lexsort((-targets.astype(np.int64), roots))  # Stable: the first of equals first.
    ordered = roots[order]
    starts = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    best = np.empty(len(roots), np.int64)
    best[ordered[starts]] = order[starts]
    return best[roots]


def sizes_of(roots: np.ndarray) -> dict[str, int]:
    """Number of documents in a cluster to number of such clusters, from 2 on."""
    sizes = np.unique(roots, return_counts=True)[1]
    return {str(size): count for size, count in sorted(Counter(sizes.tolist()).items()) if size > 1}
