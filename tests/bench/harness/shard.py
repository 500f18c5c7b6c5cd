# SPDX-License-Identifier: Apache-2.0
"""The token shard that the benchmark takes its data from, and a shard of what it took."""

import hashlib
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "datasets"))

from temper_data.errors import DataError  # noqa: E402
from temper_data.shard_writer import ShardIdentity, ShardWriter  # noqa: E402


@contextmanager
def open_shard(path: Path, model: Path, kind: str) -> Iterator[h5py.File]:
    """The shard, open for reading. Raises DataError if it does not suit the benchmark."""
    for needed in (path, model / "config.json", model / "tokenizer.json"):
        if not needed.is_file():
            raise DataError(
                f"{needed} does not exist",
                "run launch/quickstart once, or name --shard and --model",
            )
    with h5py.File(path, "r") as file:
        found = file.attrs["kind"].decode()
        if found != kind:
            raise DataError(f"{path} is of kind {found}", f"name a {kind} shard with --shard")
        digest = hashlib.sha256((model / "tokenizer.json").read_bytes()).hexdigest()
        if digest != file.attrs["tokenizer_sha256"].decode():
            raise DataError(
                f"{path} was made with another tokenizer than that of {model}",
                "prepare the data with this model, or name another --model",
            )
        yield file


def read_identity(file: h5py.File) -> ShardIdentity:
    """What the shard says about itself."""
    text = {key: file.attrs[key].decode() for key in ("kind", "tokenizer_sha256", "chat_template")}
    numbers = {key: int(file.attrs[key]) for key in ("vocab_size", "eos_token_id")}
    return ShardIdentity(**text, **numbers)


def write_shard(
    path: Path, identity: ShardIdentity, tokens: np.ndarray, offsets: np.ndarray, mask=None
) -> None:
    """A shard of these documents. Shapes: tokens and mask [n], offsets [documents + 1]."""
    with ShardWriter(path, identity) as writer:
        writer.append(tokens, np.diff(offsets), mask)
        writer.publish('{"program": "tests/bench"}')
