# SPDX-License-Identifier: Apache-2.0
"""Finds documents whose length is unlike that of the others of their source.

Lengths of texts spread by factors, so they are judged by their logarithms: one is an outlier that
is farther from the median than so many standard deviations, estimated by the median distance from
the median, on which outliers themselves have no influence.
Source: Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers", section 3.3.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .beginnings import SHOWN_TOKENS, beginning
from .document_spool import DocumentSpool
from .model_tokenizer import ModelTokenizer

LENGTH_OUTLIER = "length outlier"
DEVIATION = 1.4826  # standard deviations of a normal distribution in its median distance
LEAST_DEVIATION = 0.1  # of logarithms: where most lengths are equal, 10 % is nothing; arbitrary
MIN_DOCUMENTS = 30  # of a source that can be judged; arbitrary
MAX_SHOWN = 5  # outliers of a source shown in the report
# What is measured of each kind, by its name in the report, and the field of a spool's documents.
MEASURES = {
    "pretrain": {"tokens": "tokens"},
    "sft": {"trained tokens": "targets", "tokens": "tokens"},
}

Drop = Callable[[str, str], None]


@dataclass(frozen=True)
class Usual:
    """Lengths that are no outliers."""

    median: float
    least: float
    most: float

    def outliers(self, lengths: np.ndarray) -> np.ndarray:
        return (lengths < self.least) | (lengths > self.most)


def usual_lengths(lengths: np.ndarray, deviations: float) -> Usual:
    """Shapes: lengths [n >= 1], all above 0."""
    logarithms = np.log(lengths.astype(np.float64))
    middle = np.median(logarithms)
    spread = max(DEVIATION * np.median(np.abs(logarithms - middle)), LEAST_DEVIATION)
    least, most = np.exp([middle - deviations * spread, middle + deviations * spread])
    return Usual(float(np.exp(middle)), float(least), float(most))


class LengthOutliers:
    """Looks through the documents of a finished spool, one source after another."""

    def __init__(self, spool: DocumentSpool, model: ModelTokenizer, deviations: float):
        self.spool, self.model, self.deviations = spool, model, deviations
        self.report: list[dict] = []

    def find(self, kept: np.ndarray) -> Iterator[tuple[int, str]]:
        """The outliers among those kept, ascending, each with what is unusual. Fills `report`.

        Shapes: kept bool [documents].
        """
        sources = np.array(self.spool.documents["source"])
        for source, path in enumerate(self.spool.sources):
            chosen = np.flatnonzero(kept & (sources == source))
            reasons: dict[int, str] = {}
            for measure, name in MEASURES[self.spool.kind].items():
                if len(chosen) >= MIN_DOCUMENTS:
                    lengths = np.array(self.spool.documents[name][chosen])
                    self._judge(path, measure, chosen, lengths, reasons)
            yield from sorted(reasons.items())

    def _judge(self, path: str, measure: str, chosen, lengths, reasons: dict[int, str]) -> None:
        """One measure of one source's documents; adds to `reasons` what falls by it."""
        usual = usual_lengths(lengths, self.deviations)
        found = np.flatnonzero(usual.outliers(lengths))
        spelled = f"usual are {usual.least:.0f} to {usual.most:.0f}"
        for number in found.tolist():
            place = int(chosen[number])
            reasons.setdefault(place, f"{lengths[number]} {measure}, {spelled}")
        distances = np.abs(np.log(lengths[found].astype(np.float64)) - np.log(usual.median))
        farthest = found[np.argsort(-distances, kind="stable")][:MAX_SHOWN]
        self.report.append({
            "source": path,
            "measure": measure,
            "documents": len(chosen),
            "median": round(usual.median, 1),
            "least": round(usual.least, 1),
            "most": round(usual.most, 1),
            "shorter": int((lengths < usual.least).sum()),
            "longer": int((lengths > usual.most).sum()),
            "share": round(len(found) / len(chosen), 6),
            "examples": [self._show(int(chosen[n]), int(lengths[n])) for n in farthest.tolist()],
        })  # fmt: skip

    def _show(self, number: int, length: int) -> dict:
        text = beginning(self.spool.tokens(number, SHOWN_TOKENS), self.model)
        return {"place": self.spool.place(number), "length": length, "text": text}
