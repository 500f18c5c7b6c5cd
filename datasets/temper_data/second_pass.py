# SPDX-License-Identifier: Apache-2.0
"""What is decided when all documents are known: near copies, sides, lengths, overlaps, classes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .atomic_file import Publication
from .balanced_classes import BEYOND_SHARE, BalancedClasses
from .beginnings import SHOWN_TOKENS, beginning
from .decontamination import Decontamination, Quarantine, decontaminate
from .document_spool import DocumentSpool
from .documents import Prepared
from .evaluation_set import EvaluationSet
from .length_outliers import LENGTH_OUTLIER, LengthOutliers
from .minhash import shape_of_bands
from .model_tokenizer import ModelTokenizer
from .near_duplicates import NearDuplicates, best_of_each, sides_by_cluster, sizes_of
from .recipe import Recipe

NEAR_DUPLICATE = "near duplicate"
MAX_CLUSTERS = 20  # shown in the report, the largest first
MAX_FALLEN = 3  # of each of them

Drop = Callable[[str, str], None]  # is told the reason and the places of what is dropped


class SecondPass:
    """Keeps documents on the disk while they are read, then says which of them go where.

    Use as a context manager: leaving it removes the temporary files. Memory: at most 120 bytes per
    document, 16 bytes per word of the hold-out if that is compared, and 64 MiB.
    """

    def __init__(
        self, recipe: Recipe, model: ModelTokenizer, evaluation: EvaluationSet | None, drop: Drop
    ):
        self.recipe, self.model, self.evaluation, self.drop = recipe, model, evaluation, drop
        self.report: dict = {}

    def __enter__(self) -> "SecondPass":
        folder, near = Path(self.recipe.output), self.recipe.near
        bands = 0 if near.action == "off" else shape_of_bands(near.threshold)[0]
        self.spool = DocumentSpool(folder / "train.h5", self.recipe.kind, bands)
        try:
            self.quarantine = Quarantine(folder)
        except OSError:
            self.spool.remove()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.spool.remove()
        self.quarantine.remove()

    def add(self, prepared: Prepared, fresh: np.ndarray) -> None:
        """Shapes: fresh bool [documents]: those that are no exact copies."""
        self.spool.append(prepared, fresh)

    def results(self) -> Iterator[tuple[Prepared, np.ndarray]]:
        """All documents again with their side, and which of them stay.

        Those that a balance takes several times come as often, a piece of all documents at a time.
        """
        self.spool.finish()
        sides, kept = self._choose()
        self._find_outliers(kept)
        times = self._balance(sides, self._decontaminate(sides, kept))
        for first, prepared in self.spool.pieces():
            chosen = slice(first, first + len(prepared.lengths))
            prepared.in_holdout = sides[chosen]
            for turn in range(int(times[chosen].max())):
                yield prepared, times[chosen] > turn

    def publish(self, publication: Publication) -> None:
        """Adds what was taken out to what is published."""
        if self.recipe.overlap.evaluation or self.recipe.overlap.holdout:
            self.quarantine.publish(publication)

    def _choose(self) -> tuple[np.ndarray, np.ndarray]:
        """The side of each document, and whether it is the best of its cluster."""
        near, rows = self.recipe.near, self.spool.documents
        kept = np.ones(self.spool.num_documents, bool)
        if near.action == "off" or not len(kept):
            return np.array(rows["in_holdout"]), kept
        search = NearDuplicates(self.spool, near.threshold, near.ngram)
        roots = search.find()
        best = best_of_each(roots, rows["targets"])
        fallen = np.flatnonzero(best != np.arange(len(best)))
        bands, in_band = shape_of_bands(near.threshold)
        self.report["near_duplicates"] = {
            "bands": bands,
            "rows": in_band,
            "pairs_compared": search.compared,
            "documents_not_compared": search.not_compared,
            "clusters_by_size": sizes_of(roots),
            "copies": len(fallen),
            "clusters": self._describe(roots, best),
        }
        if near.action == "drop":
            kept[fallen] = False
            for number in fallen.tolist():
                places = f"{self._place(number)}: near copy of {self._place(best[number])}"
                self.drop(NEAR_DUPLICATE, places)
        sides, deciders = sides_by_cluster(search.sets, rows["key"], rows["in_holdout"])
        largest = int(np.bincount(deciders).max())
        self.report["near_duplicates"]["largest_on_one_side"] = largest
        return sides, kept

    def _find_outliers(self, kept: np.ndarray) -> None:
        """Takes documents of unusual length out of `kept`, in place, if the recipe says so."""
        options = self.recipe.length_outliers
        if options.action == "off":
            return
        search = LengthOutliers(self.spool, self.model, options.deviations)
        for number, why in list(search.find(kept)):
            if options.action == "drop":
                kept[number] = False
                self.drop(LENGTH_OUTLIER, f"{self._place(number)}: {why}")
        self.report["length_outliers"] = search.report

    def _decontaminate(self, sides: np.ndarray, kept: np.ndarray) -> np.ndarray:
        if not self.recipe.overlap.evaluation and not self.recipe.overlap.holdout:
            return kept
        work = Decontamination(self.spool, self.model, self.quarantine, self.drop)
        kept = decontaminate(self.recipe, work, self.evaluation, sides, kept)
        self.report["decontamination"] = work.report
        return kept

    def _balance(self, sides: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """How many times each document is there: at most once unless a balance asks for more."""
        if not self.recipe.balances():
            return kept.astype(np.int64)
        classes, training = BalancedClasses(self.spool, self.recipe), kept & ~sides
        times = classes.balance(training)
        for number, why in classes.left_out(training, times):
            self.drop(BEYOND_SHARE, f"{self._place(number)}: {why}")
        self.report["balance"] = classes.report
        return times + (kept & sides)

    def _place(self, number: int) -> str:
        return self.spool.place(int(number))

    def _describe(self, roots: np.ndarray, best: np.ndarray) -> list[dict]:
        """The largest clusters, with what was kept and the first of what fell."""
        found, sizes = np.unique(roots, return_counts=True)
        largest = np.argsort(-sizes, kind="stable")[:MAX_CLUSTERS]
        described = []
        for root, size in zip(found[largest].tolist(), sizes[largest].tolist(), strict=True):
            if size < 2:
                break
            fallen = [n for n in np.flatnonzero(roots == root).tolist() if n != best[root]]
            described.append({
                "size": size,
                "kept": self._show(int(best[root])),
                "fell": [self._show(number) for number in fallen[:MAX_FALLEN]],
            })  # fmt: skip
        return described

    def _show(self, number: int) -> dict[str, str]:
        text = beginning(self.spool.tokens(number, SHOWN_TOKENS), self.model)
        return {"place": self.spool.place(number), "text": text}
