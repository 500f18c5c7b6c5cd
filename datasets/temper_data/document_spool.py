# SPDX-License-Identifier: Apache-2.0
"""Documents that wait on the disk until it is known which of them go where."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .atomic_file import discard, temporary_path
from .documents import Prepared
from .errors import DataError, printable
from .traces import Traces

BUFFER_BYTES = 1 << 20
MAX_CLASSES = 1000  # that are balanced; arbitrary
DOCUMENT = np.dtype(
    [("tokens", "<u4"), ("units", "<u4"), ("turns", "<u4"), ("targets", "<u4"), ("file", "<u4"),
     ("source", "<u4"), ("class", "<u4"),
     ("line", "<u8"), ("key", "<u8"), ("digest", "<u8"), ("in_holdout", "?")]
)  # fmt: skip


class Column:
    """Values of one type in a temporary file."""

    def __init__(self, path: Path, dtype: np.dtype | str):
        self.path, self.dtype = path, np.dtype(dtype)
        self._file: BinaryIO = open(path, "wb", buffering=BUFFER_BYTES)

    def append(self, values: np.ndarray) -> None:
        self._file.write(values.astype(self.dtype, copy=False).tobytes())

    def finish(self) -> None:
        self._file.close()

    def values(self) -> np.ndarray:
        """All of them, mapped: what is read may be forgotten by the system again."""
        if not self.path.stat().st_size:
            return np.zeros(0, self.dtype)
        return np.memmap(self.path, self.dtype, "r")

    def pieces(self, most: int) -> Iterator[np.ndarray]:
        """All of them, at most so many at a time, of which one is in memory."""
        with open(self.path, "rb", buffering=0) as file:
            while len(piece := np.fromfile(file, self.dtype, most)):
                yield piece

    def remove(self) -> None:
        discard(self._file, self.path)


class DocumentSpool:
    """Appends whole batches, then gives any document's parts. Removes its files when left.

    Memory: 16 bytes per document from `finish` on, for where its tokens and units begin.
    """

    def __init__(self, shard: Path, kind: str, num_bands: int):
        types = {"tokens": "<u4", "units": "<u4", "turn_ends": "<i8", "documents": DOCUMENT}
        types |= {"mask": "u1"} if kind == "sft" else {}
        types |= {f"band{number}": "<u8" for number in range(num_bands)}
        self.kind, self.num_bands, self.num_documents = kind, num_bands, 0
        self.files: list[str] = []
        self.sources: list[str] = []
        self.classes: dict[str, int] = {}  # to their numbers in the documents
        self._columns: dict[str, Column] = {}
        try:
            for name, dtype in types.items():
                self._columns[name] = Column(temporary_path(shard, f"waiting-{name}"), dtype)
        except OSError:
            self.remove()
            raise

    def remove(self) -> None:
        for column in self._columns.values():
            column.remove()

    def append(self, prepared: Prepared, chosen: np.ndarray) -> None:
        """Shapes: chosen bool [documents]."""
        traces, of_tokens = prepared.traces, np.repeat(chosen, prepared.lengths)
        if not self.files or self.files[-1] != prepared.file:
            self.files.append(prepared.file)
        if not self.sources or self.sources[-1] != traces.source:
            self.sources.append(traces.source)
        rows = np.zeros(int(chosen.sum()), DOCUMENT)
        rows["tokens"], rows["units"] = prepared.lengths[chosen], traces.num_units[chosen]
        rows["turns"], rows["file"] = prepared.num_turns[chosen], len(self.files) - 1
        rows["source"] = len(self.sources) - 1
        rows["class"] = self._classes_of(traces)[chosen]
        rows["line"], rows["key"] = prepared.lines[chosen], traces.keys[chosen]
        rows["digest"] = np.array(prepared.digests, np.uint64)[chosen]
        rows["in_holdout"], rows["targets"] = prepared.in_holdout[chosen], rows["tokens"]
        if prepared.mask is not None:
            sums = np.concatenate([[0], np.cumsum(prepared.mask, dtype=np.int64)])
            ends = np.cumsum(prepared.lengths)
            rows["targets"] = (sums[ends] - sums[ends - prepared.lengths])[chosen]
            self._columns["mask"].append(prepared.mask[of_tokens])
        self._columns["tokens"].append(prepared.tokens[of_tokens])
        self._columns["units"].append(traces.units[np.repeat(chosen, traces.num_units)])
        self._columns["turn_ends"].append(prepared.turn_ends[np.repeat(chosen, prepared.num_turns)])
        self._columns["documents"].append(rows)
        for band in range(self.num_bands):
            self._columns[f"band{band}"].append(traces.bands[chosen, band])
        self.num_documents += len(rows)

    def _classes_of(self, traces: Traces) -> np.ndarray:
        """Numbers of the documents' classes. Raises DataError if there are too many."""
        numbers = [self.classes.setdefault(name, len(self.classes)) for name in traces.classes]
        if len(self.classes) > MAX_CLASSES:
            some = ", ".join(printable(repr(name)) for name in list(self.classes)[-3:])
            problem = f"{traces.source} has more than {MAX_CLASSES} classes, such as {some}"
            raise DataError(problem, "name a field in balance.by that has fewer values")
        return np.array(numbers, np.uint32)

    def finish(self) -> None:
        """No document comes after this."""
        for column in self._columns.values():
            column.finish()
        self.documents = self._columns["documents"].values()
        self._tokens, self._units = (self._columns[n].values() for n in ("tokens", "units"))
        self._token_ends = np.cumsum(self.documents["tokens"], dtype=np.int64)
        self._unit_ends = np.cumsum(self.documents["units"], dtype=np.int64)

    def band(self, number: int) -> np.ndarray:
        return np.array(self._columns[f"band{number}"].values())

    def units(self, number: int) -> np.ndarray:
        end = self._unit_ends[number]
        return np.array(self._units[end - self.documents["units"][number] : end])

    def tokens(self, number: int, most: int | None = None) -> list[int]:
        """The document's first `most` tokens; all for None."""
        end = self._token_ends[number]
        return self._tokens[end - self.documents["tokens"][number] : end][:most].tolist()

    def place(self, number: int) -> str:
        row = self.documents[number]
        return f"{self.files[row['file']]}{row['line']}"

    def pieces(self, most_tokens: int = 1 << 20) -> Iterator[tuple[int, Prepared]]:
        """All documents again, a piece at a time, with the number of its first one."""
        turn_ends = self._columns["turn_ends"].values()
        masks = self._columns["mask"].values() if self.kind == "sft" else None
        first = token = turn = 0
        while first < self.num_documents:
            last = int(np.searchsorted(self._token_ends, token + most_tokens, "right"))
            last = max(last, first + 1)
            rows, end = np.array(self.documents[first:last]), int(self._token_ends[last - 1])
            turns = turn + int(rows["turns"].sum())
            yield first, Prepared(
                tokens=np.array(self._tokens[token:end]),
                lengths=rows["tokens"].astype(np.int64),
                mask=None if masks is None else np.array(masks[token:end]),
                turn_ends=np.array(turn_ends[turn:turns]),
                num_turns=rows["turns"].astype(np.int64),
                digests=[],
                in_holdout=rows["in_holdout"],
            )
            first, token, turn = last, end, turns

    def pieces_of_units(
        self, chosen: np.ndarray, most: int = 1 << 19
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Units of the chosen documents end to end, and of which document each is.

        Shapes: chosen bool [documents]; both results [n].
        """
        first = begin = 0
        while first < self.num_documents:
            last = max(int(np.searchsorted(self._unit_ends, begin + most, "right")), first + 1)
            end = int(self._unit_ends[last - 1])
            lengths = self.documents["units"][first:last]
            owners = np.repeat(np.arange(first, last), lengths)
            wanted = chosen[owners]
            if wanted.any():
                yield np.array(self._units[begin:end])[wanted], owners[wanted]
            first, begin = last, end
