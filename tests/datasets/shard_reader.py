# SPDX-License-Identifier: Apache-2.0
"""A reader of token shards written from datasets/FORMAT.md alone; shares no code with the writer.

Each broken promise of the format is an AssertionError.
"""

import hashlib
import os
from pathlib import Path

import h5py
import numpy as np

INTEGERS = (
    "format_version", "vocab_size", "eos_token_id", "num_tokens", "num_documents", "num_targets",
    "block_bytes",
)  # fmt: skip
STRINGS = (
    "format", "kind", "tokenizer_sha256", "chat_template_sha256", "chat_template", "origin",
    "fingerprint",
)  # fmt: skip
OPTIONAL_INTEGERS, OPTIONAL_STRINGS = ("end_of_turn_id",), ("tool_use_template_sha256",)
LINES = (
    "format", "format_version", "kind", "vocab_size", "tokenizer_sha256", "chat_template_sha256",
    "eos_token_id", "num_tokens", "num_documents", "num_targets", "block_bytes",
)  # fmt: skip


class Shard:
    """A verified shard. Reads the payload by file offset, as the trainer does."""

    def __init__(self, path: Path):
        self.path = path
        with h5py.File(path, "r") as file:
            assert file.id.get_access_plist().get_libver_bounds() is not None
            self.attributes = {name: self.read_attribute(file, name) for name in file.attrs}
            optional = {*OPTIONAL_INTEGERS, *OPTIONAL_STRINGS}
            assert set(INTEGERS + STRINGS) == set(self.attributes) - optional
            self.payload = {name: self.read_dataset(file, name) for name in file}
        self.check_hashes()
        self.check_documents()

    def read_attribute(self, file, name: str):
        kind = file.attrs.get_id(name).get_type()
        assert file.attrs.get_id(name).shape == ()
        if name in INTEGERS + OPTIONAL_INTEGERS:
            assert kind.get_size() == 8 and kind.get_order() == h5py.h5t.ORDER_LE
            assert kind.get_sign() == h5py.h5t.SGN_2
            return int(file.attrs[name])
        assert not kind.is_variable_str()
        assert kind.get_cset() == h5py.h5t.CSET_UTF8 and kind.get_strpad() == h5py.h5t.STR_NULLPAD
        return bytes(file.attrs[name]).decode("utf-8")

    def read_dataset(self, file, name: str) -> np.ndarray:
        dataset = file[name]
        assert isinstance(file.get(name, getlink=True), h5py.HardLink)
        assert dataset.chunks is None and dataset.compression is None and not dataset.external
        assert not dataset.is_virtual and len(dataset.attrs) == 0
        offset, size = dataset.id.get_offset(), dataset.nbytes
        assert offset is not None and offset + size <= os.path.getsize(self.path)
        with open(self.path, "rb") as raw:
            raw.seek(offset)
            return np.frombuffer(raw.read(size), dataset.dtype).reshape(dataset.shape)

    def check_hashes(self) -> None:
        names = ["tokens", "document_offsets"] + ["target_mask"] * (self["kind"] == "sft")
        assert sorted(self.payload) == sorted(names + [name + "_sha256" for name in names])
        text = "".join(f"{key}={self[key]}\n" for key in LINES)
        whole = hashlib.sha256(text.encode())
        for name in names:
            data, step = self.payload[name].tobytes(), self["block_bytes"]
            blocks = [data[begin : begin + step] for begin in range(0, len(data), step)]
            table = self.payload[name + "_sha256"]
            assert table.dtype == np.uint8 and table.shape == (len(blocks), 32)
            for row, block in zip(table, blocks, strict=True):
                assert row.tobytes() == hashlib.sha256(block).digest(), name
            whole.update(table.tobytes())
        assert self["fingerprint"] == whole.hexdigest()

    def check_documents(self) -> None:
        tokens, offsets = self.payload["tokens"], self.payload["document_offsets"]
        assert self["format"] == "temper-tokens" and self["format_version"] == 1
        assert tokens.dtype == (np.dtype("<u2") if self["vocab_size"] <= 65536 else "<u4")
        assert offsets.dtype == np.dtype("<u8") and len(offsets) == self["num_documents"] + 1
        assert offsets[0] == 0 and offsets[-1] == len(tokens) == self["num_tokens"]
        assert (np.diff(offsets.astype(np.int64)) > 0).all()
        assert tokens.max() < self["vocab_size"] <= 1 << 31
        assert 0 <= self["eos_token_id"] < self["vocab_size"]
        assert 0 <= self.attributes.get("end_of_turn_id", 0) < self["vocab_size"]
        if self["kind"] == "pretrain":
            assert self["num_targets"] == self["num_tokens"] - self["num_documents"]
            assert self["chat_template"] == "" and self["chat_template_sha256"] == ""
            return
        mask = self.payload["target_mask"]
        assert mask.dtype == np.uint8 and mask.shape == tokens.shape and mask.max() == 1
        assert self["num_targets"] == mask.sum()
        assert not mask[offsets[:-1].astype(np.int64)].any()
        template = self["chat_template"].encode()
        assert self["chat_template_sha256"] == hashlib.sha256(template).hexdigest()

    def __getitem__(self, name: str):
        return self.attributes[name]

    def documents(self) -> list[list[int]]:
        """Token ids of each document."""
        return [part.tolist() for part in self.split(self.payload["tokens"])]

    def masks(self) -> list[list[int]]:
        return [part.tolist() for part in self.split(self.payload["target_mask"])]

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        return np.split(values, self.payload["document_offsets"][1:-1].astype(np.int64))
