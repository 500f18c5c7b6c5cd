# SPDX-License-Identifier: Apache-2.0
"""Reads token shards as FORMAT.md asks of a reader: what is wrong is refused, in words."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from .errors import DataError
from .shard_writer import FINGERPRINT_KEYS, FORMAT, FORMAT_VERSION, compute_fingerprint
from .spool import BLOCK_BYTES

REQUIRED = (*FINGERPRINT_KEYS, "chat_template", "origin", "fingerprint")
KEPT_BLOCKS = 4  # of each shard, in memory; 1 MiB each
DAMAGED = "copy it again from where it was made, or prepare it again"


class ShardFile:
    """One shard. Header and fingerprint are checked at once, each block when it is read.

    Memory: a few blocks, 4 MiB. Use as a context manager, or call `close`.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with h5py.File(path, "r", locking="best-effort") as file:
                self.attributes = {name: read_attribute(file, name) for name in file.attrs}
                self._check_attributes()
                self._layout = {name: self._find(file, name) for name in self._names()}
                tables = [file[name + "_sha256"][...].tobytes() for name in self._names()]
        except (OSError, KeyError, RuntimeError, ValueError, UnicodeDecodeError) as error:
            raise self._refusal(f"is no whole token shard: {error}") from error
        if compute_fingerprint(self.attributes, tables) != self.attributes["fingerprint"]:
            raise self._refusal("has another fingerprint than its content")
        self._tables = dict(zip(self._names(), tables, strict=True))
        self._blocks: dict[tuple[str, int], bytes] = {}
        self._file = open(path, "rb")

    def __enter__(self) -> "ShardFile":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def kind(self) -> str:
        return self.attributes["kind"]

    @property
    def num_documents(self) -> int:
        return self.attributes["num_documents"]

    @property
    def num_tokens(self) -> int:
        return self.attributes["num_tokens"]

    def offsets(self, begin: int, end: int) -> np.ndarray:
        """Where documents begin. Shapes: int64 [end - begin], of the num_documents + 1."""
        found = self._read("document_offsets", begin, end).astype(np.int64)
        ascend = (np.diff(found) > 0).all() and found[0] >= 0 and found[-1] <= self.num_tokens
        if not ascend:
            raise self._refusal(f"has document offsets out of order, of documents from {begin}")
        return found

    def tokens(self, begin: int, end: int) -> np.ndarray:
        """Shapes: uint32 [end - begin]."""
        found = self._read("tokens", begin, end).astype(np.uint32)
        if len(found) and found.max() >= self.attributes["vocab_size"]:
            raise self._refusal(f"has token {found.max()}, above its vocabulary")
        return found

    def mask(self, begin: int, end: int) -> np.ndarray:
        """1 for targets, for tokens that begin no document. Shapes: uint8 [end - begin]."""
        if self.kind == "sft":
            return self._read("target_mask", begin, end)
        return np.ones(end - begin, np.uint8)

    def document(self, number: int, first: int = 0, most: int | None = None) -> tuple:
        """Ids and mask of a document's tokens from `first` on, and how many it has altogether."""
        begin, end = self.offsets(number, number + 2).tolist()
        last = end if most is None else min(end, begin + first + most)
        mask = self.mask(begin + first, last)
        if self.kind != "sft" and first == 0:
            mask[0] = 0
        return self.tokens(begin + first, last), mask, end - begin

    def pieces(self, most: int = 1 << 16) -> Iterator[np.ndarray]:
        """Offsets of all documents, `most` documents at a time, each with the end of the last."""
        for begin in range(0, self.num_documents, most):
            yield self.offsets(begin, min(begin + most, self.num_documents) + 1)

    def _names(self) -> list[str]:
        return ["tokens", "document_offsets"] + ["target_mask"] * (self.kind == "sft")

    def _check_attributes(self) -> None:
        missing = [name for name in REQUIRED if name not in self.attributes]
        if missing:
            raise self._refusal(f"has no attribute {missing[0]}: it is no token shard")
        found = (self.attributes["format"], self.attributes["format_version"])
        if found != (FORMAT, FORMAT_VERSION):
            raise DataError(
                f"{self.path} is of format {found[0]} {found[1]}; this program reads "
                f"{FORMAT} {FORMAT_VERSION}",
                "use the version of temper that made it, or prepare it again",
            )
        if self.kind not in ("pretrain", "sft") or self.attributes["block_bytes"] != BLOCK_BYTES:
            raise self._refusal("is of another kind or block size than the format has")

    def _find(self, file: h5py.File, name: str) -> tuple[int, np.dtype, int]:
        """Where a dataset's payload lies in the file, its type and length."""
        dataset = file[name]
        lengths = {"document_offsets": self.num_documents + 1}
        wide = self.attributes["vocab_size"] > 65536
        types = {"tokens": "<u4" if wide else "<u2", "document_offsets": "<u8"}
        dtype, length = np.dtype(types.get(name, "u1")), lengths.get(name, self.num_tokens)
        offset = dataset.id.get_offset()
        if dataset.dtype != dtype or dataset.shape != (length,) or offset is None:
            raise ValueError(f"{name} has another type, shape or layout than the format says")
        if offset + length * dtype.itemsize > os.path.getsize(self.path):
            raise ValueError(f"its end is missing, within {name}")
        num_blocks = -(-length * dtype.itemsize // BLOCK_BYTES)
        if file[name + "_sha256"].shape != (num_blocks, 32):
            raise ValueError(f"{name}_sha256 has another shape than the format says")
        return offset, dtype, length

    def _read(self, name: str, begin: int, end: int) -> np.ndarray:
        _, dtype, length = self._layout[name]
        if not 0 <= begin <= end <= length:
            raise IndexError(f"{name} has {length} values; wanted were {begin} to {end}")
        first, last = begin * dtype.itemsize, end * dtype.itemsize
        parts = []
        while first < last:
            number, within = divmod(first, BLOCK_BYTES)
            part = self._block(name, number)[within : within + last - first]
            parts.append(part)
            first += len(part)
        return np.frombuffer(bytearray(b"".join(parts)), dtype)

    def _block(self, name: str, number: int) -> bytes:
        """A block whose hash is right."""
        if (name, number) in self._blocks:
            return self._blocks[name, number]
        offset, dtype, length = self._layout[name]
        begin = number * BLOCK_BYTES
        size = min(BLOCK_BYTES, length * dtype.itemsize - begin)
        data = os.pread(self._file.fileno(), size, offset + begin)
        digest = self._tables[name][32 * number : 32 * number + 32]
        if len(data) != size or hashlib.sha256(data).digest() != digest:
            raise self._refusal(f"is damaged: block {number} of {name} has another hash")
        if len(self._blocks) >= KEPT_BLOCKS:
            del self._blocks[next(iter(self._blocks))]
        self._blocks[name, number] = data
        return data

    def _refusal(self, problem: str) -> DataError:
        return DataError(f"{self.path} {problem}", DAMAGED)


def read_attribute(file: h5py.File, name: str) -> int | str:
    value = file.attrs[name]
    return bytes(value).decode("utf-8") if isinstance(value, bytes) else int(value)
