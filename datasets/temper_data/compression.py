# SPDX-License-Identifier: Apache-2.0
"""Unpacks gzip, xz and zstd while they are read: all of a file, or an error that says where.

The libraries' own file objects pass over what is torn: those for xz and zstd end in silence at
garbage behind a stream, and the one for zstd in the middle of a frame.
"""

import io
import lzma
import zlib
from dataclasses import dataclass

import zstandard

from .errors import DataError

PIECE_BYTES = 1 << 16
# A block of four bytes may unpack to 128 KiB, and the library unpacks a piece whole: 32 MiB here.
ZSTD_PIECE_BYTES = 1 << 10
ZSTD_WINDOW = 1 << 31  # as zstd --long=31 writes it
XZ_MEMORY = 1 << 30  # xz -9 needs 65 MiB
SKIPPABLE = tuple(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16))  # zstd's frames of notes
COPY = "copy the file again, or pack it anew"


@dataclass(frozen=True)
class Packing:
    """One kind of compression: how its parts begin, what may stand behind a part."""

    name: str
    part: str  # its own name of what a file may hold several of
    magics: tuple[bytes, ...]
    padding: int  # Zeros between parts come in multiples of it; 0: not at all.
    piece_bytes: int = PIECE_BYTES


PACKINGS = {
    "gzip": Packing("gzip", "member", (b"\x1f\x8b",), 1),
    "xz": Packing("xz", "stream", (b"\xfd7zXZ\0",), 4),
    "zstd": Packing("zstd", "frame", (b"\x28\xb5\x2f\xfd", *SKIPPABLE), 0, ZSTD_PIECE_BYTES),
}


def packing_of(head: bytes) -> str:
    """The name of the packing that a file with these first bytes has, or ""."""
    return next((name for name, kind in PACKINGS.items() if head.startswith(kind.magics)), "")


class Part:
    """What a part's decompressor `_inner` says itself of the interface of lzma.LZMADecompressor."""

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


class GzipPart(Part):
    """One member of a gzip file."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail


class ZstdPart(Part):
    """One frame of a zstd file."""

    needs_input = True

    def __init__(self) -> None:
        unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        self._inner = unpacker.decompressobj(write_size=1 << 14)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """May return more than `max_length`; see ZSTD_PIECE_BYTES."""
        return self._inner.decompress(data)


def new_part(packing: Packing):
    if packing.name == "xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
    return GzipPart() if packing.name == "gzip" else ZstdPart()


class Unpacker(io.RawIOBase):
    """What a compressed file holds. Raises DataError for one that is damaged."""

    def __init__(self, packed: io.BufferedIOBase, packing: Packing, file: str):
        self._packed = packed
        self._packing = packing
        self._file = file
        self._input = b""  # read, not yet unpacked
        self._output = memoryview(b"")  # unpacked, not yet taken
        self._part = new_part(packing)
        self._number = 1  # of the part
        self._ended = False
        self._read = 0  # bytes of the packed file
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def packed_share(self) -> float:
        """Bytes of the packed file for each unpacked one, so far."""
        return self._read / max(1, self._unpacked)

    def readinto(self, buffer) -> int:
        if not self._output:
            self._output = memoryview(self._next())
        count = min(len(buffer), len(self._output))
        buffer[:count] = self._output[:count]
        self._output = self._output[count:]
        return count

    def _next(self) -> bytes:
        """Some unpacked bytes; none at the end of the file."""
        while not self._ended:
            if self._part.eof and not self._begin_part():
                break
            if not self._input and self._part.needs_input and not self._fill():
                raise self._damaged(f"it ends inside {self._packing.part} {self._number}")
            data, self._input = self._input, b""
            try:
                output = self._part.decompress(data, PIECE_BYTES)
            except (zlib.error, lzma.LZMAError, zstandard.ZstdError, MemoryError) as error:
                raise self._damaged(f"{self._packing.part} {self._number}: {error}") from error
            if output:
                self._unpacked += len(output)
                return output
        self._ended = True
        return b""

    def _fill(self) -> bool:
        data = self._packed.read(self._packing.piece_bytes)
        self._read += len(data)
        self._input += data
        return bool(data)

    def _begin_part(self) -> bool:
        """Passes to the part behind one that ended; False at the end of the file."""
        self._input = self._part.unused_data
        zeros = self._skip_padding()
        magics = self._packing.magics
        while len(self._input) < max(map(len, magics)) and self._fill():
            pass
        if self._packing.padding == 0 and zeros or zeros % (self._packing.padding or 1):
            raise self._damaged(f"{zeros} zeros behind {self._packing.part} {self._number}")
        if not self._input:
            return False
        if any(magic.startswith(self._input) for magic in magics if magic != self._input):
            raise self._damaged(f"it ends inside {self._packing.part} {self._number + 1}")
        if not self._input.startswith(magics):
            raise self._damaged(f"other bytes behind {self._packing.part} {self._number}")
        self._part = new_part(self._packing)
        self._number += 1
        return True

    def _skip_padding(self) -> int:
        zeros = 0
        while self._input or self._fill():
            rest = self._input.lstrip(b"\0")
            zeros += len(self._input) - len(rest)
            self._input = rest
            if rest:
                break
        return zeros

    def _damaged(self, what: str) -> DataError:
        place = f"before byte {self._read}, {self._unpacked} unpacked"
        return DataError(f"{self._file} is a damaged {self._packing.name} file: {what}; {place}",
                         COPY)  # fmt: skip
