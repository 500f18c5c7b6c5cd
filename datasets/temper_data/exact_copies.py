# SPDX-License-Identifier: Apache-2.0
"""Finds documents with equal tokens, of which the first stays, and shows those with most copies."""

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from .beginnings import SHOWN_TOKENS, beginning
from .digest_set import DigestSet
from .document_places import DocumentPlaces
from .documents import MAX_EXAMPLES, Prepared
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
    """Looks at all documents in their order. Memory: that of DigestSet, and of what is shown.

    Use as a context manager: leaving it removes a temporary file in `folder`.
    """

    def __init__(self, model: ModelTokenizer, folder: Path):
        self.model, self.folder, self.num_copies = model, folder, 0
        self._seen = DigestSet(folder)
        self._followed: dict[int, Copies] = {}  # by digest
        self.examples: list[str] = []  # places of the first copies, each with its beginning
        self.report: dict | None = None  # the documents with most copies

    def __enter__(self) -> "ExactCopies":
        self._places = DocumentPlaces(self.folder)
        return self

    def __exit__(self, *_) -> None:
        self._places.remove()

    def fresh(self, prepared: Prepared) -> np.ndarray:
        """Which documents of a batch are no copies. Shapes: result bool [documents]."""
        fresh = np.array([self._seen.add(digest) for digest in prepared.digests], bool)
        self._places.add(prepared, fresh)
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

    def finish(self) -> None:
        """No document comes after this: says what was found, in `examples` and `report`."""
        first = list(islice(self._followed, MAX_EXAMPLES))
        largest = sorted(self._followed, key=lambda digest: -self._followed[digest].count)
        largest = largest[:MAX_CLUSTERS]
        kept = self._places.find(first + largest)
        self.examples = [self._example(digest, kept[digest]) for digest in first]
        self.report = {
            "copies": self.num_copies,
            "documents_followed": len(self._followed),
            "clusters": [self._cluster(digest, kept[digest]) for digest in largest],
        }

    def _example(self, digest: int, kept: str) -> str:
        found = self._followed[digest]
        return f"{found.places[0]}: copy of {kept}: {beginning(found.tokens, self.model)}"

    def _cluster(self, digest: int, kept: str) -> dict:
        """A document with copies, of which it stays itself."""
        found = self._followed[digest]
        return {
            "size": found.count + 1,
            "kept": kept,
            "copies": found.places,
            "text": beginning(found.tokens, self.model),
        }
