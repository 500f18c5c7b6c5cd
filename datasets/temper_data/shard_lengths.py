# SPDX-License-Identifier: Apache-2.0
"""How long the documents of a shard, or a set of shards, are, and how they will fill rows."""

import numpy as np

from .joint_shards import JointShards
from .packed_rows import SEQUENCE_LENGTHS, Fill, PackedRows
from .shard_file import ShardFile

EXACT = 1 << 16  # Longer lengths are so few that each has an entry of its own.
AT_ONCE = 1 << 20  # tokens whose mask is looked at in one go


class Distribution:
    """Counts of whole numbers. Memory: 512 KiB, and an entry for each larger number."""

    def __init__(self) -> None:
        self._counts = np.zeros(EXACT, np.int64)
        self._large: dict[int, int] = {}

    def add(self, values: np.ndarray) -> None:
        """Shapes: int64 [n], none negative."""
        small = values < EXACT
        self._counts += np.bincount(values[small], minlength=EXACT)
        for value in values[~small].tolist():
            self._large[value] = self._large.get(value, 0) + 1

    def pairs(self) -> list[tuple[int, int]]:
        """Each number that occurs, ascending, and how often."""
        numbers = np.flatnonzero(self._counts)
        counts = self._counts[numbers].tolist()
        return [*zip(numbers.tolist(), counts, strict=True), *sorted(self._large.items())]

    def quantile(self, share: float) -> int:
        """The number at `share` of the way through all of them in order, as in report.json."""
        pairs = self.pairs()
        place = int(share * (sum(count for _, count in pairs) - 1))
        for number, count in pairs:
            if place < count:
                return number
            place -= count
        return 0


    def buckets(self) -> list[tuple[int, int, int]]:
        """First and last number of each bucket, and how many lie in it; two for each doubling.

        From the smallest that occurs to the largest, without gaps.
        """
        pairs = self.pairs()
        buckets: list[tuple[int, int, int]] = []
        bounds = [0, 1, 2, 3]
        while bounds[-1] <= pairs[-1][0]:
            bounds += [bounds[-2] * 2, bounds[-1] * 2]
        for low, end in zip(bounds, bounds[1:], strict=False):
            count = sum(n for value, n in pairs if low <= value < end)
            if count or buckets:
                buckets.append((low, end - 1, count))
        while not buckets[-1][2]:
            buckets.pop()
        return buckets

    def summary(self) -> str:
        median, tail, longest = (f"{self.quantile(share):,}" for share in (0.5, 0.95, 1.0))
        return f"median {median}, 95 % up to {tail}, most {longest}"


class ShardLengths:
    """Reads shards once, a piece at a time."""

    def __init__(self, shards: JointShards):
        self.kind = shards.header["kind"]
        self.documents, self.tokens = shards.num_documents, shards.total("num_tokens")
        self.targets = shards.total("num_targets")
        self.lengths, self.trained = Distribution(), Distribution()
        self._rows = [PackedRows(length) for length in SEQUENCE_LENGTHS]
        for shard in shards.shards():
            for offsets in shard.pieces():
                self._add(shard, offsets)

    def fills(self) -> list[Fill]:
        if self.kind == "pretrain":
            return [rows.sliced(self.tokens) for rows in self._rows]
        return [rows.packed() for rows in self._rows]

    def _add(self, shard: ShardFile, offsets: np.ndarray) -> None:
        lengths = np.diff(offsets)
        if self.kind == "pretrain":
            targets, first = lengths - 1, np.ones_like(lengths)
        else:
            targets, first = find_targets(shard, offsets)
        self.lengths.add(lengths)
        self.trained.add(targets)
        for rows in self._rows:
            rows.add(lengths, first)


def find_targets(shard: ShardFile, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each document, how many targets it has, and where in it the first one is.

    Shapes: offsets int64 [documents + 1], results int64 [documents].
    """
    counts = np.zeros(len(offsets) - 1, np.int64)
    first = np.diff(offsets)  # For a document without any, behind its end.
    for begin in range(int(offsets[0]), int(offsets[-1]), AT_ONCE):
        end = min(begin + AT_ONCE, int(offsets[-1]))
        targets = np.flatnonzero(shard.mask(begin, end)) + begin
        before = np.searchsorted(targets, offsets)  # how many lie before each document
        owners = np.flatnonzero(np.diff(before))
        counts[owners] += np.diff(before)[owners]
        found = targets[before[owners]] - offsets[owners]
        first[owners] = np.minimum(first[owners], found)
    return counts, first
