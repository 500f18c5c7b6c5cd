# SPDX-License-Identifier: Apache-2.0
"""Finds documents with equal tokens, of which the first stays, and shows those with most copies."""

from dataclasses import dataclass, field

import numpy as np

from .beginnings import SHOWN_TOKENS, beginning
from .digest_set import DigestSet
from .documents import Prepared
from .model_tokenizer import ModelTokenizer

DUPLICATE = "duplicate"
MAX_FOLLOWED = 1 << 14  # documents whose copies are counted, the first ones: some 8 MiB; arbitrary
MAX_CLUSTERS = 20  # in the report, the largest first
MAX_PLACES = 3  # of each of them


@dataclass
class Copies:
    """Of one document."""

    tokens: list[int]  # the first ones
    count: int = 0
    places: list[str] = field(default_factory=list)


class ExactCopies:
    """Looks at all documents in their order. Memory: that of DigestSet, and of what is shown."""

    def __init__(self, model: ModelTokenizer):
        self.model, self.num_copies = model, 0
        self._seen = DigestSet()
        self._followed: dict[int, Copies] = {}  # by digest

    def fresh(self, prepared: Prepared) -> np.ndarray:
        """Which documents of a batch are no copies. Shapes: result bool [documents]."""
        fresh = np.array([self._seen.add(digest) for digest in prepared.digests], bool)
        copies = np.flatnonzero(~fresh)
        begins = np.cumsum(prepared.lengths) - prepared.lengths
        for number in copies.tolist():
            self._follow(prepared, number, int(begins[number]))
        self.num_copies += len(copies)
        return fresh

    def _follow(self, prepared: Prepared, number: int, begin: int) -> None:
        digest = prepared.digests[number]
        if digest not in self._followed:
            if len(self._followed) == MAX_FOLLOWED:
                return
            shown = min(SHOWN_TOKENS, int(prepared.lengths[number]))
            self._followed[digest] = Copies(prepared.tokens[begin : begin + shown].tolist())
        found = self._followed[digest]
        found.count += 1
        if len(found.places) < MAX_PLACES:
            found.places.append(prepared.place(number))

    def examples(self) -> list[str]:
        """Places of the first copies, each with the document's beginning."""
        return [
            f"{found.places[0]}: copy of one before: {beginning(found.tokens, self.model)}"
            for found in self._followed.values()
        ]

    def report(self) -> dict:
        """The documents with most copies. The first of each stays, at a place before these."""
        largest = sorted(self._followed.values(), key=lambda found: -found.count)[:MAX_CLUSTERS]
        clusters = [
            {
                "size": found.count + 1,
                "copies": found.places,
                "text": beginning(found.tokens, self.model),
            }
            for found in largest
        ]
        return {
            "copies": self.num_copies,
            "documents_followed": len(self._followed),
            "clusters": clusters,
        }
