# SPDX-License-Identifier: Apache-2.0
"""A source file that is read from beginning to end: unpacked, hashed, and watched for changes."""

import hashlib
import io
import os
from pathlib import Path

from .compression import PACKINGS, Unpacker
from .errors import DataError

READ_BYTES = 1 << 20


class HashedFile(io.RawIOBase):
    """A file that counts and hashes what is read of it."""

    def __init__(self, path: Path):
        self.num_bytes = 0
        self._hash = hashlib.sha256()
        self._file = open(path, "rb", buffering=0)
        self.before = os.fstat(self._file.fileno())

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


class LineFile:
    """Reads `_file` by bytes or by lines."""

    _file: io.BufferedIOBase

    def read(self, limit: int) -> bytes:
        return self._file.read(limit)

    def read_line(self, limit: int) -> bytes:
        """The next line with its end, at most `limit` bytes of it; empty at the end of file."""
        return self._file.readline(limit)

    def skip_line(self) -> None:
        """Passes over the rest of a line."""
        while data := self.read_line(READ_BYTES):
            if data.endswith(b"\n"):
                return


class SourceFile(LineFile):
    """One file being read, unpacked if it is compressed."""

    def __init__(self, path: Path, packing: str = ""):
        self.path = path
        self._raw = HashedFile(path)
        self._file = io.BufferedReader(self._raw, READ_BYTES)
        if packing:
            unpacker = Unpacker(self._file, PACKINGS[packing], str(path))
            self._file = io.BufferedReader(unpacker, READ_BYTES)

    @property
    def num_bytes(self) -> int:
        """Read from the disk so far."""
        return self._raw.num_bytes

    def finish(self) -> dict:
        """Closes the file and says what it was. Raises DataError if it changed meanwhile."""
        self._file.close()
        digest, num_bytes = self._raw.digest(), self._raw.num_bytes
        self._raw.close()
        require_same(self.path, self._raw.before)
        return {"file": str(self.path), "bytes": num_bytes, "sha256": digest}


def require_same(path: Path, before: os.stat_result) -> None:
    """Raises DataError if the file at `path` is not as it was `before`."""
    now = os.stat(path)
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise DataError(f"{path} changed while it was read", "prepare again when it rests")
