# SPDX-License-Identifier: Apache-2.0
"""64-bit digests, and a set of them that lies on the disk once it is large.

The set takes 13 to 27 bytes for each, and 2 MiB at least; Python's own about 60 for each.
"""

import hashlib
import os
import sys
import tempfile
from array import array
from pathlib import Path

EMPTY = 0  # A digest of 0 is stored as 1; that merges two of 2^64 values.
MAX_LOAD = 0.6
TABLES_LOG2 = 6
MEMORY_BYTES = 1 << 20  # of a table; larger ones lie in files


def digest(data: bytes) -> int:
    """64 bits that stand for `data`."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def text_digest(text: str) -> int:
    return digest(text.encode("utf-8", "surrogatepass"))


class FileSlots:
    """Slots in a file without a name, which the system's cache of files makes quick.

    Raises OSError, if the disk is full.
    """

    def __init__(self, folder: Path, slots: array):
        self._length = len(slots)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)
        left = memoryview(slots).cast("B")
        while left:  # A full disk may take a part first, and refuse the rest.
            left = left[self._file.write(left) :]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> int:
        return int.from_bytes(os.pread(self._file.fileno(), 8, 8 * place), sys.byteorder)

    def __setitem__(self, place: int, digest: int) -> None:
        os.pwrite(self._file.fileno(), digest.to_bytes(8, sys.byteorder), 8 * place)

    def read(self) -> array:
        """All of them."""
        slots = array("Q")
        self._file.seek(0)
        slots.frombytes(self._file.read())
        return slots


class DigestSet:
    """Open addressing with linear probing; digests are uniform, so their low bits are the hash.

    The upper bits choose one of many tables, which grow one after the other: while one is copied
    into one twice as large, the memory of a small part of all is there three times, not of all.
    Memory: 64 MiB at most, and that of one table while it grows; the rest is in `folder`.
    """

    def __init__(self, folder: Path, capacity: int = 1 << 18):
        self._folder = folder
        each = max(1, capacity >> TABLES_LOG2)
        self._tables: list[array | FileSlots] = [
            array("Q", bytes(8 * each)) for _ in range(1 << TABLES_LOG2)
        ]
        self._counts = [0] * len(self._tables)

    def __len__(self) -> int:
        return sum(self._counts)

    @property
    def num_bytes(self) -> int:
        return sum(8 * len(slots) for slots in self._tables)

    def add(self, digest: int) -> bool:
        """Adds `digest`; True if it was not there before. Raises OSError, if the disk is full."""
        digest = digest or 1
        number = digest >> (64 - TABLES_LOG2)
        slots = self._tables[number]
        place = free_place(slots, digest)
        if place is None:
            return False
        slots[place] = digest
        self._counts[number] += 1
        if self._counts[number] > MAX_LOAD * len(slots):
            self._tables[number] = self._grown(slots)
        return True

    def _grown(self, slots: array | FileSlots) -> array | FileSlots:
        """Twice as many slots with the same digests."""
        larger = grown(slots if isinstance(slots, array) else slots.read())
        is_large = 8 * len(larger) > MEMORY_BYTES
        return FileSlots(self._folder, larger) if is_large else larger


def free_place(slots: array | FileSlots, digest: int) -> int | None:
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
