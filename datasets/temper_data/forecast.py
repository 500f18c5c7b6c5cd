# SPDX-License-Identifier: Apache-2.0
"""What a preparation would make of its sources, judged by a sample. Writes nothing."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .balance import Balance, wanted_tokens
from .balanced_classes import describe_balance, notes_on_balance, outcome
from .disk_space import size
from .documents import Prepared
from .errors import DataError, printable
from .packed_rows import SEQUENCE_LENGTHS, PackedRows
from .preparation import describe
from .progress import clock_time
from .sampling import Sampler
from .workers import available_cores, prepare_in_order

ROW_LENGTHS = SEQUENCE_LENGTHS[:5]
MOST_PACKED = 20000  # documents that rows are made of; the sample's, repeated or thinned out
MAX_REASONS = 20  # that are printed


@dataclass
class OfSource:
    """What the sample says of one source. Each list has an entry for each document."""

    total_bytes: int
    num_bytes: float = 0.0  # that the sample stands for
    records: int = 0
    seconds: float = 0.0  # for `timed_bytes` of them
    timed_bytes: float = 0.0
    dropped: Counter = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    first_targets: list[int] = field(default_factory=list)  # place of a document's first target
    in_holdout: list[bool] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)  # if they are balanced

    @property
    def scale(self) -> float:
        """How many records one of the sample stands for."""
        return self.total_bytes / self.num_bytes if self.num_bytes else 0.0

    def add(self, prepared: Prepared, fresh: np.ndarray) -> None:
        """Shapes: fresh bool [documents]: those that are no copies of others in the sample."""
        self.dropped += prepared.dropped
        self.dropped["duplicate"] += int((~fresh).sum())
        ends = np.cumsum(prepared.lengths)
        for number in np.flatnonzero(fresh).tolist():
            length, end = int(prepared.lengths[number]), int(ends[number])
            places = range(1, length)
            if prepared.mask is not None:
                places = np.flatnonzero(prepared.mask[end - length : end])
            self.lengths.append(length)
            self.targets.append(len(places))
            self.first_targets.append(int(places[0]))
            self.in_holdout.append(bool(prepared.in_holdout[number]))
            self.classes += [prepared.traces.classes[number]] if prepared.traces else []


def balanced(
    group: str, options: Balance, sources: list[OfSource], weights: np.ndarray
) -> tuple[dict, np.ndarray]:
    """What would come of the classes, and how many documents each one then stands for.

    Shapes: weights, the same before, and the result [documents of these sources].
    """
    lengths, in_holdout, classes = (
        np.array([value for source in sources for value in getattr(source, name)], dtype)
        for name, dtype in (("lengths", np.int64), ("in_holdout", bool), ("classes", object))
    )
    training = ~in_holdout
    names, of_class = np.unique(classes[training], return_inverse=True)
    found = np.bincount(of_class, (weights * lengths)[training])
    tokens = np.maximum(1, np.rint(found)).astype(np.int64)
    wanted = wanted_tokens(tokens, options)
    weights = weights.copy()
    weights[training] *= (wanted / tokens)[of_class]
    return outcome(group, options, names.tolist(), tokens, wanted), weights


class Forecast:
    """Reads and prepares the sample, then says what all would be."""

    def __init__(self, preparation, num_records: int):
        """Raises DataError."""
        self.recipe = preparation.recipe
        self.examples: dict[str, str] = {}
        sampler = Sampler(preparation.files, num_records, self.recipe.max_record_bytes)
        self.paths = sampler.sources
        self.sources = [OfSource(sampler.totals[n]) for n in range(len(self.paths))]
        seen: set[int] = set()
        for source, num_bytes, prepared in self._prepared(sampler, preparation.maker):
            fresh = np.ones(len(prepared.lengths), bool)
            for number, digest in enumerate(prepared.digests):
                fresh[number] = not (self.recipe.deduplicate and digest in seen)
                seen.add(digest)
            self.sources[source].num_bytes += num_bytes
            self.sources[source].add(prepared, fresh)
            for reason, example in prepared.examples:
                self.examples.setdefault(reason, example)
        self._take_documents()

    def _prepared(self, sampler: Sampler, maker) -> Iterator[tuple[int, float, Prepared]]:
        """The batches of the sample with their source and the bytes that they stand for.

        Takes the time, but for the first batches, with which the processes begin.
        """
        given: list[tuple[int, float]] = []

        def batches():
            for sample in sampler.samples():
                for batch, num_bytes in sample.batches():
                    given.append((sample.source, num_bytes))
                    self.sources[sample.source].records += len(batch.records)
                    yield batch

        all_batches = list(batches())  # Their reading is no part of the time.
        self.workers = self.recipe.workers or available_cores()
        before = time.monotonic()
        results = prepare_in_order(iter(all_batches), maker)
        for number, (prepared, (source, num_bytes)) in enumerate(zip(results, given, strict=True)):
            now = time.monotonic()
            if number >= self.workers:
                self.sources[source].seconds += now - before
                self.sources[source].timed_bytes += num_bytes
            before = now
            yield source, num_bytes, prepared

    def _take_documents(self) -> None:
        """All documents of the sample as arrays, and how many each stands for."""
        weights, self.balance = [], []
        for group, options, paths in self.recipe.balanced_groups():
            sources = [s for s, path in zip(self.sources, self.paths, strict=True) if path in paths]
            counts = [np.full(len(source.lengths), source.scale) for source in sources]
            weights.append(np.concatenate(counts))
            if options.by and not all(all(source.in_holdout) for source in sources):
                found, weights[-1] = balanced(group, options, sources, weights[-1])
                self.balance.append(found)
        self.weights = np.concatenate(weights)
        self.lengths, self.targets, self.first_targets, self.in_holdout = (
            np.array([value for s in self.sources for value in getattr(s, name)], np.int64)
            for name in ("lengths", "targets", "first_targets", "in_holdout")
        )
        if not len(self.lengths):
            example = "".join(f"\n  {printable(text)}" for text in self.examples.values())
            raise DataError(f"no document is left of the sample{example}", "correct the sources")

    def seconds(self) -> float:
        """Of the whole preparation but for what needs all documents."""
        timed = [s for s in self.sources if s.timed_bytes]
        known = sum(s.timed_bytes for s in timed)
        mean = sum(s.seconds for s in timed) / known if known else 0.0
        return sum(
            s.total_bytes * (s.seconds / s.timed_bytes if s.timed_bytes else mean)
            for s in self.sources
        )

    def typical(self, chosen: np.ndarray) -> np.ndarray:
        """Numbers of documents, each as often as it stands for others, at most MOST_PACKED."""
        numbers = np.flatnonzero(chosen)
        ends = np.cumsum(self.weights[numbers])
        if not len(ends):
            return numbers
        count = max(1, min(MOST_PACKED, round(float(ends[-1]))))
        points = (np.arange(count) + 0.5) / count * ends[-1]
        return numbers[np.minimum(np.searchsorted(ends, points), len(numbers) - 1)]

    def rows(self, capacity: int) -> tuple[float, float, float]:
        """Rows of the training side, how full they are, and the share of documents cut in them."""
        chosen = self.in_holdout == 0
        documents = float(self.weights[chosen].sum())
        tokens = float((self.weights * self.lengths)[chosen].sum())
        rows = PackedRows(capacity)
        if self.recipe.kind == "pretrain":
            fill = rows.sliced(math.ceil(tokens))
            return fill.rows, fill.share, 0.0
        typical = self.typical(chosen)
        rows.add(self.lengths[typical], self.first_targets[typical])
        fill = rows.packed()
        return fill.rows * documents / len(typical), fill.share, fill.cut / len(typical)


def describe_forecast(forecast: Forecast, row_length: int, global_batch: int) -> list[str]:
    """What is printed."""
    total = sum(s.total_bytes for s in forecast.sources)
    records = sum(s.records for s in forecast.sources)
    about = sum(s.records * s.scale for s in forecast.sources)
    lines = [f"sample: {records} of about {about:.0f} records, {size(total)} in "
             f"{len(forecast.sources)} source{'s' * (len(forecast.sources) > 1)}"]  # fmt: skip
    for name, side in (("train", 0), ("holdout", 1)):
        chosen = forecast.in_holdout == side
        if chosen.any():
            lines.append(f"{name}: {describe_side(forecast, chosen)}")
    lines += describe_balance(forecast.balance)
    lines += describe_drops(forecast, about)
    if not forecast.in_holdout.all():
        lines += describe_rows(forecast, row_length, global_batch)
    lines.append(f"time: about {clock_time(forecast.seconds())} here, "
                 f"with {forecast.workers} process{'es' * (forecast.workers > 1)}")  # fmt: skip
    if forecast.recipe.filters.repeated_lines.min_documents:
        lines.append("note: lines that many documents have are found when all is read, and are "
                     "still in the sample")  # fmt: skip
    lines += [f"note: {note}" for note in notes_on_balance(forecast.balance)]
    if forecast.recipe.compares_texts() or forecast.recipe.length_outliers.action != "off":
        lines.append("note: near duplicates and what repeats evaluation texts are found, and the "
                     "time for it taken, when all is prepared")  # fmt: skip
    if forecast.recipe.deduplicate:
        lines.append("note: of equal documents only those within the sample are counted")
    return lines


def describe_rows(forecast: Forecast, row_length: int, global_batch: int) -> list[str]:
    """Of the training side, which is not empty."""
    lines = []
    for capacity in sorted({*ROW_LENGTHS, row_length}):
        rows, fill, cut = forecast.rows(capacity)
        lost = f", {100 * cut:.1f} % of the documents are longer" if cut else ""
        lines.append(f"rows of {capacity}: about {rows:.0f}, {100 * fill:.1f} % full{lost}")
    steps = math.ceil(forecast.rows(row_length)[0] / global_batch)
    lines.append(f"steps: about {steps} an epoch of rows of {row_length}, {global_batch} a step")
    return lines


def describe_side(forecast: Forecast, chosen: np.ndarray) -> str:
    weights, lengths = forecast.weights[chosen], forecast.lengths[chosen]
    ranks = describe(Counter(forecast.lengths[forecast.typical(chosen)].tolist()))
    tokens = float((weights * lengths).sum())
    targets = float((weights * forecast.targets[chosen]).sum())
    return (
        f"about {weights.sum():.0f} documents, {tokens:.0f} tokens an epoch, {targets:.0f} "
        f"targets; {tokens / weights.sum():.1f} tokens in the mean document, "
        f"{ranks['median']} in the median, {ranks['p95']} in the 95th percentile, "
        f"{lengths.max()} in the longest of the sample"
    )


def describe_drops(forecast: Forecast, about: float) -> list[str]:
    """Each reason with its share of all records, and its first place."""
    counts: Counter = Counter()
    found: Counter = Counter()
    for source in forecast.sources:
        for reason, count in source.dropped.items():
            counts[reason] += count * source.scale
            found[reason] += count
    lines = []
    for reason, count in counts.most_common(MAX_REASONS):
        first = forecast.examples.get(reason)
        where = f", first at {first}" if first else ""
        if count:
            lines.append(f"dropped: about {100 * count / about:.2g} % {reason}, {found[reason]} "
                         f"of the sample{where}")  # fmt: skip
    return lines
