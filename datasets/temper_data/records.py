# SPDX-License-Identifier: Apache-2.0
"""Cuts source files into records, in order, in batches, without ever holding a whole file."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .errors import DataError
from .recipe import Source

BATCH_BYTES = 1 << 19  # Enough work for a process to outweigh the way there and back.
SKIP_BYTES = 1 << 20


@dataclass
class Batch:
    """Consecutive records of one file."""

    file: str
    source: Source
    records: list[tuple[int, bytes | None]] = field(default_factory=list)  # line, or None: too long
    source_bytes: int = 0  # read from the file since the batch before


class SourceFile:
    """One file being read; counts and hashes what passes."""

    def __init__(self, path: Path):
        self.path = path
        self.num_bytes = 0
        self._hash = hashlib.sha256()
        self._file = open(path, "rb", buffering=SKIP_BYTES)

    def read(self, limit: int) -> bytes:
        return self._account(self._file.read(limit))

    def read_line(self, limit: int) -> bytes:
        """The next line with its end, at most `limit` bytes of it; empty at the end of file."""
        return self._account(self._file.readline(limit))

    def skip_line(self) -> None:
        """Passes over the rest of a line."""
        while data := self.read_line(SKIP_BYTES):
            if data.endswith(b"\n"):
                return

    def finish(self) -> dict:
        """Closes the file and says what it was. Raises DataError if it changed meanwhile."""
        self._file.close()
        if self.path.stat().st_size != self.num_bytes:
            raise DataError(f"{self.path} changed while it was read", "prepare again when it rests")
        digest = self._hash.hexdigest()
        return {"file": str(self.path), "bytes": self.num_bytes, "sha256": digest}

    def _account(self, data: bytes) -> bytes:
        self.num_bytes += len(data)
        self._hash.update(data)
        return data


def read_batches(
    files: list[tuple[Source, Path]], max_bytes: int, described: list[dict]
) -> Iterator[Batch]:
    """Yields the records of all files in order and adds each finished file to `described`.

    Raises DataError for a file that cannot be read.
    """
    for source, path in files:
        try:
            file = SourceFile(path)
            yield from batches_of_file(source, file, max_bytes)
            described.append(file.finish())
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}", "make the file readable") from error


def batches_of_file(source: Source, file: SourceFile, max_bytes: int) -> Iterator[Batch]:
    """Batches depend on the file alone, so any number of workers sees the same ones."""
    batch, held, before = Batch(str(file.path), source), 0, 0
    for line, data in records_of_file(source, file, max_bytes):
        batch.records.append((line, data))
        held += 0 if data is None else len(data)
        if held >= BATCH_BYTES:
            batch.source_bytes = file.num_bytes - before
            yield batch
            batch, held, before = Batch(str(file.path), source), 0, file.num_bytes
    batch.source_bytes = file.num_bytes - before
    yield batch


def records_of_file(
    source: Source, file: SourceFile, max_bytes: int
) -> Iterator[tuple[int, bytes | None]]:
    """(line where it begins, bytes) of each record; None instead of a record above `max_bytes`."""
    if source.format != "text":
        yield from lines(file, max_bytes)
    elif source.separator is None:
        yield whole(file, max_bytes)
    else:
        yield from separated(file, source.separator.encode("utf-8"), max_bytes)


def whole(file: SourceFile, max_bytes: int) -> tuple[int, bytes | None]:
    data = file.read(max_bytes + 1)
    if len(data) <= max_bytes:
        return 1, data
    while file.read(SKIP_BYTES):
        pass
    return 1, None


def lines(file: SourceFile, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """One record per line that is not blank."""
    number = 0
    while data := file.read_line(max_bytes + 1):
        number += 1
        if len(data) > max_bytes and not data.endswith(b"\n"):
            file.skip_line()
            yield number, None
        elif data.strip():
            yield number, data


def separated(
    file: SourceFile, separator: bytes, max_bytes: int
) -> Iterator[tuple[int, bytes | None]]:
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
            yield begin, b"".join(parts) if held <= max_bytes else None
        parts, begin, held = [], number + 1, 0
    if held:
        yield begin, b"".join(parts) if held <= max_bytes else None
