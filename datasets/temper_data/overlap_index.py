# SPDX-License-Identifier: Apache-2.0
"""Finds where documents repeat texts that they should not hold, by runs of units."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .text_units import UNSPACED_BIT, mix, windows

NEAR_UNITS = 64  # A short answer belongs to its question if it begins this close behind it.
MIN_WHOLE_UNITS = 4  # Of question and answer together; less is found anywhere.
MIN_LONE_UNITS = 8  # of a short text that comes without an answer
FILTER_BITS = 22  # Most windows are in no evaluation set, which a table of 4 MiB tells at once.


@dataclass(frozen=True)
class Lengths:
    """How many units in a row count as an overlap."""

    words: int
    characters: int  # where at least half of the units are characters of a script without spaces


@dataclass
class Overlap:
    """A run of units of a document that an entry of the index has as well."""

    document: int
    entry: int
    window: int  # the run's hash
    length: int  # of the run, in units


def long_runs(units: np.ndarray, lengths: Lengths) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Length, places and hashes of the runs of words, then of those of characters."""
    unspaced = np.concatenate([[0], np.cumsum(units >= UNSPACED_BIT, dtype=np.int64)])
    for length, of_characters in ((lengths.words, False), (lengths.characters, True)):
        if len(units) < length:
            continue
        count = unspaced[length:] - unspaced[:-length]
        places = np.flatnonzero((2 * count >= length) == of_characters)
        if len(places):
            yield length, places, windows(units, length)[places]


def runs_inside(
    units: np.ndarray, owners: np.ndarray, lengths: Lengths
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """As `long_runs`, without those that reach into the next document."""
    for length, places, hashes in long_runs(units, lengths):
        inside = owners[places] == owners[places + length - 1]
        yield length, places[inside], hashes[inside]


@dataclass
class Table:
    """Hashes and the entry that each is of. Memory: 16 bytes per hash and 4 MiB."""

    hashes: np.ndarray  # uint64, ascending
    entries: np.ndarray  # int64

    def __post_init__(self) -> None:
        self._filter = np.zeros(1 << FILTER_BITS, bool)
        self._filter[self._bits(self.hashes)] = True

    def _bits(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes >> np.uint64(64 - FILTER_BITS)).astype(np.int64)

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of `hashes` are here, as their numbers, and the rows of this table."""
        maybe = np.flatnonzero(self._filter[self._bits(hashes)])
        if not len(maybe) or not len(self.hashes):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        places = np.searchsorted(self.hashes, hashes[maybe])
        places[places == len(self.hashes)] = 0
        hit = self.hashes[places] == hashes[maybe]
        return maybe[hit], places[hit]


@dataclass
class Whole:
    """A text shorter than a run, which is looked for whole, and answers that go with it."""

    entry: int
    question: np.ndarray  # uint32 units
    answers: list[np.ndarray] = field(default_factory=list)

    def can_be_found(self) -> bool:
        if not self.answers:
            return len(self.question) >= MIN_LONE_UNITS
        shortest = min(len(answer) for answer in self.answers)
        return len(self.question) + shortest >= MIN_WHOLE_UNITS

    def is_at(self, units: np.ndarray, place: int) -> bool:
        """Whether an answer stands behind the question, which is at `place`."""
        behind = units[place + len(self.question) :]
        return not self.answers or any(holds(behind, answer) for answer in self.answers)


def holds(units: np.ndarray, answer: np.ndarray) -> bool:
    """Whether `answer` begins within the first NEAR_UNITS of `units`."""
    near = units[: NEAR_UNITS + len(answer)]
    if len(near) < len(answer):
        return False
    rows = np.lib.stride_tricks.sliding_window_view(near, len(answer))
    return bool((rows == answer).all(axis=1).any())


class OverlapIndex:
    """What to look for. Build it by `add_runs` and `add_whole`, then `finish`."""

    def __init__(self, lengths: Lengths):
        self.lengths = lengths
        self.common = 0  # runs left out, see finish
        self._hashes: list[np.ndarray] = []
        self._entries: list[np.ndarray] = []
        self._wholes: dict[int, dict[int, list[Whole]]] = {}  # length to hash to texts

    def add_runs(self, units: np.ndarray, entry: int) -> int:
        """Adds the long runs of a text and returns how many it has."""
        found = [mix(hashes + np.uint64(length)) for length, _, hashes in
                 long_runs(units, self.lengths)]  # fmt: skip
        if not found:
            return 0
        distinct = np.unique(np.concatenate(found))
        self._hashes.append(distinct)
        self._entries.append(np.full(len(distinct), entry, np.int64))
        return len(distinct)

    def add_whole(self, whole: Whole) -> None:
        length = len(whole.question)
        window = int(windows(whole.question, length)[0])
        self._wholes.setdefault(length, {}).setdefault(window, []).append(whole)

    def finish(self, most_entries: int | None = None) -> "OverlapIndex":
        """Sorts. Runs of more than `most_entries` entries are left out: they are a set phrase."""
        empty = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        hashes = np.concatenate([empty[0], *self._hashes])
        entries = np.concatenate([empty[1], *self._entries])
        self._hashes, self._entries = [], []
        distinct, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        kept = counts <= most_entries if most_entries else np.ones(len(counts), bool)
        self.common = int((~kept).sum())
        self.table = Table(distinct[kept], entries[first[kept]])
        return self

    def find(self, units: np.ndarray, owners: np.ndarray) -> list[Overlap]:
        """The first overlap of each document that has one.

        Shapes: units [n] of several documents end to end; owners [n], the document of each.
        """
        found: dict[int, Overlap] = {}
        for length, places, hashes in runs_inside(units, owners, self.lengths):
            numbers, rows = self.table.find(mix(hashes + np.uint64(length)))
            for number, row in zip(numbers.tolist(), rows.tolist(), strict=True):
                owner = int(owners[places[number]])
                if owner not in found:
                    entry = int(self.table.entries[row])
                    found[owner] = Overlap(owner, entry, int(hashes[number]), length)
        for length, texts in self._wholes.items():
            self._find_wholes(units, owners, length, texts, found)
        return [found[owner] for owner in sorted(found)]

    def count(self, units: np.ndarray, owners: np.ndarray) -> np.ndarray:
        """In how many of the documents each run is. Shapes: as `find`; result [runs]."""
        counts = np.zeros(len(self.table.hashes), np.int64)
        for length, places, hashes in runs_inside(units, owners, self.lengths):
            numbers, rows = self.table.find(mix(hashes + np.uint64(length)))
            pairs = np.unique(np.stack([owners[places[numbers]], rows]), axis=1)
            counts += np.bincount(pairs[1], minlength=len(counts))
        return counts

    def leave_out(self, rows: np.ndarray) -> None:
        """Shapes: rows bool [runs]."""
        self.common += int(rows.sum())
        self.table = Table(self.table.hashes[~rows], self.table.entries[~rows])

    def _find_wholes(self, units, owners, length: int, texts: dict, found: dict) -> None:
        hashes = windows(units, length)
        wanted = np.array(sorted(texts), np.uint64)
        for place in np.flatnonzero(np.isin(hashes, wanted)).tolist():
            owner = int(owners[place])
            if owner in found or owner != owners[place + length - 1]:
                continue
            end = int(np.searchsorted(owners, owner, "right"))
            window = int(hashes[place])
            for whole in texts[window]:
                if whole.is_at(units[:end], place):
                    found[owner] = Overlap(owner, whole.entry, window, length)
                    break
