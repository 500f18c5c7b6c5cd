# SPDX-License-Identifier: Apache-2.0
"""Cuts source files into records, in order, in batches, without ever holding a whole file."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .errors import DataError, RecordRefusal
from .json_values import JsonCutter
from .recipe import InputFile, Source

BATCH_BYTES = 1 << 19  # Enough work for a process to outweigh the way there and back.
SKIP_BYTES = 1 << 20

Record = tuple[int, bytes | RecordRefusal]  # the line where it begins, and its bytes, or why none


@dataclass
class Batch:
    """Consecutive records of one file."""

    file: str
    source: Source
    records: list[Record] = field(default_factory=list)
    source_bytes: int = 0  # read from the file since the batch before


class HashedFile(io.RawIOBase):
    """A file that counts and hashes what is read of it."""

    def __init__(self, path: Path):
        self.num_bytes = 0
        self._hash = hashlib.sha256()
        self._file = open(path, "rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._file.readinto(buffer)
        self.num_bytes += count
        self._hash.update(memoryview(buffer)[:count])
        return count

    def digest(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        self._file.close()
        super().close()


class SourceFile:
    """One file being read, unpacked if it is compressed."""

    def __init__(self, path: Path, gzipped: bool = False):
        self.path = path
        self._raw = HashedFile(path)
        self._file = io.BufferedReader(self._raw, SKIP_BYTES)
        if gzipped:
            self._file = io.BufferedReader(gzip.GzipFile(fileobj=self._file), SKIP_BYTES)

    @property
    def num_bytes(self) -> int:
        """Read from the disk so far."""
        return self._raw.num_bytes

    def read(self, limit: int) -> bytes:
        return self._file.read(limit)

    def read_line(self, limit: int) -> bytes:
        """The next line with its end, at most `limit` bytes of it; empty at the end of file."""
        return self._file.readline(limit)

    def skip_line(self) -> None:
        """Passes over the rest of a line."""
        while data := self.read_line(SKIP_BYTES):
            if data.endswith(b"\n"):
                return

    def finish(self) -> dict:
        """Closes the file and says what it was. Raises DataError if it changed meanwhile."""
        self._file.close()
        digest, num_bytes = self._raw.digest(), self._raw.num_bytes
        self._raw.close()
        if self.path.stat().st_size != num_bytes:
            raise DataError(f"{self.path} changed while it was read", "prepare again when it rests")
        return {"file": str(self.path), "bytes": num_bytes, "sha256": digest}


def read_batches(
    files: list[InputFile], max_bytes: int, described: list[dict]
) -> Iterator[Batch]:
    """Yields the records of all files in order and adds each finished file to `described`.

    Raises DataError for a file that cannot be read.
    """
    for given in files:
        try:
            file = SourceFile(given.path, given.kind.gzipped)
            yield from batches_of_file(given, file, max_bytes)
            described.append(file.finish())
        except OSError as error:
            problem = f"{given.path}: {error.strerror or error}"
            raise DataError(problem, "make the file readable, or copy it again") from error
        except (EOFError, zlib.error) as error:
            problem = f"{given.path} is a damaged gzip file: {error}"
            raise DataError(problem, "copy the file again") from error


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
        batch.records.append((1, RecordRefusal("empty file", "holds no record")))
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
    while file.read(SKIP_BYTES):
        pass
    return 1, too_large(max_bytes)


def values(file: SourceFile, max_bytes: int) -> Iterator[Record]:
    """One record per object, wherever line breaks are; also the elements of an array."""
    cutter = JsonCutter(max_bytes, too_large(max_bytes))
    while data := file.read(SKIP_BYTES):
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
