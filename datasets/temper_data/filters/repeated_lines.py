# SPDX-License-Identifier: Apache-2.0
"""Takes lines out of texts that stand in many documents of a source: menus, footers, notices."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .answers import weight
from .options import RepeatedLineOptions
from .repair import has_code_lines

FENCE = re.compile(r"[ \t]*(?:```|~~~)")  # begins and ends a block of code in Markdown


@dataclass(frozen=True)
class Line:
    """A line of a text that is removed where many documents have it."""

    number: int  # in its text, from 0
    digest: int  # 64 bits of source and words


@dataclass(frozen=True)
class LineTable:
    """The lines that many documents have. Memory: 12 bytes for each."""

    digests: np.ndarray  # uint64 [lines], ascending
    documents: np.ndarray  # uint32 [lines]: that have it

    def counts(self, digests: list[int]) -> list[int]:
        """How many documents have each of these lines, 0 for those that few have."""
        wanted = np.array(digests, np.uint64)
        if not len(self.digests) or not len(wanted):
            return [0] * len(wanted)
        places = np.minimum(np.searchsorted(self.digests, wanted), len(self.digests) - 1)
        return np.where(self.digests[places] == wanted, self.documents[places], 0).tolist()


@dataclass
class Stripped:
    """A text without the lines that many documents have."""

    text: str
    lines: dict[str, int]  # what was removed, and how many documents have it
    changes: int  # lines removed


class RepeatedLines:
    """Knows which lines of a text count, and with a table which of them go."""

    def __init__(self, options: RepeatedLineOptions, table: LineTable | None = None):
        self.options, self.table = options, table

    def of(self, text: str, source: str) -> list[Line]:
        """The lines that may go: those outside of code that are long enough to say something.

        White space at a line's ends does not count, and within it as one blank.
        """
        lines = list(lines_of_prose(text))
        if has_code_lines([line for _, line in lines]):
            return []
        begin = hashlib.blake2b(f"{source}\0".encode("utf-8", "surrogateescape"), digest_size=8)
        found = []
        for number, line in lines:
            words = " ".join(line.split())
            if not words or weight(words) < self.options.min_letters:
                continue
            digest = begin.copy()
            digest.update(words.encode("utf-8", "surrogatepass"))
            found.append(Line(number, int.from_bytes(digest.digest(), "little")))
        return found

    def strip(self, text: str, source: str) -> Stripped | None:
        """None if the text stays as it is: it has no such line, or hardly any other.

        The latter is a copy of other documents, of which near duplicates are to decide.
        """
        found = self.of(text, source)
        counts = self.table.counts([line.digest for line in found])
        repeated = {line.number: n for line, n in zip(found, counts, strict=True) if n}
        if not repeated:
            return None
        lines = text.split("\n")
        gone = sum(len(lines[number].strip()) for number in repeated)
        if gone > self.options.max_removed_share * sum(len(line.strip()) for line in lines):
            return None
        removed = {" ".join(lines[number].split()): n for number, n in repeated.items()}
        return Stripped(without(lines, set(repeated)), removed, len(repeated))


def lines_of_prose(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, but for those between fences of code, and the fences."""
    is_code = False
    for number, line in enumerate(text.split("\n")):
        if FENCE.match(line):
            is_code = not is_code
        elif not is_code:
            yield number, line


def without(lines: list[str], removed: set[int]) -> str:
    """The other lines. Where some went, the blank lines around them become one; none is left in
    front of the text or behind it."""
    kept: list[str] = []
    after_gap = False
    for number, line in enumerate(lines):
        if number in removed:
            after_gap = True
            continue
        is_blank = not line.strip()
        if after_gap and is_blank and (not kept or not kept[-1].strip()):
            continue
        kept.append(line)
        after_gap = after_gap and is_blank
    while after_gap and kept and not kept[-1].strip():
        kept.pop()
    return "\n".join(kept) + "\n" * (not lines[-1] and bool(kept) and after_gap)
