# SPDX-License-Identifier: Apache-2.0
"""Writes one token shard as FORMAT.md describes."""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from .atomic_file import published, temporary_path
from .spool import BLOCK_BYTES, Spool

FORMAT = "temper-tokens"
FORMAT_VERSION = 1
ALIGNMENT = 4096
FINGERPRINT_KEYS = (
    "format", "format_version", "kind", "vocab_size", "tokenizer_sha256", "chat_template_sha256",
    "eos_token_id", "num_tokens", "num_documents", "num_targets", "block_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class ShardIdentity:
    """What all documents of a shard have in common; see FORMAT.md for each field."""

    kind: str  # "pretrain" or "sft"
    vocab_size: int
    tokenizer_sha256: str
    chat_template: str  # empty for "pretrain"
    eos_token_id: int | None  # None: the tokenizer names none, as for some of kind "sft"
    tool_use_template: str = ""  # of conversations with tools, if the model has one for them

    @property
    def token_dtype(self) -> np.dtype:
        return np.dtype("<u2" if self.vocab_size <= 65536 else "<u4")


class ShardWriter:
    """Collects documents in temporary files beside `path`, then publishes the shard at once.

    Use as a context manager: leaving it removes the temporary files.
    """

    def __init__(self, path: Path, identity: ShardIdentity):
        self.path = path
        self.identity = identity
        self.num_tokens = 0
        self.num_documents = 0
        self.num_targets = 0
        self.length_counts: Counter[int] = Counter()  # Documents by how many tokens they have.
        names = ["tokens", "document_offsets"] + ["target_mask"] * (identity.kind == "sft")
        self._spools = {name: Spool(temporary_path(path, name)) for name in names}
        self._spools["document_offsets"].append(np.array([0], "<u8").tobytes())

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_) -> None:
        self.remove()

    def remove(self) -> None:
        """Removes the temporary files."""
        for spool in self._spools.values():
            spool.remove()

    def append(self, tokens: np.ndarray, lengths: np.ndarray, mask: np.ndarray | None) -> None:
        """Adds documents that lie end to end.

        Shapes: tokens [n], lengths [documents] with sum n and none 0, mask [n] (sft) or None.
        """
        offsets = self.num_tokens + np.cumsum(lengths, dtype="<u8")
        self._spools["tokens"].append(tokens.astype(self.identity.token_dtype).tobytes())
        self._spools["document_offsets"].append(offsets.astype("<u8").tobytes())
        if mask is None:
            self.num_targets += len(tokens) - len(lengths)
        else:
            self._spools["target_mask"].append(mask.astype(np.uint8).tobytes())
            self.num_targets += int(mask.sum(dtype=np.int64))
        self.num_tokens += len(tokens)
        self.num_documents += len(lengths)
        self.length_counts.update(Counter(lengths.tolist()))

    def publish(self, origin: str, end_of_turn_id: int | None = None) -> str:
        """Writes the shard and returns its fingerprint. Precondition: at least one document."""
        with published(self.path) as temporary:
            return self.write(temporary, origin, end_of_turn_id)

    def finish(self) -> None:
        """Closes the temporary files: no document comes after this."""
        for spool in self._spools.values():
            spool.finish()

    def write(self, path: Path, origin: str, end_of_turn_id: int | None) -> str:
        """Writes the shard to `path`, which nobody reads yet; else as `publish`."""
        digests = {name: spool.finish() for name, spool in self._spools.items()}
        attributes = self._attributes(end_of_turn_id)
        fingerprint = compute_fingerprint(attributes, list(digests.values()))
        attributes |= {"origin": origin, "fingerprint": fingerprint}
        with create_shard_file(path) as file:
            for name, value in attributes.items():
                write_attribute(file, name, value)
            for name, digest in digests.items():
                self._copy_payload(file, name)
                table = np.frombuffer(digest, np.uint8).reshape(-1, 32)
                create_contiguous(file, name + "_sha256", table.shape, table.dtype)[...] = table
        return fingerprint

    def _attributes(self, end_of_turn_id: int | None) -> dict[str, str | int]:
        template, for_tools = self.identity.chat_template, self.identity.tool_use_template
        eos_id = self.identity.eos_token_id
        optional: dict[str, str | int] = {}
        if end_of_turn_id is not None:
            optional["end_of_turn_id"] = end_of_turn_id
        if for_tools:
            optional["tool_use_template_sha256"] = sha256_of_text(for_tools)
        return optional | {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "kind": self.identity.kind,
            "vocab_size": self.identity.vocab_size,
            "tokenizer_sha256": self.identity.tokenizer_sha256,
            "chat_template_sha256": sha256_of_text(template) if template else "",
            "chat_template": template,
            "eos_token_id": next(i for i in (eos_id, end_of_turn_id, 0) if i is not None),
            "num_tokens": self.num_tokens,
            "num_documents": self.num_documents,
            "num_targets": self.num_targets,
            "block_bytes": BLOCK_BYTES,
        }

    def _copy_payload(self, file: h5py.File, name: str) -> None:
        dtypes = {"tokens": self.identity.token_dtype, "document_offsets": np.dtype("<u8")}
        dtype = dtypes.get(name, np.dtype(np.uint8))
        spool = self._spools[name]
        dataset = create_contiguous(file, name, (spool.num_bytes // dtype.itemsize,), dtype)
        begin = 0
        for block in spool.blocks():
            values = np.frombuffer(block, dtype)
            dataset[begin : begin + len(values)] = values
            begin += len(values)


def sha256_of_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def compute_fingerprint(attributes: dict[str, str | int], tables: list[bytes]) -> str:
    """The shard's identity: attributes, then the hash tables in the order of FORMAT.md."""
    lines = "".join(f"{key}={attributes[key]}\n" for key in FINGERPRINT_KEYS)
    return hashlib.sha256(lines.encode("utf-8") + b"".join(tables)).hexdigest()


def create_shard_file(path: Path) -> h5py.File:
    """An HDF5 file that Debian's 1.10.8 reads and whose bytes do not depend on the clock."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V110)
    access.set_alignment(ALIGNMENT, ALIGNMENT)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    identifier = h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, access)
    return h5py.File(identifier)


def create_contiguous(file: h5py.File, name: str, shape: tuple, dtype: np.dtype) -> h5py.Dataset:
    """A dataset without chunks, filters, times or fill writes."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    kind, space = h5py.h5t.py_create(dtype), h5py.h5s.create_simple(shape)
    return h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, space, creation))


def write_attribute(file: h5py.File, name: str, value: str | int) -> None:
    """Integers as int64, text as fixed-length NUL-padded UTF-8."""
    if isinstance(value, int):
        file.attrs.create(name, value, dtype="<i8")
        return
    data = value.encode("utf-8")
    dtype = h5py.string_dtype("utf-8", max(1, len(data)))
    file.attrs.create(name, np.array(data, dtype=f"S{max(1, len(data))}"), dtype=dtype)
