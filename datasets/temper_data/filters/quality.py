# SPDX-License-Identifier: Apache-2.0
"""Rules of quality in the manner of Gopher and C4. Each compares one measure with one threshold."""

import re

from .findings import FilterRefusal
from .options import QualityOptions
from .repetition import Grams, duplicate_shares
from .words import IDEOGRAPHS_PER_WORD, Words, is_bullet, is_elliptic, is_unended, share

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}  # Gopher's
LETTER = re.compile(r"[^\W\d_]")
TOP_GRAMS = (2, 3, 4)
DUPLICATE_GRAMS = (5, 6, 7, 8, 9, 10)
ANY_SHARE = 1.0


class QualityRules:
    """Refuses texts beyond the thresholds; measures only what some threshold asks for."""

    def __init__(self, options: QualityOptions):
        self.options = options
        self._is_idle = options == QualityOptions()
        self._forbidden = tuple(text.lower() for text in options.forbidden)

    def clean(self, text: str) -> tuple[str, int]:
        """The text without the lines that C4 removes, and how many there were."""
        if not self.options.removes_lines():
            return text, 0
        lines = text.split("\n")
        kept = [line for line in lines if not line.strip() or self._keeps(line)]
        return ("\n".join(kept), len(lines) - len(kept)) if len(kept) < len(lines) else (text, 0)

    def _keeps(self, line: str) -> bool:
        ended = not self.options.remove_unended_lines or not is_unended(line.rstrip())
        least = self.options.min_words_per_line
        return ended and (not least or Words(line).num_words >= least)

    def check(self, text: str) -> None:
        """Raises FilterRefusal. An empty text is refused, and named, like any other of its kind."""
        if self._is_idle or not text.strip():
            return
        words = Words(text)
        self._check_length(words)
        self._check_words(words)
        self._check_lines(words)
        self._check_grams(words)

    def _check_length(self, words: Words) -> None:
        options, text = self.options, words.text
        self._least("too few characters", len(text), options.min_characters, text)
        self._most("too many characters", len(text), options.max_characters, text)
        if options.min_words or options.max_words:
            self._least("too few words", words.num_words, options.min_words, text)
            self._most("too many words", words.num_words, options.max_words, text)
        if options.min_sentences:
            self._least("too few sentences", words.num_sentences, options.min_sentences, text)
        if self._forbidden:
            folded = text.lower()
            for found in self._forbidden:
                if found in folded:
                    raise FilterRefusal("forbidden text", f"holds {found!r}", text)

    def _check_words(self, words: Words) -> None:
        options, text = self.options, words.text
        if options.min_mean_word_length or options.max_mean_word_length:
            length = words.mean_word_length
            if length is not None:
                self._least("words too short", length, options.min_mean_word_length, text)
                self._most("words too long", length, options.max_mean_word_length, text)
        if options.max_symbols_per_word:
            symbols = text.count("#") + text.count("...") + text.count("…")
            ratio = symbols / max(1, words.num_words)
            self._most("too many symbols", ratio, options.max_symbols_per_word, text)
        if options.max_symbol_share < ANY_SHARE:
            self._most("too many symbols", words.symbol_share, options.max_symbol_share, text)
        if options.min_alphabetic_share:
            alphabetic = share(words.units, lambda unit: LETTER.search(unit) is not None)
            if not words.is_spaced:  # Each mark of punctuation is a unit, unlike in other scripts.
                alphabetic *= IDEOGRAPHS_PER_WORD
            self._least("words without letters", alphabetic, options.min_alphabetic_share, text)
        if options.min_stop_words:
            found = len(STOP_WORDS.intersection(text.lower().split()))
            self._least("too few stop words", found, options.min_stop_words, text)

    def _check_lines(self, words: Words) -> None:
        options, text = self.options, words.text
        for reason, most, is_such in (
            ("bullet lines", options.max_bullet_share, is_bullet),
            ("lines that end with an ellipsis", options.max_ellipsis_share, is_elliptic),
            ("lines that end without punctuation", options.max_unended_share, is_unended),
        ):
            if most < ANY_SHARE:
                self._most(reason, share(words.lines, is_such), most, text)
        limits = (options.max_duplicate_line_share, options.max_duplicate_line_characters)
        self._check_duplicates("repeated lines", words.lines, limits, text)
        limits = (options.max_duplicate_paragraph_share, options.max_duplicate_paragraph_characters)
        self._check_duplicates("repeated paragraphs", words.paragraphs, limits, text)

    def _check_duplicates(self, reason: str, parts: list[str], limits: tuple, text: str) -> None:
        if min(limits) == ANY_SHARE:
            return
        for found, most in zip(duplicate_shares(parts), limits, strict=True):
            self._most(reason, found, most, text)

    def _check_grams(self, words: Words) -> None:
        top = {n: getattr(self.options, f"max_top_{n}_gram") for n in TOP_GRAMS}
        again = {n: getattr(self.options, f"max_duplicate_{n}_grams") for n in DUPLICATE_GRAMS}
        if min(*top.values(), *again.values()) == ANY_SHARE:
            return
        grams = Grams(words.units)
        for n, most in top.items():
            if most < ANY_SHARE:
                found = grams.top_share(n * words.units_per_word)
                self._most(f"one {n}-gram repeated", found, most, words.text)
        for n, most in again.items():
            if most < ANY_SHARE:
                found = grams.duplicate_share(n * words.units_per_word)
                self._most("repeated n-grams", found, most, words.text, f"{n}-grams: ")

    def _least(self, reason: str, found: float, least: float, text: str) -> None:
        if least and found < least:
            raise FilterRefusal(reason, f"{found:.6g}, at least {least:g}", text)

    def _most(self, reason: str, found: float, most: float, text: str, what: str = "") -> None:
        if most and found > most:
            raise FilterRefusal(reason, f"{what}{found:.3g}, at most {most:g}", text)
