# SPDX-License-Identifier: Apache-2.0
"""Encodes rendered conversations without doing again what many of them begin with.

A tokenizer first cuts a text at its added tokens, and encodes each part between two of them by
itself. So the tokens of a text are those of its head, which ends where an added token begins, and
those of its rest. Most conversations of a data set have the head in common: the system message.
"""

import re
from collections.abc import Sequence
from itertools import islice

from tokenizers import Tokenizer

from .model_tokenizer import encode

Span = tuple[int, int]  # Characters [begin, end).

MAX_HEADS = 64  # remembered at a time
MAX_HEAD = 1 << 16  # characters of one
MARKS_OF_HEAD = 2  # Added tokens of a system message: what opens it, and what closes it.


class Tokens(Sequence):
    """The tokens of a text; as a sequence, the characters of each. They are read one by one, since
    a list of them takes as long to make as encoding does."""

    def __init__(self, ids: list[int], head: list[Span], rest, shift: int):
        self.ids = ids
        self._head, self._rest, self._shift = head, rest, shift

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> Span:
        if number < len(self._head):
            return self._head[number]
        if number >= len(self.ids):
            raise IndexError(number)
        begin, end = self._rest.token_to_chars(number - len(self._head))
        return begin + self._shift, end + self._shift


class PieceEncoder:
    """Equal to encoding each text at once, whatever the tokenizer."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._mark = find_marks(tokenizer)
        self._heads: dict[str, tuple[list[int], list[Span]]] = {}

    def encode(self, text: str) -> Tokens:
        """Raises RecordRefusal."""
        cut = self._end_of_head(text)
        ids, spans = self._encode_head(text[:cut]) if cut else ([], [])
        rest = encode(self._tokenizer, text[cut:])
        return Tokens(ids + rest.ids, spans, rest, cut)

    def _end_of_head(self, text: str) -> int:
        """Where the head ends, which may be nothing."""
        if self._mark is None:
            return 0
        third = next(islice(self._mark.finditer(text), MARKS_OF_HEAD, None), None)
        return third.start() if third and third.start() <= MAX_HEAD else 0

    def _encode_head(self, head: str) -> tuple[list[int], list[Span]]:
        known = self._heads.get(head)
        if known is None:
            encoding = encode(self._tokenizer, head)
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
    if not all(token.content for token in added):
        return None
    if not added or any(t.normalized or t.lstrip or t.rstrip or t.single_word for t in added):
        return None
    longest = sorted((token.content for token in added), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest)))
