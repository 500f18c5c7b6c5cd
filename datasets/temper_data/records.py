# SPDX-License-Identifier: Apache-2.0
"""Cuts source files into records, in order, in batches, without ever holding a whole file."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from .column_reader import ColumnReader
from .errors import DataError, RecordRefusal
from .json_values import JsonCutter
from .recipe import InputFile, Source
from .source_file import READ_BYTES, SourceFile

BATCH_BYTES = 1 << 19  # Enough work for a process to outweigh the way there and back.

# The line where a record begins, or the number of its row, and its bytes, or why it has none.
Record = tuple[int, bytes | RecordRefusal]

EMPTY = RecordRefusal("empty file", "holds no record")


@dataclass
class Batch:
    """Consecutive records of one file."""

    file: str
    source: Source
    records: list[Record] = field(default_factory=list)
    source_bytes: int = 0  # read from the file since the batch before
    unit: str = ""  # what the records' numbers count: lines, or "row "

    def place(self, number: int) -> str:
        """Where the record with this number is, for messages."""
        return f"{self.file}:{self.unit}{number}"


def read_batches(
    files: list[InputFile], max_bytes: int, described: list[dict]
) -> Iterator[Batch]:
    """Yields the records of all files in order and adds each finished file to `described`.

    Raises DataError for a file that cannot be read.
    """
    with closing(ColumnReader(max_bytes, BATCH_BYTES)) as reader:
        for given in files:
            if given.kind.columns:
                yield from batches_of_columns(given, reader, described)
                continue
            try:
                file = SourceFile(given.path, given.kind.packing)
                yield from batches_of_file(given, file, max_bytes)
                described.append(file.finish())
            except OSError as error:
                problem = f"{given.path}: {error.strerror or error}"
                raise DataError(problem, "make the file readable, or copy it again") from error


def batches_of_columns(
    given: InputFile, reader: ColumnReader, described: list[dict]
) -> Iterator[Batch]:
    """As of a file of lines. Rows are JSON objects like those."""
    name, found = str(given.path), 0
    for rows, num_bytes in reader.read(given.path, given.kind.columns, described):
        found += len(rows)
        if rows:
            yield Batch(name, given.source, rows, num_bytes, "row ")
    if not found:
        yield Batch(name, given.source, [(1, EMPTY)])


def batches_of_file(given: InputFile, file: SourceFile, max_bytes: int) -> Iterator[Batch]:
    """Batches depend on the file alone, so any number of workers sees the same ones."""
    name, found = str(file.path), 0
    batch, held, before = Batch(name, given.source), 0, 0
    for line, data in records_of_file(given, file, max_bytes):
        batch.records.append((line, data))
        found += 1
        held += len(data) if isinstance(data, bytes) else 0
        if held >= BATCH_BYTES:
            batch.source_bytes = file.num_bytes - before
            yield batch
            batch, held, before = Batch(name, given.source), 0, file.num_bytes
    if not found:
        batch.records.append((1, EMPTY))
    batch.source_bytes = file.num_bytes - before
    yield batch


def records_of_file(given: InputFile, file: SourceFile, max_bytes: int) -> Iterator[Record]:
    if given.source.format != "text":
        yield from lines(file, max_bytes) if given.kind.by_line else values(file, max_bytes)
    elif given.source.separator is None:
        yield whole(file, max_bytes)
    else:
        yield from separated(file, given.source.separator.encode("utf-8"), max_bytes)


def too_large(max_bytes: int) -> RecordRefusal:
    return RecordRefusal("record too large", f"more than max_record_bytes={max_bytes} bytes")


def whole(file: SourceFile, max_bytes: int) -> Record:
    data = file.read(max_bytes + 1)
    if len(data) <= max_bytes:
        return 1, data
    while file.read(READ_BYTES):
        pass
    return 1, too_large(max_bytes)


def values(file: SourceFile, max_bytes: int) -> Iterator[Record]:
    """One record per object, wherever line breaks are; also the elements of an array."""
    cutter = JsonCutter(max_bytes, too_large(max_bytes))
    while data := file.read(READ_BYTES):
        yield from cutter.cut(data)
    yield from cutter.finish()


def lines(file: SourceFile, max_bytes: int) -> Iterator[Record]:
    """One record per line that is not blank."""
    number = 0
    while data := file.read_line(max_bytes + 1):
        number += 1
        if len(data) > max_bytes and not data.endswith(b"\n"):
            file.skip_line()
            yield number, too_large(max_bytes)
        elif data.strip():
            yield number, data


def separated(file: SourceFile, separator: bytes, max_bytes: int) -> Iterator[Record]:
    """Records between lines that equal `separator`; runs of separators make no record."""
    parts: list[bytes] = []
    number, begin, held = 0, 1, 0
    while data := file.read_line(max_bytes + 1):
        number += 1
        if not data.endswith(b"\n") and len(data) > max_bytes:
            file.skip_line()
        if data.rstrip(b"\r\n") != separator:
            held += len(data)
            if held <= max_bytes:
                parts.append(data)
            continue
        if held:
            yield begin, b"".join(parts) if held <= max_bytes else too_large(max_bytes)
        parts, begin, held = [], number + 1, 0
    if held:
        yield begin, b"".join(parts) if held <= max_bytes else too_large(max_bytes)
