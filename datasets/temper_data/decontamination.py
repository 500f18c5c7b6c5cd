# SPDX-License-Identifier: Apache-2.0
"""Takes documents out of the training side that repeat evaluation texts, and proves it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import numpy as np

from .atomic_file import Publication, discard, temporary_path
from .document_spool import DocumentSpool
from .errors import printable
from .evaluation_set import EvaluationSet
from .model_tokenizer import ModelTokenizer
from .overlap_index import MIN_LONE_UNITS, Lengths, Overlap, OverlapIndex, Whole
from .recipe import Recipe
from .text_units import text_at, units_of, windows

QUARANTINE = "quarantine.jsonl"
COMMON = 10  # A run of more documents of a side than this is a set phrase, such as a licence's.
IN_EVALUATION = "in an evaluation set"
IN_HOLDOUT = "repeats the hold-out"


class Quarantine:
    """The documents taken out, one JSON object a line, in a file that is published at the end."""

    def __init__(self, folder: Path):
        self.path = folder / QUARANTINE
        self._temporary = temporary_path(self.path, "waiting")
        self._file: TextIO = open(self._temporary, "w", encoding="utf-8", newline="")

    def add(self, entry: dict) -> None:
        self._file.write(json.dumps(entry, sort_keys=True) + "\n")

    def publish(self, publication: Publication) -> None:
        self._file.close()
        self._temporary.replace(publication.add(self.path))

    def remove(self) -> None:
        discard(self._file, self._temporary)


class Decontamination:
    """Works on the documents of a spool; `taken` says which of them are gone, and why."""

    def __init__(
        self, spool: DocumentSpool, model: ModelTokenizer, quarantine: Quarantine,
        drop: Callable[[str, str], None],
    ):  # fmt: skip
        self.spool, self.model, self.quarantine, self.drop = spool, model, quarantine, drop
        self.report: dict = {}

    def against(self, index: OverlapIndex, places, training: np.ndarray, reason: str) -> None:
        """Takes what overlaps out of `training`, in place. `places` gives an entry's place."""
        found = self._find(index, training)
        for overlap in found:
            training[overlap.document] = False
            self._write(overlap, places(overlap.entry), reason)
        left = len(self._find(index, training))
        self.report[reason] = {
            "runs": len(index.table.hashes),
            "quarantined": len(found),
            "overlaps_left": left,
        }

    def leave_out_common(self, index: OverlapIndex, training: np.ndarray) -> None:
        """A run of many training documents says nothing of the one that is held out."""
        counts = np.zeros(len(index.table.hashes), np.int64)
        for units, owners in self.spool.pieces_of_units(training):
            counts += index.count(units, owners)
        index.leave_out(counts > COMMON)

    def _find(self, index: OverlapIndex, training: np.ndarray) -> list[Overlap]:
        found = []
        for units, owners in self.spool.pieces_of_units(training):
            found += index.find(units, owners)
        return found

    def _write(self, overlap: Overlap, evaluation: str, reason: str) -> None:
        tokens = self.spool.tokens(overlap.document)
        text = self.model.tokenizer.decode(tokens, skip_special_tokens=False)
        place = self.spool.place(overlap.document)
        shared = shared_text(text, overlap)
        self.quarantine.add({
            "place": place, "reason": reason, "found_in": evaluation, "shared": shared,
            "text": text,
        })  # fmt: skip
        self.drop(reason, f"{place}: shares with {evaluation}: {printable(shared)}")


def shared_text(text: str, overlap: Overlap) -> str:
    """The run as it stands in `text`, in small letters; if a template broke it, the beginning."""
    hashes = windows(units_of(text), overlap.length)
    places = np.flatnonzero(hashes == np.uint64(overlap.window))
    if not len(places):
        return " ".join(text.split())[:200]
    return text_at(text, int(places[0]), int(places[0]) + overlap.length)


def index_of_holdout(spool: DocumentSpool, held: np.ndarray, lengths: Lengths) -> OverlapIndex:
    """Memory: 16 bytes per word of the hold-out, and twice as much while it is sorted."""
    index = OverlapIndex(lengths)
    for number in np.flatnonzero(held).tolist():
        units = spool.units(number)
        if not index.add_runs(units, number) and len(units) >= MIN_LONE_UNITS:
            index.add_whole(Whole(number, units))
    return index.finish(COMMON)


def decontaminate(
    recipe: Recipe, work: Decontamination, evaluation: EvaluationSet | None, sides: np.ndarray,
    kept: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Which documents stay. Shapes: sides (True: held out), kept and result bool [documents]."""
    training = kept & ~sides
    if evaluation is not None:
        work.against(evaluation.index, lambda n: evaluation.places[n], training, IN_EVALUATION)
        work.report[IN_EVALUATION] |= {
            "files": [str(file.path) for file in evaluation.files],
            "entries": len(evaluation.places),
            "entries_too_short": evaluation.too_short,
            "records_refused": evaluation.refused,
        }
    if recipe.overlap.holdout:
        lengths = Lengths(recipe.overlap.words, recipe.overlap.characters)
        index = index_of_holdout(work.spool, kept & sides, lengths)
        work.leave_out_common(index, training)
        work.against(index, work.spool.place, training, IN_HOLDOUT)
        work.report[IN_HOLDOUT]["common_runs_left_out"] = index.common
    return training | kept & sides

