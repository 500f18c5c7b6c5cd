# SPDX-License-Identifier: Apache-2.0
"""The conversations that all systems train on: the first ones of a real token shard."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from shard import DataError, open_shard, read_identity, write_shard


@dataclass(frozen=True)
class Conversations:
    """Whole conversations end to end. Shapes: tokens, target_mask [n], offsets [number + 1]."""

    tokens: np.ndarray
    target_mask: np.ndarray  # 1 where the token is to be predicted
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def prepare_conversations(
    shard: Path, model: Path, number: int, row_tokens: int, folder: Path
) -> Conversations:
    """Leaves them in `folder` as conversations.npz and conversations.h5. Raises DataError."""
    with open_shard(shard, model, "sft") as file:
        identity = read_identity(file)
        offsets = file["document_offsets"][: number + 1].astype(np.int64)
        if len(offsets) <= number:
            raise DataError(
                f"{shard} has {len(offsets) - 1} conversations, not {number}",
                "name a larger --shard, or fewer --conversations",
            )
        tokens, mask = (file[name][: offsets[-1]] for name in ("tokens", "target_mask"))
    found = Conversations(tokens.astype(np.int64), mask, offsets)
    if (longest := found.lengths.max()) > row_tokens:
        raise DataError(
            f"{shard} has a conversation of {longest} tokens, which does not fit into a row",
            f"set --row-tokens to at least {longest}",
        )
    arrays = {"tokens": found.tokens, "target_mask": mask, "offsets": offsets}
    np.savez(folder / "conversations.npz", **arrays)
    write_shard(folder / "conversations.h5", identity, tokens, offsets, mask)
    return found
