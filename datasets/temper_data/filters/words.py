# SPDX-License-Identifier: Apache-2.0
"""Cuts texts into words where spaces separate them, and into characters where none do."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from unicodedata import category

# Scripts without spaces between words: kana, ideographs; Thai, Lao, Burmese, Khmer.
IDEOGRAPHIC = "\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
IDEOGRAPHIC += "\U00020000-\U0003ffff"
SYLLABIC = "\u0e01-\u0e5b\u0e81-\u0edf\u1000-\u109f\u1780-\u17ff"
UNSPACED = re.compile(f"[{IDEOGRAPHIC}{SYLLABIC}]")
UNITS = re.compile(f"[{IDEOGRAPHIC}{SYLLABIC}]|[^\\s{IDEOGRAPHIC}{SYLLABIC}]+")
HANGUL = re.compile("[\uac00-\ud7a3]")
# Characters of a word, about: Chinese and Japanese words have about two, Thai ones about four.
IDEOGRAPHS_PER_WORD = 2
LETTERS_PER_HANGUL = 2  # A syllable has two or three letters.
ENDS = ".!?\"'”’…。！？」』）】》.؟۔।॥։።)]:;;｡»”*`~>|"
SENTENCE_END = re.compile(r"[.!?](?=\s|[\"'”’)]|\Z)|[。！？｡؟۔।॥։።]")
# Thai, Lao and Khmer end sentences with a blank alone.
SYLLABIC_GAP = re.compile(f"[{SYLLABIC}](?=\\s|\\Z)")
BULLETS = ("•", "‣", "▶", "◀", "◦", "■", "□", "▪", "▫", "–", "- ", "* ", "·")
ELLIPSES = ("...", "…", "……", "。。。")


@lru_cache(maxsize=1 << 16)
def kind_of(character: str) -> str:
    """The first letter of a character's category in Unicode."""
    return category(character)[0]


@dataclass
class Words:
    """What the rules of quality measure of one text, each only when asked for."""

    text: str

    @cached_property
    def is_spaced(self) -> bool:
        """Whether most of the text stands in scripts that put spaces between words."""
        if self.text.isascii():
            return True
        letters = sum(n for c, n in self._kinds.items() if kind_of(c) in "LM")
        unspaced = sum(n for c, n in self._kinds.items() if UNSPACED.match(c))
        return 2 * unspaced <= letters

    @cached_property
    def _kinds(self) -> Counter:
        return Counter(self.text)

    @cached_property
    def units(self) -> list[str]:
        """Words; in scripts without spaces, characters, with the words of others among them."""
        return self.text.split() if self.is_spaced else UNITS.findall(self.text)

    @property
    def units_per_word(self) -> int:
        return 1 if self.is_spaced else IDEOGRAPHS_PER_WORD

    @property
    def num_words(self) -> float:
        return len(self.units) / self.units_per_word

    @cached_property
    def mean_word_length(self) -> float | None:
        """In letters; None where spaces do not separate words."""
        if not self.is_spaced or not self.units:
            return None
        length = sum(map(len, self.units))
        if not self.text.isascii():
            hangul = sum(n for c, n in self._kinds.items() if HANGUL.match(c))
            length += (LETTERS_PER_HANGUL - 1) * hangul
        return length / len(self.units)

    @cached_property
    def symbol_share(self) -> float:
        """Of the characters that are no white space: those that are no letter, digit or mark."""
        shown = {c: n for c, n in self._kinds.items() if not c.isspace()}
        symbols = sum(n for c, n in shown.items() if kind_of(c) not in "LMN")
        return symbols / max(1, sum(shown.values()))

    @cached_property
    def lines(self) -> list[str]:
        return [line.strip() for line in self.text.split("\n") if line.strip()]

    @cached_property
    def paragraphs(self) -> list[str]:
        """What stands between blank lines."""
        found = (part.strip() for part in re.split(r"\n[ \t\r]*\n", self.text))
        return [part for part in found if part]

    @cached_property
    def num_sentences(self) -> int:
        found = len(SENTENCE_END.findall(self.text))
        return found if self.text.isascii() else found + len(SYLLABIC_GAP.findall(self.text))


def share(lines: list[str], is_such) -> float:
    return sum(map(is_such, lines)) / max(1, len(lines))


def is_bullet(line: str) -> bool:
    return line.startswith(BULLETS)


def is_elliptic(line: str) -> bool:
    return line.endswith(ELLIPSES)


def is_unended(line: str) -> bool:
    return line[-1] not in ENDS and not SYLLABIC_GAP.match(line[-1])
