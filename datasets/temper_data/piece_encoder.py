# SPDX-License-Identifier: Apache-2.0
"""Encodes texts without doing again what was done before.

A tokenizer first cuts a text at its added tokens, and encodes each part between two of them by
itself. Many encode its words by themselves, too (word_cuts): each is encoded once, when it first
comes, and so is a part that many texts have. For the others the head of a text is remembered,
which ends where an added token begins: most conversations have the system message in common.
"""

import re
from bisect import bisect_left
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
MAX_SHARED = 1 << 12  # characters of a part that is taken for one, such as a system message
ID_BYTES = 4


class Tokens(Sequence):
    """The tokens of a text; as a sequence, the characters of each. They are read one by one, since
    a list of them takes as long to make as encoding does."""

    ids: np.ndarray  # uint32 [n]

    def __len__(self) -> int:
        return len(self.ids)

    def near(self, place: int) -> tuple[int, Sequence[Span]]:
        """Some tokens in a row, by the number of the first and the characters of each: all before
        them begin and end before character `place`, all behind them begin there or behind and end
        behind it."""
        return 0, self


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
    """What `make` returns of a text, made when it is first wanted. Not kept of long ones, but for
    those among `long`."""

    def __init__(self, make: Callable[[str], Any], long: set[str]):
        super().__init__()
        self._make, self._long = make, long

    def __missing__(self, text: str) -> Any:
        made = self._make(text)
        if len(text) <= MAX_WORD or text in self._long:
            if len(self) == MAX_WORDS:
                self.clear()
            self[text] = made
        return made


class TokensOfWords(Tokens):
    """Of words end to end. `ids` has the ids of a word, uint32 as bytes, `spans` its characters.

    The words come in parts, of which `firsts` has the number of each one's first word. One word is
    at hand: who asks of one place asks of those beside it next.
    """

    def __init__(
        self, parts: list[str], firsts: list[int], words: list[str], ids: Remembered,
        spans: Remembered,
    ):  # fmt: skip
        self._parts, self._firsts, self._words, self._spans = parts, firsts, words, spans
        self._ids = list(map(ids.__getitem__, words))
        self.ids = np.frombuffer(b"".join(self._ids), np.uint32)
        self._word = self._character = self._byte = 0  # at hand, and where it begins
        self._part_ends: list[int] | None = None  # in characters

    def near(self, place: int) -> tuple[int, Sequence[Span]]:
        """Those of the word that it ends, or stands in."""
        self._go_to(place)
        first, shift = self._byte // ID_BYTES, self._character
        if place <= shift:  # At the beginning of the text.
            return first, []
        spans = self._spans[self._words[self._word]]
        return first, [(begin + shift, end + shift) for begin, end in spans]

    def __getitem__(self, number: int) -> Span:
        place = number * ID_BYTES
        if place >= self.ids.nbytes:
            raise IndexError(number)
        while place < self._byte:
            self._step(self._word - 1)
        while place >= self._byte + len(self._ids[self._word]):
            self._step(self._word + 1)
        within = (place - self._byte) // ID_BYTES
        begin, end = self._spans[self._words[self._word]][within]
        return begin + self._character, end + self._character

    def _step(self, word: int) -> None:
        """To a word beside the one at hand."""
        sign, passed = (1, self._word) if word > self._word else (-1, word)
        self._character += sign * len(self._words[passed])
        self._byte += sign * len(self._ids[passed])
        self._word = word

    def _go_to(self, place: int) -> None:
        """To the first word that ends at character `place` or behind it."""
        if self._part_ends is None:
            self._part_ends = list(accumulate(map(len, self._parts)))
        part = bisect_left(self._part_ends, place)
        word, begin = self._firsts[part], self._part_ends[part - 1] if part else 0
        while word < len(self._words) and begin + len(self._words[word]) < place:
            word, begin = word + 1, begin + len(self._words[word])
        low, high = sorted((self._word, word))
        passed = sum(map(len, self._ids[low:high]))
        self._byte += passed if word > self._word else -passed
        self._word, self._character = word, begin


class PieceEncoder:
    """Equal to encoding each text at once, whatever the tokenizer."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._mark = find_marks(tokenizer)
        self._cuts = find_cuts(tokenizer) if self._mark else None
        self._shared: set[str] = set()  # parts that follow each other in many texts
        self._before: list[str] = []  # parts of the text before
        self._ids = Remembered(self._ids_of, self._shared)
        self._spans = Remembered(lambda word: self._ask(word).offsets, self._shared)
        self._heads: dict[str, tuple[list[int], list[Span]]] = {}

    def encode(self, text: str) -> Tokens:
        """Raises RecordRefusal on lone surrogates."""
        if not is_unicode(text):
            raise RecordRefusal(NO_UNICODE, HALF_PAIR)
        if self._cuts:
            return TokensOfWords(*self._cut(text), self._ids, self._spans)
        cut = self._end_of_head(text)
        ids, spans = self._encode_head(text[:cut]) if cut else ([], [])
        rest = self._ask(text[cut:])
        return TokensOfHeadAndRest(ids + rest.ids, spans, rest, cut)

    def _ask(self, text: str):
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _ids_of(self, word: str) -> bytes:
        return np.array(self._ask(word).ids, np.uint32).tobytes()

    def _cut(self, text: str) -> tuple[list[str], list[int], list[str]]:
        """The added tokens of a text and the parts between them; the number of each one's first
        word; and the words."""
        parts, firsts, words = self._mark.split(text), [], []
        for number, part in enumerate(parts):  # Each other part is a mark.
            firsts.append(len(words))
            if number % 2 or part in self._ids or self._is_shared(number, part):
                words.append(part)
            else:
                words += self._cuts.findall(part)
        self._before = parts
        return parts, firsts, words

    def _is_shared(self, number: int, part: str) -> bool:
        """Whether a part, which the text before had in the same place, is taken for one word."""
        if number >= len(self._before) or part != self._before[number]:
            return False
        if not 0 < len(part) <= MAX_SHARED:
            return False
        if len(self._shared) < MAX_HEADS:
            self._shared.add(part)
        return part in self._shared

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
