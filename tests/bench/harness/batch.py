# SPDX-License-Identifier: Apache-2.0
"""The one batch that all systems train on: the first rows of a real token shard."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from shard import DataError, open_shard, read_identity, write_shard

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


def cut_batch(tokens: np.ndarray, offsets: np.ndarray, rows: int, row_tokens: int) -> Batch:
    """The first rows of documents laid end to end; what the end of a row cuts begins anew."""
    indices = np.arange(rows * row_tokens)
    begins = np.union1d(offsets[offsets < len(indices)].astype(np.int64), indices[::row_tokens])
    positions = indices - begins[np.searchsorted(begins, indices, side="right") - 1]
    labels = np.where(positions == 0, NO_TARGET, tokens)
    shape = (rows, row_tokens)
    return Batch(*(array.reshape(shape) for array in (tokens, labels, positions)))


def prepare_batch(shard: Path, model: Path, rows: int, row_tokens: int, folder: Path) -> Batch:
    """Reads the batch and leaves it in `folder` as batch.npz and batch.h5, whose rows temper can
    cut in one way only. Raises DataError."""
    num_tokens = rows * row_tokens
    with open_shard(shard, model, "pretrain") as file:
        identity = read_identity(file)
        if file["tokens"].shape[0] < num_tokens:
            raise DataError(f"{shard} has fewer than {num_tokens} tokens", "name a larger --shard")
        tokens = file["tokens"][:num_tokens].astype(np.int64)
        batch = cut_batch(tokens, file["document_offsets"][:], rows, row_tokens)
    arrays = {"tokens": batch.tokens, "labels": batch.labels, "positions": batch.positions}
    np.savez(folder / "batch.npz", **arrays)
    begins = np.flatnonzero(batch.positions.reshape(-1) == 0)
    write_shard(folder / "batch.h5", identity, tokens, np.append(begins, num_tokens))
    return batch
