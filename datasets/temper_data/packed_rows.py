# SPDX-License-Identifier: Apache-2.0
"""How full rows of a batch will be, as the trainer packs documents (src/data/packing.h).

Only how many documents have which length matters, so memory does not grow with their number.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np

SEQUENCE_LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768)  # common ones


@dataclass(frozen=True)
class Fill:
    """What becomes of a set of documents in rows of `sequence_length` tokens."""

    sequence_length: int
    rows: int
    tokens: int  # in these rows
    cut: int  # documents that lose their end
    without_target: int  # of those the ones left out, since their targets are in what is lost

    @property
    def share(self) -> float:
        """Of the rows' places, those that hold a token."""
        return self.tokens / max(1, self.rows * self.sequence_length)


class Rooms:
    """Rows by the room that they have left: how many of each, and which rooms there are."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._ordered: list[int] = []

    def least(self, length: int) -> int | None:
        """The least room that fits, if any does."""
        place = bisect_left(self._ordered, length)
        return self._ordered[place] if place < len(self._ordered) else None

    def add(self, room: int, rows: int) -> None:
        if not rows or not room:
            return
        if room not in self._counts:
            insort(self._ordered, room)
        self._counts[room] = self._counts.get(room, 0) + rows
        if not self._counts[room]:
            del self._counts[room]
            del self._ordered[bisect_left(self._ordered, room)]

    def fill(self, room: int, length: int, documents: int) -> int:
        """Puts documents of one length into rows that have `room`; returns how many are left.

        A row that took one of them has the least room that still fits the next, so each row is
        filled before another is begun.
        """
        in_one, rows = room // length, self._counts[room]
        full = min(documents // in_one, rows)
        self.add(room, -full)
        self.add(room - in_one * length, full)
        rest = documents - full * in_one
        if not rest or full == rows:
            return rest
        self.add(room, -1)
        self.add(room - rest * length, 1)
        return 0


def count_rows(counts: np.ndarray, capacity: int) -> int:
    """Rows that best fit, the longest first, makes of `counts[length]` documents.

    Shapes: counts int64 [capacity + 1], counts[0] = 0.
    Source: best fit decreasing, as pack_best_fit. Which of equal documents or rows is taken does
    not change how many rows there are.
    """
    rooms, rows = Rooms(), 0
    for length in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[length])
        while left and (room := rooms.least(length)) is not None:
            left = rooms.fill(room, length, left)
        if left:
            opened = -(-left // (capacity // length))
            rooms.add(capacity, opened)
            rows += opened
            rooms.fill(capacity, length, left)
    return rows


class PackedRows:
    """Counts documents piece by piece, then says how they fill rows of one length."""

    def __init__(self, sequence_length: int):
        self.sequence_length = sequence_length
        self.cut = self.without_target = 0
        self._counts = np.zeros(sequence_length + 1, np.int64)

    def add(self, lengths: np.ndarray, first_targets: np.ndarray) -> None:
        """Shapes: lengths, and where in each document its first target is, int64 [documents]."""
        is_cut = lengths > self.sequence_length
        is_lost = is_cut & (first_targets >= self.sequence_length)
        self.cut += int(is_cut.sum())
        self.without_target += int(is_lost.sum())
        kept = np.minimum(lengths[~is_lost], self.sequence_length)
        self._counts += np.bincount(kept, minlength=self.sequence_length + 1)

    def packed(self) -> Fill:
        """For conversations: whole documents."""
        rows = count_rows(self._counts, self.sequence_length)
        tokens = int(self._counts @ np.arange(self.sequence_length + 1))
        return Fill(self.sequence_length, rows, tokens, self.cut, self.without_target)

    def sliced(self, num_tokens: int) -> Fill:
        """For text: the shard as one stream, cut wherever a row ends."""
        rows = -(-num_tokens // self.sequence_length)
        return Fill(self.sequence_length, rows, num_tokens, 0, 0)
