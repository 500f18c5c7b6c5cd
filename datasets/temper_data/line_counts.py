# SPDX-License-Identifier: Apache-2.0
"""A first pass over the sources, which finds the lines that many documents of a source have.

Counts are exact. Each different document's lines go as 64-bit digests into files, by their upper
bits, so that all of one line are in one file; each file is then sorted by itself.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from .atomic_file import temporary_path
from .digest_set import DigestSet, text_digest
from .document_spool import Column
from .documents import read_document, within_time
from .errors import DataError, RecordRefusal
from .filters.repeated_lines import LineTable, RepeatedLines
from .progress import Progress
from .recipe import InputFile, Recipe
from .records import Batch, read_batches
from .workers import prepare_in_order

PARTS_LOG2 = 6  # 64 files: memory is that of one of them


@dataclass
class BatchLines:
    """The lines of one batch's documents, end to end."""

    documents: np.ndarray  # uint64 [documents]: digest of each one's text
    lengths: np.ndarray  # int64 [documents]
    digests: np.ndarray  # uint64 [n]: of each document each line once
    source_bytes: int


class LineReader:
    """What a worker of the first pass does. Records that cannot be read are passed over: the
    second pass counts them."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.lines = RepeatedLines(recipe.filters.repeated_lines)

    def prepare(self, batch: Batch, begin: Callable[[int], None]) -> BatchLines:
        texts, lines = [], [np.zeros(0, np.uint64)]
        for number, (_, data) in enumerate(batch.records):
            begin(number)
            found = within_time(self.recipe, self.read, batch.source, data)
            if not isinstance(found, RecordRefusal):
                texts.append(found[0])
                lines.append(found[1])
        lengths = np.array([len(part) for part in lines[1:]], np.int64)
        digests = np.concatenate(lines)
        return BatchLines(np.array(texts, np.uint64), lengths, digests, batch.source_bytes)

    def read(self, source, data) -> tuple[int, np.ndarray]:
        text, _ = read_document(source, data)
        found = [line.digest for line in self.lines.of(text, source.path)]
        return text_digest(text), np.unique(np.array(found, np.uint64))


class SourceLines:
    """The lines of one source. Use as a context manager, which removes its files.

    Memory: 64 MiB of buffers, that of DigestSet, and while counting 24 bytes for each
    line of the largest of the files, which is one in 64 if lines differ.
    """

    def __init__(self, folder: Path):
        self.documents = 0
        self._seen = DigestSet(folder)
        self._columns: list[Column] = []
        with ExitStack() as files:
            for part in range(1 << PARTS_LOG2):
                path = temporary_path(folder / "train.h5", f"lines{part}")
                self._columns.append(Column(path, "<u8"))
                files.callback(self._columns[-1].remove)
            self._files = files.pop_all()

    def __enter__(self) -> "SourceLines":
        return self

    def __exit__(self, *_) -> None:
        self._files.close()

    def add(self, batch: BatchLines) -> None:
        """Exact copies do not count, or the text itself would be a repeated line."""
        fresh = np.array([self._seen.add(digest) for digest in batch.documents.tolist()], bool)
        self.documents += int(fresh.sum())
        digests = np.sort(batch.digests[np.repeat(fresh, batch.lengths)])
        parts = digests >> np.uint64(64 - PARTS_LOG2)
        borders = np.searchsorted(parts, np.arange(len(self._columns) + 1, dtype=np.uint64))
        for column, begin, end in zip(self._columns, borders, borders[1:], strict=False):
            if begin < end:
                column.append(digests[begin:end])

    def repeated(self, least: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Digests and numbers of documents of lines that at least so many have, ascending."""
        for column in self._columns:
            column.finish()
            digests, counts = np.unique(column.values(), return_counts=True)
            column.remove()
            chosen = counts >= least
            yield digests[chosen], counts[chosen]


def count_lines(
    recipe: Recipe, files: list[InputFile], progress: Progress
) -> tuple[LineTable, list[dict]]:
    """The lines to remove, and what the files were. Raises DataError."""
    options, described, found = recipe.filters.repeated_lines, [], []
    for _, of_source in groupby(files, lambda file: file.source.path):
        with SourceLines(Path(recipe.output)) as lines:
            batches = read_batches(list(of_source), recipe.max_record_bytes, described)
            for batch in prepare_in_order(batches, LineReader(recipe)):
                lines.add(batch)
                progress.advance(batch.source_bytes, len(batch.documents), 0)
            share = math.ceil(options.min_share * lines.documents)
            found += lines.repeated(max(options.min_documents, share))
    progress.finish()
    digests = np.concatenate([np.zeros(0, np.uint64), *(part for part, _ in found)])
    counts = np.concatenate([np.zeros(0, np.uint32), *(part for _, part in found)])
    order = np.argsort(digests, kind="stable")
    return LineTable(digests[order], counts[order].astype(np.uint32)), described


def require_equal(before: list[dict], now: list[dict]) -> None:
    """Raises DataError if a source is not what the first pass read."""
    for first, second in zip(before, now, strict=True):
        if first != second:
            raise DataError(
                f"{first['file']} changed between the two passes over the sources",
                "prepare again when it rests",
            )
