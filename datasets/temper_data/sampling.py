# SPDX-License-Identifier: Apache-2.0
"""A sample of the records of all sources that is read in a moment, and is always the same.

Each source gives records in proportion to its bytes. Plain files of lines are read at places that
lie evenly in the source's bytes; of other files with such a place in them, and of files below a
MiB, every n-th record of the first MiB is taken; of files that are one document each, every n-th.
"""

import io
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate, groupby, takewhile

from .compression import PACKINGS, Unpacker
from .recipe import InputFile
from .records import EMPTY, Batch, Record, read_batches, records_of_file
from .source_file import READ_BYTES, LineFile

MAX_PLACES = 50  # of a source; arbitrary
MAX_OPENED = 12  # of a source with files that must be read from their beginning
MIN_RECORDS = 20  # of a source
MAX_BYTES = 1 << 24  # of all records, so that long ones take no long time either
WINDOW_BYTES = 1 << 20  # unpacked, of a file that is read from its beginning
RATIO_BYTES = 1 << 25  # unpacked, by which the compression is judged
RECORDS_PER_BATCH = 16  # few, so that all processes have some


@dataclass
class Sample:
    """Some records of one file."""

    source: int  # its number
    file: InputFile
    records: list[Record]
    num_bytes: float  # of the file, that they stand for
    unit: str = ""  # what their numbers count

    def batches(self) -> Iterator[tuple[Batch, float]]:
        """The records in small batches, with the bytes that each stands for."""
        for begin in range(0, len(self.records), RECORDS_PER_BATCH):
            part = self.records[begin : begin + RECORDS_PER_BATCH]
            batch = Batch(str(self.file.path), self.file.source, part, 0, self.unit)
            yield batch, self.num_bytes * len(part) / len(self.records)


class PlacedFile(LineFile):
    """A file read from some place on, which counts what is taken of it."""

    def __init__(self, given: InputFile, offset: int = 0):
        raw = open(given.path, "rb")
        raw.seek(offset)
        packing = given.kind.packing
        self._unpacker = Unpacker(raw, PACKINGS[packing], str(given.path)) if packing else None
        self._file = io.BufferedReader(self._unpacker) if self._unpacker else raw
        self._raw = raw
        self.taken = 0  # bytes, unpacked

    def close(self) -> None:
        self._raw.close()

    def read(self, limit: int) -> bytes:
        data = super().read(limit)
        self.taken += len(data)
        return data

    def read_line(self, limit: int) -> bytes:
        data = super().read_line(limit)
        self.taken += len(data)
        return data

    def file_bytes(self, num_bytes: int) -> float:
        """What so many unpacked bytes take in the file.

        Unpacks some more of a packed one: its pieces are too large to tell from a few of them.
        """
        if self._unpacker is None:
            return num_bytes
        while self.taken < RATIO_BYTES and self.read(READ_BYTES):
            pass
        return num_bytes * self._unpacker.packed_share()


