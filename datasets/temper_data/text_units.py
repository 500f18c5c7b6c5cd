# SPDX-License-Identifier: Apache-2.0
"""Text as a row of units that can be compared: words, or characters where words have no spaces.

Capitals, width, white space and punctuation do not count. Signs of arithmetic do: a question that
differs in a plus is another question. Each unit is 32 bits, the same on every machine.
"""

import re
import unicodedata
import zlib
from itertools import chain

import numpy as np

UNSPACED_BIT = 1 << 31  # set in units that are one character of a script without spaces
MAX_CACHED_WORDS = 1 << 18
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, from the golden ratio
# Thai, Lao, Burmese and Khmer; kana; Chinese characters with their extensions.
UNSPACED = (
    "\u0e01-\u0e2e\u0e30-\u0e4e\u0e81-\u0eae\u0eb0-\u0ece\u1000-\u109f\u1780-\u17d3"
    "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)


def ranges_of_marks() -> str:
    """The accents and vowel signs, which Python's \\w leaves out, as ranges of a pattern."""
    points = chain(range(0x20000), range(0xE0000, 0xE0200))  # Between lie ideographs alone.
    marks = [c for c in points if unicodedata.category(chr(c))[0] == "M"]
    starts = [c for c, before in zip(marks, [-2, *marks], strict=False) if c != before + 1]
    ends = [c for c, after in zip(marks, [*marks[1:], -2], strict=True) if after != c + 1]
    pairs = zip(starts, ends, strict=True)
    return "".join(f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b in pairs)


WORD_CHARACTER = rf"(?:(?![{UNSPACED}])[\w{ranges_of_marks()}])"
UNIT = re.compile(rf"[{UNSPACED}]|{WORD_CHARACTER}+|[+*/=<>^%&|~$#]|-(?=\s*\d)")
ASCII_UNIT = re.compile(r"[a-z0-9_]+|[+*/=<>^%&|~$#]|-(?=\s*\d)")  # The same, ten times as fast.


class WordHashes(dict):
    """CRC-32 of words, which costs less to remember than to compute."""

    def __missing__(self, unit: str) -> int:
        if len(unit) == 1 and unit > "\u0e00" and re.match(f"[{UNSPACED}]", unit):
            value = ord(unit) | UNSPACED_BIT
        else:
            value = zlib.crc32(unit.encode("utf-8", "surrogatepass")) & ~UNSPACED_BIT
        if len(self) >= MAX_CACHED_WORDS:
            self.clear()
        self[unit] = value
        return value


HASHES = WordHashes()


def normalise(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def pattern_for(text: str) -> re.Pattern:
    return ASCII_UNIT if text.isascii() else UNIT


def units_of(text: str) -> np.ndarray:
    """The units of `text`; one for the whole where it has none. Shapes: uint32 [units >= 1]."""
    plain = normalise(text)
    found = list(map(HASHES.__getitem__, pattern_for(plain).findall(plain)))
    if not found:
        found = [zlib.crc32(" ".join(plain.split()).encode("utf-8", "surrogatepass"))]
        found[0] &= ~UNSPACED_BIT
    return np.array(found, np.uint32)


def text_at(text: str, begin: int, end: int) -> str:
    """What stands in `text`, normalised, from unit `begin` to the one before `end`."""
    plain = normalise(text)
    spans = [match.span() for match in pattern_for(plain).finditer(plain)]
    return plain[spans[begin][0] : spans[end - 1][1]]


def mix(values: np.ndarray) -> np.ndarray:
    """Spreads each bit of uint64 over all. Source: splitmix64, Steele et al. 2014."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def windows(units: np.ndarray, length: int) -> np.ndarray:
    """A 64-bit hash of each run of `length` units. Shapes: uint64 [units - length + 1]."""
    count = len(units) - length + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    values = mix(units.astype(np.uint64) + np.uint64(1))
    total = np.full(count, length, np.uint64)
    for begin in range(length):
        total = total * FACTOR + values[begin : begin + count]
    return mix(total)


def shingles(units: np.ndarray, length: int) -> np.ndarray:
    """The set of `windows`, sorted; of the whole text where it is shorter than one."""
    return np.unique(windows(units, min(length, len(units))))
