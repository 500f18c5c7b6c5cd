# SPDX-License-Identifier: Apache-2.0
"""Reads Parquet and Arrow files a few rows at a time.

Only the process of column_reader imports this module: pyarrow starts threads, and beside threads
the main process could not fork its workers.
"""

import io
import mmap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import DataError, printable

MAX_ROWS = 256  # most rows held at once; fewer where rows are large
SLICE_BYTES = 1 << 20  # what these rows may take, as far as the file tells
BUFFER_BYTES = 1 << 20  # read of a Parquet column at once, instead of its whole part of a row group
AGAIN = "copy the file again, or have it written again: what is torn cannot be read"
FLATTER = "write the file again with columns of fewer levels, or as JSON lines"
NESTED = ("deeply nested", "recursion depth")  # as pyarrow says it
SMALLER = "write the file again with smaller row groups or record batches, or as JSON lines"


@dataclass
class Place:
    """Where in a file the reader is."""

    file: str
    part: str = ""  # such as "row group 3 of 7"
    row: int = 0  # rows before

    def __str__(self) -> str:
        inside = f": {self.part}" if self.part else ""
        return self.file + inside + (f", behind row {self.row}" if self.row else "")


@dataclass(frozen=True)
class Slice:
    """Consecutive rows of a file."""

    rows: pa.RecordBatch
    first: int  # number of the first of them in the file, from 1
    done: float  # share of the file up to their end


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """Turns what pyarrow raises into a DataError that names the place."""
    try:
        yield
    except MemoryError as error:
        raise DataError(f"{place} needs too much memory: {summary(error)}", SMALLER) from error
    except OSError as error:
        if error.errno:
            problem = f"{place} cannot be read: {error.strerror}"
            raise DataError(problem, "look after the disk, or copy the file again") from error
        raise refusal(place, error) from error
    except (pa.ArrowException, ValueError, LookupError, OverflowError) as error:
        raise refusal(place, error) from error


def refusal(place: Place, error: Exception) -> DataError:
    """What pyarrow's own errors mean: mostly that the file is not whole."""
    if any(words in str(error) for words in NESTED):
        return DataError(f"{place} is beyond what pyarrow reads: {summary(error)}", FLATTER)
    return DataError(f"{place} is damaged: {summary(error)}", AGAIN)


def summary(error: BaseException) -> str:
    return printable((str(error).strip() or type(error).__name__).splitlines()[0])


def slices_of(file: io.FileIO, kind: str, place: Place) -> Iterator[Slice]:
    """All rows of a file, in order. Keeps `place` up to date. Raises DataError."""
    if kind == "parquet":
        yield from parquet_slices(file, place)
    else:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        yield from (arrow_stream if kind == "arrow stream" else arrow_file)(mapped, place)


def parquet_slices(file: io.FileIO, place: Place) -> Iterator[Slice]:
    place.part = "its footer"
    with explained(place):
        parquet = pq.ParquetFile(
            pa.PythonFile(file, "r"), pre_buffer=False, buffer_size=BUFFER_BYTES,
            page_checksum_verification=True,
        )  # fmt: skip
        check_names(parquet.schema_arrow, place)
        total, num_groups = parquet.metadata.num_rows, parquet.num_row_groups
    for number in range(num_groups):
        place.part = f"row group {number + 1} of {num_groups}"
        begin = place.row
        with explained(place):
            group = parquet.metadata.row_group(number)
            size = fitting_rows(group.total_byte_size, group.num_rows)
            batches = parquet.iter_batches(size, [number], use_threads=False)
        while (rows := next_of(batches, place)) is not None:
            first, place.row = place.row + 1, place.row + rows.num_rows
            yield Slice(rows, first, place.row / max(total, place.row, 1))
        if place.row - begin != group.num_rows:
            found = f"holds {place.row - begin} rows, and by its footer {group.num_rows}"
            raise DataError(f"{place.file}: {place.part} {found}", AGAIN)


def arrow_file(mapped: mmap.mmap, place: Place) -> Iterator[Slice]:
    place.part = "its footer"
    with explained(place):
        reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped)))
        check_names(reader.schema, place)
        total = reader.num_record_batches
    batches = map(reader.get_batch, range(total))
    for number in range(total):
        place.part = f"record batch {number + 1} of {total}"
        rows = next_of(batches, place)
        yield from parts_of(rows, mapped, place, (number / total, (number + 1) / total))


def arrow_stream(mapped: mmap.mmap, place: Place) -> Iterator[Slice]:
    source = pa.BufferReader(pa.py_buffer(mapped))
    place.part = "its schema"
    with explained(place):
        reader = pa.ipc.open_stream(source)
        check_names(reader.schema, place)
    number, done = 0, 0.0
    while True:
        number += 1
        place.part = f"record batch {number}"
        rows = next_of(reader, place)
        if rows is None:
            break
        before, done = done, source.tell() / len(mapped)
        yield from parts_of(rows, mapped, place, (before, done))
    if source.tell() != len(mapped):
        raise DataError(
            f"{place.file}: {len(mapped) - source.tell()} bytes stand behind the end of its stream",
            "if streams were put into one file, keep each in a file of its own",
        )


def parts_of(
    rows: pa.RecordBatch, mapped: mmap.mmap, place: Place, share: tuple[float, float]
) -> Iterator[Slice]:
    """A record batch in slices, of whose mapped pages none but those of one slice are held.

    `share` is how much of the file lies before the batch, and with it.
    """
    size = fitting_rows(rows.get_total_buffer_size(), rows.num_rows)
    for offset in range(0, rows.num_rows, size):
        part = rows.slice(offset, size)
        first, place.row = place.row + 1, place.row + part.num_rows
        inside = (offset + part.num_rows) / rows.num_rows
        yield Slice(part, first, share[0] + (share[1] - share[0]) * inside)
        mapped.madvise(mmap.MADV_DONTNEED)


def next_of(batches: Iterator[pa.RecordBatch], place: Place) -> pa.RecordBatch | None:
    with explained(place):
        return next(batches, None)


def fitting_rows(num_bytes: int, num_rows: int) -> int:
    """How many rows of such a size to hold at once; what a damaged file says may be anything."""
    return max(1, min(MAX_ROWS, SLICE_BYTES * num_rows // max(1, num_bytes)))


def check_names(schema: pa.Schema, place: Place) -> None:
    """Raises DataError where a row would not be an object with all columns."""
    double = [name for name, count in Counter(schema.names).items() if count > 1]
    if double:
        remedy = "rename one of them and write the file again"
        raise DataError(f"{place.file} has several columns named {printable(double[0])}", remedy)
