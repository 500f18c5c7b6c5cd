# SPDX-License-Identifier: Apache-2.0
"""A process that reads files of columns and hands over their rows as JSON.

A damaged file may crash the library that reads it; so it does that in a process of its own, which
also takes the work of the conversion from the main one.
"""

import faulthandler
import hashlib
import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from .child_process import ChildProcess, begin_child
from .errors import DataError, RecordRefusal
from .limits import bounded_memory
from .source_file import require_same

Rows = list[tuple[int, bytes | RecordRefusal]]  # number of each row, from 1, and its JSON

MEMORY_BYTES = 4 << 30  # for one file, beside what is mapped of it; arbitrary, far above need
REFUSAL_BYTES = 200  # what a row without JSON takes of a batch, about


class ColumnReader:
    """The process, which begins with the first file, and the pipe to it."""

    def __init__(self, max_record_bytes: int, batch_bytes: int):
        self._limits = (max_record_bytes, batch_bytes)
        self._child: ChildProcess | None = None

    def read(self, path: Path, kind: str, described: list[dict]) -> Iterator[tuple[Rows, int]]:
        """Batches of rows with the bytes of the file that each stands for.

        Adds what the file was to `described`. Raises DataError.
        """
        if self._child is None:
            self._child = ChildProcess(serve, *self._limits)
        self._child.pipe.send((path, kind))
        place = str(path)
        while True:
            try:
                message = self._child.pipe.recv()
            except (EOFError, OSError):
                raise self._died(place) from None
            if isinstance(message, DataError):
                raise message
            if isinstance(message, dict):
                described.append(message)
                return
            rows, num_bytes, place = message
            yield rows, num_bytes

    def _died(self, place: str) -> DataError:
        code = self._child.exit_code()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return DataError(
            f"the process that reads {place} ended by {how}",
            "the file is likely damaged, or memory was short: copy the file again, "
            "write it with smaller row groups, or write it as JSON lines",
        )

    def close(self) -> None:
        if self._child is not None:
            self._child.end()


def serve(pipe, max_record_bytes: int, batch_bytes: int) -> None:
    """The life of the process."""
    faulthandler.disable()  # The main process says how this one ended.
    begin_child()
    while True:
        path, kind = pipe.recv()
        try:
            for message in messages_of(path, kind, max_record_bytes, batch_bytes):
                pipe.send(message)
        except DataError as error:
            pipe.send(error)
        except OSError as error:
            problem = f"{path}: {error.strerror or error}"
            pipe.send(DataError(problem, "make the file readable, or copy it again"))
        except Exception as error:  # A kind of damage that nobody thought of.
            problem = f"{path}: {type(error).__name__}: {error}"
            pipe.send(DataError(problem, "copy the file again, or write it as JSON lines"))


def messages_of(path: Path, kind: str, max_record_bytes: int, batch_bytes: int) -> Iterator:
    """Batches, then what the file was. The former depend on the file alone."""
    from .column_slices import Place, explained, slices_of  # Here alone; see there.
    from .column_values import json_rows

    place = Place(str(path))
    with open(path, "rb", buffering=0) as file, bounded_memory(MEMORY_BYTES + path.stat().st_size):
        before = os.fstat(file.fileno())
        rows: Rows = []
        held = sent = 0
        for piece in slices_of(file, kind, place):
            with explained(place):
                found = list(json_rows(piece, max_record_bytes))
            rows += found
            held += sum(len(d) if isinstance(d, bytes) else REFUSAL_BYTES for _, d in found)
            if held >= batch_bytes:
                done = int(piece.done * before.st_size)
                yield rows, done - sent, str(place)
                rows, held, sent = [], 0, done
        yield rows, before.st_size - sent, str(place)
        yield describe(path, file, before)


def describe(path: Path, file: io.FileIO, before: os.stat_result) -> dict:
    """What the file was. Raises DataError if it changed while it was read."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    require_same(path, before)
    return {"file": str(path), "bytes": before.st_size, "sha256": digest}
