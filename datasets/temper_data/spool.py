# SPDX-License-Identifier: Apache-2.0
"""A growing payload on disk: HDF5 wants to know a contiguous dataset's size before its data."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .atomic_file import discard

BLOCK_BYTES = 1048576


class Spool:
    """Bytes appended to a temporary file, with the SHA-256 of each block of BLOCK_BYTES.

    Memory use does not grow with the data, apart from 32 bytes per MiB.
    """

    def __init__(self, path: Path):
        self.path = path
        self.num_bytes = 0
        self._file: BinaryIO = open(path, "wb", buffering=BLOCK_BYTES)
        self._digests: list[bytes] = []
        self._open_block = hashlib.sha256()
        self._room = BLOCK_BYTES

    def append(self, data: bytes) -> None:
        self._file.write(data)
        self.num_bytes += len(data)
        view = memoryview(data)
        while view:
            part = view[: self._room]
            self._open_block.update(part)
            self._room -= len(part)
            view = view[len(part) :]
            if self._room == 0:
                self._close_block()

    def finish(self) -> bytes:
        """Closes the file and returns the digests, 32 bytes per block, end to end."""
        if self._room < BLOCK_BYTES:
            self._close_block()
        self._file.close()
        return b"".join(self._digests)

    def blocks(self) -> Iterator[bytes]:
        """Yields the payload again in order, in pieces of at most BLOCK_BYTES."""
        with open(self.path, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def remove(self) -> None:
        discard(self._file, self.path)

    def _close_block(self) -> None:
        self._digests.append(self._open_block.digest())
        self._open_block = hashlib.sha256()
        self._room = BLOCK_BYTES
