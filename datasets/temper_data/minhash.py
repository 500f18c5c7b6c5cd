# SPDX-License-Identifier: Apache-2.0
"""Band keys of a document: two documents that share one may be near copies of each other.

MinHash (Broder 1997): the least value of a random function over two sets is equal with the
probability of their Jaccard similarity J. `rows` of them form the key of a band, so that documents
share at least one of `bands` keys with probability 1 - (1 - J^rows)^bands.
"""

import numpy as np

from .text_units import FACTOR, mix, windows

FUNCTIONS = 128
RECALL = 0.99  # of pairs as similar as the threshold asks; of others that are alike it is higher
CHUNK = 64  # shingles at a time: 64 KiB of values, which a core's cache holds


def shape_of_bands(threshold: float) -> tuple[int, int]:
    """Bands and rows: as many rows as RECALL allows, since they spare comparisons in vain."""
    best = (FUNCTIONS, 1)
    for rows in range(2, FUNCTIONS + 1):
        bands = FUNCTIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= RECALL:
            best = (bands, rows)
    return best


class BandKeys:
    """The functions, which are the same in every run and on every machine."""

    def __init__(self, threshold: float, ngram: int):
        self.ngram = ngram
        self.bands, self.rows = shape_of_bands(threshold)
        numbers = np.arange(1, self.bands * self.rows + 1, dtype=np.uint64)
        self._factors = mix(numbers * FACTOR) | np.uint64(1)
        self._terms = mix(numbers * FACTOR + np.uint64(7))

    def of(self, units: np.ndarray) -> np.ndarray:
        """Shapes: result uint64 [bands]."""
        values = windows(units, min(self.ngram, len(units)))  # Twice the same changes no minimum.
        least = np.full(len(self._factors), np.iinfo(np.uint64).max, np.uint64)
        for begin in range(0, len(values), CHUNK):
            spread = values[begin : begin + CHUNK, None] * self._factors
            spread += self._terms
            np.minimum(least, spread.min(axis=0), out=least)
        rows = (least >> np.uint64(16)).reshape(self.bands, self.rows)
        keys = np.arange(1, self.bands + 1, dtype=np.uint64)
        for row in range(self.rows):
            keys = keys * FACTOR + rows[:, row]
        return mix(keys)


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Shared shingles over all, of two sorted sets."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
