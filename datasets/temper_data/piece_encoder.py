# SPDX-License-Identifier: Apache-2.0
"""Encodes texts without doing again what was done before.

A tokenizer first cuts a text at its added tokens, and encodes each part between two of them by
itself. Many encode its words by themselves, too (word_cuts): each is encoded once, when it first
comes. For the others the head of a text is remembered, which ends where an added token begins:
most conversations of a data set have the system message in common.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, islice
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from .errors import RecordRefusal, is_unicode
from .model_tokenizer import HALF_PAIR, NO_UNICODE
from .word_cuts import find_cuts

Span = tuple[int, int]  # Characters [begin, end).

MAX_HEADS = 64  # remembered at a time
MAX_HEAD = 1 << 16  # characters of one
MARKS_OF_HEAD = 2  # Added tokens of a system message: what opens it, and what closes it.
MAX_WORDS = 1 << 17  # remembered at a time, at about 250 bytes
MAX_WORD = 64  # characters of one; longer ones seldom come again
ID_BYTES = 4


class Tokens(Sequence):
    """The tokens of a text; as a sequence, the characters of each. They are read one by one, since
    a list of them takes as long to make as encoding does."""

    ids: np.ndarray  # uint32 [n]

    def __len__(self) -> int:
        return len(self.ids)

    def near(self, place: int) -> Span:
        """Tokens [begin, end), beyond which all begin and end before character `place`, or begin
        there or behind and end behind it."""
        return 0, len(self.ids)


class TokensOfHeadAndRest(Tokens):
    def __init__(self, ids: list[int], head: list[Span], rest=None, shift: int = 0):
        self.ids = np.array(ids, np.uint32)
        self._head, self._rest, self._shift = head, rest, shift

    def __getitem__(self, number: int) -> Span:
        if number < len(self._head):
            return self._head[number]
        if number >= len(self.ids):
            raise IndexError(number)
        begin, end = self._rest.token_to_chars(number - len(self._head))
        return begin + self._shift, end + self._shift


class Remembered(dict):
    """What `make` returns of a text, made when it is first wanted."""

    def __init__(self, make: Callable[[str], Any]):
        super().__init__()
        self._make = make

    def __missing__(self, text: str) -> Any:
        made = self._make(text)
        if len(text) <= MAX_WORD:
            if len(self) == MAX_WORDS:
                self.clear()
            self[text] = made
        return made


class TokensOfWords(Tokens):
    """Of words end to end. `ids` has the ids of a word, uint32 as bytes, `spans` its characters."""

    def __init__(self, words: list[str], ids: Remembered, spans: Remembered):
        self._words, self._spans = words, spans
        self._ids = list(map(ids.__getitem__, words))
        self.ids = np.frombuffer(b"".join(self._ids), np.uint32)
        self._ends: tuple[list[int], list[int]] | None = None

    def _find_ends(self) -> tuple[list[int], list[int]]:
        """Where each word ends: in characters, and in bytes of ids."""
        if self._ends is None:
            ends, id_ends = accumulate(map(len, self._words)), accumulate(map(len, self._ids))
            self._ends = list(ends), list(id_ends)
        return self._ends

    def __getitem__(self, number: int) -> Span:
        ends, id_ends = self._find_ends()
        place = bisect_right(id_ends, number * ID_BYTES)
        word = self._words[place]  # Raises IndexError.
        first = id_ends[place] - len(self._ids[place])
        begin, end = self._spans[word][number - first // ID_BYTES]
        shift = ends[place] - len(word)
        return begin + shift, end + shift

    def near(self, place: int) -> Span:
        """Those of the words that touch it."""
        ends, id_ends = self._find_ends()
        first, last = bisect_left(ends, place), bisect_right(ends, place)
        begin = id_ends[first - 1] // ID_BYTES if first else 0
        end = id_ends[last] // ID_BYTES if last < len(ends) else len(self.ids)
        return begin, end


class PieceEncoder:
    """Equal to encoding each text at once, whatever the tokenizer."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._mark = find_marks(tokenizer)
        self._cuts = find_cuts(tokenizer) if self._mark else None
        self._ids = Remembered(lambda word: np.array(self._ask(word).ids, np.uint32).tobytes())
        self._spans = Remembered(lambda word: self._ask(word).offsets)
        self._heads: dict[str, tuple[list[int], list[Span]]] = {}

    def encode(self, text: str) -> Tokens:
        """Raises RecordRefusal on lone surrogates."""
        if not is_unicode(text):
            raise RecordRefusal(NO_UNICODE, HALF_PAIR)
        if self._cuts:
            return TokensOfWords(self._cut(text), self._ids, self._spans)
        cut = self._end_of_head(text)
        ids, spans = self._encode_head(text[:cut]) if cut else ([], [])
        rest = self._ask(text[cut:])
        return TokensOfHeadAndRest(ids + rest.ids, spans, rest, cut)

    def _ask(self, text: str):
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _cut(self, text: str) -> list[str]:
        """The words and the added tokens of a text."""
        words = []
        for number, part in enumerate(self._mark.split(text)):  # Each other part is a mark.
            if number % 2 or part in self._ids:
                words.append(part)
            else:
                words += self._cuts.findall(part)
        return words

    def _end_of_head(self, text: str) -> int:
        """Where the head ends, which may be nothing."""
        if self._mark is None:
            return 0
        third = next(islice(self._mark.finditer(text), MARKS_OF_HEAD, None), None)
        return third.start() if third and third.start() <= MAX_HEAD else 0

    def _encode_head(self, head: str) -> tuple[list[int], list[Span]]:
        known = self._heads.get(head)
        if known is None:
            encoding = self._ask(head)
            known = encoding.ids, encoding.offsets
            if len(self._heads) == MAX_HEADS:
                self._heads.clear()
            self._heads[head] = known
        return known


def find_marks(tokenizer: Tokenizer) -> re.Pattern | None:
    """What finds added tokens as the tokenizer does, the longest of the leftmost.

    None where it cuts in another way: at tokens that look at their neighbours, or that are sought
    in the text as it is after normalisation.
    """
    added = tokenizer.get_added_tokens_decoder().values()
    if not added or not all(token.content for token in added):
        return None
    if any(token.lstrip or token.rstrip or token.single_word for token in added):
        return None
    # Those that are sought after normalisation come after the others, even if there is none.
    kinds = {token.normalized for token in added}
    if len(kinds) > 1 or kinds == {True} and tokenizer.normalizer is not None:
        return None
    longest = sorted((token.content for token in added), key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest))})")
