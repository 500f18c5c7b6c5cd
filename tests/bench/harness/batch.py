# SPDX-License-Identifier: Apache-2.0
"""The one batch that all systems train on: the first rows of a real token shard."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "datasets"))

from temper_data.errors import DataError  # noqa: E402
from temper_data.shard_writer import ShardIdentity, ShardWriter  # noqa: E402

NO_TARGET = -100  # As PyTorch's cross-entropy ignores it.


@dataclass(frozen=True)
class Batch:
    """Rows of packed documents. Shapes: tokens, labels, positions [rows, row_tokens] int64."""

    tokens: np.ndarray
    labels: np.ndarray  # The token itself; NO_TARGET where a document, or piece, begins.
    positions: np.ndarray  # Restart at 0 with each document, or piece of one.

    @property
    def num_targets(self) -> int:
        return int((self.labels != NO_TARGET).sum())

    @property
    def num_documents(self) -> int:
        return int((self.positions == 0).sum())


def read_identity(file: h5py.File, path: Path, model: Path) -> ShardIdentity:
    """What the shard says about itself. Raises DataError if it does not suit the benchmark."""
    text = {key: file.attrs[key].decode() for key in ("kind", "tokenizer_sha256")}
    if text["kind"] != "pretrain":
        raise DataError(f"{path} is of kind {text['kind']}", "name a pretrain shard with --shard")
    found = hashlib.sha256((model / "tokenizer.json").read_bytes()).hexdigest()
    if found != text["tokenizer_sha256"]:
        raise DataError(
            f"{path} was made with another tokenizer than that of {model}",
            "prepare the data with this model, or name another --model",
        )
    return ShardIdentity(
        kind="pretrain",
        vocab_size=int(file.attrs["vocab_size"]),
        tokenizer_sha256=found,
        chat_template="",
        eos_token_id=int(file.attrs["eos_token_id"]),
    )


def cut_batch(tokens: np.ndarray, offsets: np.ndarray, rows: int, row_tokens: int) -> Batch:
    """The first rows of documents laid end to end; what the end of a row cuts begins anew."""
    indices = np.arange(rows * row_tokens)
    begins = np.union1d(offsets[offsets < len(indices)].astype(np.int64), indices[::row_tokens])
    positions = indices - begins[np.searchsorted(begins, indices, side="right") - 1]
    labels = np.where(positions == 0, NO_TARGET, tokens)
    shape = (rows, row_tokens)
    return Batch(*(array.reshape(shape) for array in (tokens, labels, positions)))


def write_shard(path: Path, batch: Batch, identity: ShardIdentity) -> None:
    """The batch as a shard, whose rows temper can cut in one way only."""
    begins = np.flatnonzero(batch.positions.reshape(-1) == 0)
    lengths = np.diff(np.append(begins, batch.tokens.size))
    with ShardWriter(path, identity) as writer:
        writer.append(batch.tokens.reshape(-1), lengths, None)
        writer.publish('{"program": "tests/bench/step"}')


def prepare_batch(shard: Path, model: Path, rows: int, row_tokens: int, folder: Path) -> Batch:
    """Reads the batch and leaves it in `folder` as batch.npz and batch.h5. Raises DataError."""
    for path in (shard, model / "config.json", model / "tokenizer.json"):
        if not path.is_file():
            raise DataError(
                f"{path} does not exist", "run launch/quickstart once, or name --shard and --model"
            )
    num_tokens = rows * row_tokens
    with h5py.File(shard, "r") as file:
        identity = read_identity(file, shard, model)
        if file["tokens"].shape[0] < num_tokens:
            raise DataError(f"{shard} has fewer than {num_tokens} tokens", "name a larger --shard")
        tokens = file["tokens"][:num_tokens].astype(np.int64)
        batch = cut_batch(tokens, file["document_offsets"][:], rows, row_tokens)
    arrays = {"tokens": batch.tokens, "labels": batch.labels, "positions": batch.positions}
    np.savez(folder / "batch.npz", **arrays)
    write_shard(folder / "batch.h5", batch, identity)
    return batch
