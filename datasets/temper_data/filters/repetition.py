# SPDX-License-Identifier: Apache-2.0
"""How much of a text repeats itself: lines, paragraphs and n-grams, as Gopher measures it."""

from collections import Counter

import numpy as np

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, else arbitrary


def duplicate_shares(parts: list[str]) -> tuple[float, float]:
    """Share of the parts that stood before, and share of the characters within them."""
    counts = Counter(parts)
    if len(counts) == len(parts):
        return 0.0, 0.0
    repeated = sum((count - 1) * len(part) for part, count in counts.items())
    return 1 - len(counts) / len(parts), repeated / max(1, sum(map(len, parts)))


class Grams:
    """The n-grams of a list of units, by 64-bit hashes."""

    def __init__(self, units: list[str]):
        numbers: dict[str, int] = {}
        ids = [numbers.setdefault(unit, len(numbers)) for unit in units]
        self._ids = (np.array(ids, np.uint64) + np.uint64(1)) * MULTIPLIER
        self._lengths = np.fromiter(map(len, units), np.int64, len(units))
        self._all = max(1, int(self._lengths.sum()))
        self._unique_from = len(units) + 1  # n-grams of so many units or more all differ

    def _hashes(self, n: int) -> np.ndarray:
        """One for each n-gram, by its place. Products wrap around, as is meant."""
        count = len(self._ids) - n + 1
        hashes = np.zeros(max(0, count), np.uint64)
        for offset in range(n if count > 0 else 0):
            hashes = (hashes ^ (hashes >> np.uint64(29))) * MULTIPLIER
            hashes += self._ids[offset : offset + count]
        return hashes

    def top_share(self, n: int) -> float:
        """Share of the characters within the most frequent n-gram; 0 if none stands twice."""
        if n >= self._unique_from:
            return 0.0
        hashes = self._hashes(n)
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        most = int(counts.max())
        if most < 2:
            self._unique_from = n
            return 0.0
        places = first[counts == most]
        longest = max(int(self._lengths[place : place + n].sum()) for place in places[:1000])
        return most * longest / self._all

    def duplicate_share(self, n: int) -> float:
        """Share of the characters that lie in an n-gram that stood before, each counted once."""
        if n >= self._unique_from:
            return 0.0
        hashes = self._hashes(n)
        _, first = np.unique(hashes, return_index=True)
        if len(first) == len(hashes):
            self._unique_from = n
            return 0.0
        again = np.ones(len(hashes), np.int64)
        again[first] = 0
        changes = np.zeros(len(self._ids) + 1, np.int64)
        changes[: len(again)] += again
        changes[n : n + len(again)] -= again
        covered = np.cumsum(changes)[:-1] > 0
        return int(self._lengths[covered].sum()) / self._all