class Sampler:
    """Takes the records. Raises DataError for a damaged file."""

    def __init__(self, files: list[InputFile], num_records: int, max_record_bytes: int):
        self.files, self.num_records, self.max_bytes = files, num_records, max_record_bytes
        self.sizes = {file.path: max(1, file.path.stat().st_size) for file in files}
        self.totals = Counter()  # [source] bytes
        self.sources = list(dict.fromkeys(file.source.path for file in files))
        for file in files:
            self.totals[self.sources.index(file.source.path)] += self.sizes[file.path]

    def samples(self) -> Iterator[Sample]:
        everything = self.totals.total()
        for number, (_, group) in enumerate(groupby(self.files, lambda f: f.source.path)):
            files = list(group)
            share = self.totals[number] / everything
            wanted = max(MIN_RECORDS, round(self.num_records * share))
            for sample in self._of_source(files, wanted, share * MAX_BYTES):
                sample.source = number
                if sample.records:
                    yield sample

    def _of_source(self, files, wanted: int, most_bytes: float) -> Iterator[Sample]:
        whole = [file for file in files if is_one_document(file)]
        parted = [file for file in files if not is_one_document(file)]
        of_whole = sum(self.sizes[file.path] for file in whole)
        share = of_whole / sum(self.sizes[file.path] for file in files)
        if whole:
            yield from self._documents(whole, max(1, round(wanted * share)), most_bytes * share)
        if parted:
            count = max(1, round(wanted * (1 - share)))
            yield from self._places(parted, count, most_bytes * (1 - share))

    def _documents(self, files, wanted: int, most_bytes: float) -> Iterator[Sample]:
        taken = 0
        for file in evenly(files, wanted):
            if taken > most_bytes:
                return
            taken += self.sizes[file.path]
            with closing(PlacedFile(file)) as opened:
                found = list(records_of_file(file, opened, self.max_bytes))
            yield Sample(0, file, found, self.sizes[file.path])

    def _places(self, files, wanted: int, most_bytes: float) -> Iterator[Sample]:
        """Records at evenly spread places of the files, end to end."""
        count = min(wanted, MAX_PLACES if all(map(can_seek, files)) else MAX_OPENED)
        begins = [0, *accumulate(self.sizes[file.path] for file in files)]
        places = [(2 * n + 1) * begins[-1] // (2 * count) for n in range(count)]
        of_file = [(bisect_right(begins, place) - 1, place) for place in places]
        for number, group in groupby(of_file, lambda pair: pair[0]):
            file, offsets = files[number], [place - begins[number] for _, place in group]
            each, rest = divmod(wanted, count)
            most = most_bytes / count
            if can_seek(file) and self.sizes[file.path] > WINDOW_BYTES:
                for offset in offsets:
                    yield self._at(file, offset, each + (rest > 0), most)
            else:
                number = round(len(offsets) * wanted / count)
                yield self._of_beginning(file, max(1, number), most * len(offsets))

    def _at(self, file: InputFile, offset: int, wanted: int, most_bytes: float) -> Sample:
        """Records that begin behind `offset`, or the first ones if there are none."""
        with closing(PlacedFile(file, offset)) as opened:
            if offset:
                opened.skip_line()
            if file.source.format == "text":  # What remains of a document is none.
                next(records_of_file(file, opened, self.max_bytes), None)
            begin, found = opened.taken, []
            for number, data in records_of_file(file, opened, self.max_bytes):
                found.append((number, data))
                if len(found) == wanted or opened.taken - begin > most_bytes:
                    break
            used = opened.taken - begin
        if not found and offset:
            return self._at(file, 0, wanted, most_bytes)
        return Sample(0, file, found, used, f"byte {offset}, record ")

    def _of_beginning(self, file, wanted: int, most_bytes: float) -> Sample:
        if file.kind.columns:
            with closing(read_batches([file], self.max_bytes, [])) as batches:
                batch = next(batches)
            rows, used, unit = batch.records, batch.source_bytes, batch.unit
        else:
            rows, used, unit = *self._window(file), ""
        chosen = evenly(rows, wanted)
        sizes = accumulate(map(length_of, chosen))
        fitting = sum(1 for _ in takewhile(lambda size: size <= most_bytes, sizes))
        chosen = chosen[: max(1, fitting)]
        return Sample(0, file, chosen, used * len(chosen) / max(1, len(rows)), unit)

    def _window(self, file: InputFile) -> tuple[list[Record], float]:
        """The records of a file's beginning, and the bytes of the file that they take."""
        found: list[Record] = []
        with closing(PlacedFile(file)) as opened:
            for record in records_of_file(file, opened, self.max_bytes):
                found.append(record)
                if opened.taken > WINDOW_BYTES:
                    taken = opened.taken
                    if not file.kind.by_line:  # What was read reaches into other records.
                        taken = sum(map(length_of, found)) + 2 * len(found)
                    return found, opened.file_bytes(taken)
        return found or [(1, EMPTY)], self.sizes[file.path]


def length_of(record: Record) -> int:
    return len(record[1]) if isinstance(record[1], bytes) else 0


def is_one_document(file: InputFile) -> bool:
    return file.source.format == "text" and file.source.separator is None


def can_seek(file: InputFile) -> bool:
    """Whether records can be found in the middle of a file."""
    is_plain = not file.kind.packing and not file.kind.columns
    return is_plain and (file.source.format == "text" or file.kind.by_line)


def evenly(items: list, count: int) -> list:
    """`count` of the items, or all, at equal distances."""
    if len(items) <= count:
        return items
    return [items[(2 * n + 1) * len(items) // (2 * count)] for n in range(count)]
