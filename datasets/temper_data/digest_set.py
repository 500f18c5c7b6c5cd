# SPDX-License-Identifier: Apache-2.0
"""64-bit digests, and a set of them.

The set takes 13 to 27 bytes for each, and 2 MiB at least; Python's own about 60 for each.
"""

import hashlib
from array import array

EMPTY = 0  # A digest of 0 is stored as 1; that merges two of 2^64 values.
MAX_LOAD = 0.6


def digest(data: bytes) -> int:
    """64 bits that stand for `data`."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def text_digest(text: str) -> int:
    return digest(text.encode("utf-8", "surrogatepass"))


class DigestSet:
    """Open addressing with linear probing; digests are uniform, so their low bits are the hash."""

    def __init__(self, capacity: int = 1 << 18):
        self._slots = array("Q", bytes(8 * capacity))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, digest: int) -> bool:
        """Adds `digest`; True if it was not there before."""
        digest = digest or 1
        slots, wrap = self._slots, len(self._slots) - 1
        place = digest & wrap
        while slots[place] != EMPTY:
            if slots[place] == digest:
                return False
            place = (place + 1) & wrap
        slots[place] = digest
        self._count += 1
        if self._count > MAX_LOAD * len(slots):
            self._grow()
        return True

    def _grow(self) -> None:
        old = self._slots
        self._slots = array("Q", bytes(16 * len(old)))
        self._count = 0
        for digest in old:
            if digest != EMPTY:
                self.add(digest)
