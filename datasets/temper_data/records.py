# SPDX-License-Identifier: Apache-2.0
"""Cuts source files into records, in order, in batches, without ever holding a whole file."""

import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

from .column_reader import ColumnReader
from .errors import DataError, RecordRefusal
from .json_values import JsonCutter
from .recipe import InputFile, Source
from .source_file import READ_BYTES, LineFile, SourceFile

BATCH_BYTES = 1 << 19  # Enough work for a process to outweigh the way there and back.

# The line where a record begins, or the number of its row, and its bytes, or why it has none.
Record = tuple[int, bytes | RecordRefusal]

EMPTY = RecordRefusal("empty file", "holds no record")


@dataclass(frozen=True)
class Lines:
    """Whole lines end to end. Who works at them cuts them, so that the process that reads all
    files does no more than find where a batch may end."""

    data: bytes
    first: int  # number of the first line
    max_bytes: int  # of one

    def cut(self) -> list[Record]:
        """One record per line that is not blank."""
        found: list[Record] = []
        for number, line in enumerate(io.BytesIO(self.data), self.first):
            if len(line) > self.max_bytes and len(line.removesuffix(b"\n")) > self.max_bytes:
                found.append((number, too_large(self.max_bytes)))
            elif not line.isspace():
                found.append((number, line))
        return found


@dataclass
class Batch:
    """Consecutive records of one file."""

    file: str
    source: Source
    given: list[Record] | Lines
    source_bytes: int = 0  # read from the file since the batch before
    unit: str = ""  # what the records' numbers count: lines, or "row "

    @cached_property
    def records(self) -> list[Record]:
        return self.given.cut() if isinstance(self.given, Lines) else self.given

    def refuse(self, index: int, refusal: RecordRefusal) -> None:
        """Puts a refusal in the place of a record."""
        self.records[index] = (self.records[index][0], refusal)
        self.given = self.records

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
    name, before, is_empty = str(file.path), 0, True
    for records in groups_of_file(given, file, max_bytes):
        is_empty = False
        yield Batch(name, given.source, records, file.num_bytes - before)
        before = file.num_bytes
    if is_empty:
        yield Batch(name, given.source, [(1, EMPTY)], file.num_bytes)


def groups_of_file(
    given: InputFile, file: SourceFile, max_bytes: int
) -> Iterator[list[Record] | Lines]:
    """The records of each batch, of which there is at least one."""
    if is_by_line(given):
        for lines in blocks_of_lines(file, BATCH_BYTES, max_bytes):
            if not lines.data.isspace():
                yield lines
        return
    group, held = [], 0
    for number, data in records_of_file(given, file, max_bytes):
        group.append((number, data))
        held += len(data) if isinstance(data, bytes) else 0
        if held >= BATCH_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def is_by_line(given: InputFile) -> bool:
    return given.source.format != "text" and given.kind.by_line


def records_of_file(given: InputFile, file: SourceFile, max_bytes: int) -> Iterator[Record]:
    if is_by_line(given):
        for line in blocks_of_lines(file, 0, max_bytes):
            yield from line.cut()
    elif given.source.format != "text":
        yield from values(file, max_bytes)
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


def blocks_of_lines(file: LineFile, least: int, max_bytes: int) -> Iterator[Lines]:
    """All lines, in blocks of `least` bytes and what the last line of each has beyond."""
    number = 1
    while data := whole_lines(file, least, max_bytes):
        yield Lines(data, number, max_bytes)
        number += data.count(b"\n")


def whole_lines(file: LineFile, least: int, max_bytes: int) -> bytes:
    """The next lines; of a last one that is too long no more than shows it. Empty at the end."""
    data = file.read(least) if least else b""
    if data.endswith(b"\n"):
        return data
    begin = data.rfind(b"\n") + 1
    rest = file.read_line(max_bytes + 1)
    if len(data) - begin + len(rest) <= max_bytes or rest.endswith(b"\n"):
        return data + rest
    file.skip_line()
    return data[:begin] + (data[begin:] + rest)[: max_bytes + 1] + b"\n"


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
