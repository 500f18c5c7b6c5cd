# SPDX-License-Identifier: Apache-2.0
"""64-bit digests, and a set of them.

The set takes 13 to 27 bytes for each, and 2 MiB at least; Python's own about 60 for each.
"""

import hashlib
from array import array

EMPTY = 0  # A digest of 0 is stored as 1; that merges two of 2^64 values.
MAX_LOAD = 0.6
TABLES_LOG2 = 6


def digest(data: bytes) -> int:
    """64 bits that stand for `data`."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def text_digest(text: str) -> int:
    return digest(text.encode("utf-8", "surrogatepass"))


class DigestSet:
    """Open addressing with linear probing; digests are uniform, so their low bits are the hash.

    The upper bits choose one of many tables, which grow one after the other: while one is copied
    into one twice as large, the memory of a small part of all is there three times, not of all.
    """

    def __init__(self, capacity: int = 1 << 18):
        each = max(1, capacity >> TABLES_LOG2)
        self._tables = [array("Q", bytes(8 * each)) for _ in range(1 << TABLES_LOG2)]
        self._counts = [0] * len(self._tables)

    def __len__(self) -> int:
        return sum(self._counts)

    @property
    def num_bytes(self) -> int:
        return sum(8 * len(slots) for slots in self._tables)

    def add(self, digest: int) -> bool:
        """Adds `digest`; True if it was not there before."""
        digest = digest or 1
        number = digest >> (64 - TABLES_LOG2)
        slots = self._tables[number]
        place = free_place(slots, digest)
        if place is None:
            return False
        slots[place] = digest
        self._counts[number] += 1
        if self._counts[number] > MAX_LOAD * len(slots):
            self._tables[number] = grown(slots)
        return True


def free_place(slots: array, digest: int) -> int | None:
    """Where a digest belongs; None if it is there."""
    wrap = len(slots) - 1
    place = digest & wrap
    while slots[place] != EMPTY:
        if slots[place] == digest:
            return None
        place = (place + 1) & wrap
    return place


def grown(slots: array) -> array:
    """Twice as many slots with the same digests."""
    larger = array("Q", bytes(16 * len(slots)))
    for digest in slots:
        if digest != EMPTY:
            larger[free_place(larger, digest)] = digest
    return larger
