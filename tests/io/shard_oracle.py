# SPDX-License-Identifier: Apache-2.0
"""Reads token shards of the Python writer with the C++ reader."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "datasets"))

from temper_data.shard_writer import ShardIdentity, ShardWriter  # noqa: E402

PROBE = sys.argv[1]


def check_shard(path, kind, vocab_size, num_documents, longest):
    """A shard of random documents, read back."""
    random = np.random.default_rng(vocab_size + num_documents)
    template = "{{ messages }} é" * 200 if kind == "sft" else ""
    identity = ShardIdentity(kind, vocab_size, "ab" * 32, template, 2)
    lengths = random.integers(2, longest, num_documents)
    ends = np.cumsum(lengths)
    tokens = random.integers(0, vocab_size, ends[-1])
    tokens[-1] = vocab_size - 1
    mask = None
    if kind == "sft":
        mask = random.integers(0, 2, ends[-1])
        mask[ends - lengths] = 0
        mask[ends - 1] = 1
    with ShardWriter(path, identity) as writer:
        writer.append(tokens, lengths, mask)
        fingerprint = writer.publish('{"program": "a test"}')

    weights = np.arange(1, len(tokens) + 1, dtype=np.uint64)
    total = np.sum(weights * (3 * tokens + (0 if mask is None else mask)).astype(np.uint64))
    offsets = np.concatenate([[0], ends]).astype(np.uint64)
    total += np.sum(np.arange(7, len(offsets) + 7, dtype=np.uint64) * offsets)
    num_targets = len(tokens) - num_documents if mask is None else mask.sum()
    counts = f"{len(tokens)} {num_documents} {num_targets}"
    wanted = f"{kind} {vocab_size} {counts} {fingerprint} {total}"
    read = subprocess.run([PROBE, "shard", path], check=True, capture_output=True, text=True).stdout
    assert read == f'{wanted}\n{template}\n{{"program": "a test"}}\n', read


def main():
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "shard.h5"
        for kind in ("pretrain", "sft"):
            for vocab_size in (300, 65536, 65537, 151936):
                check_shard(path, kind, vocab_size, 1, 3)
                check_shard(path, kind, vocab_size, 20000, 100)


if __name__ == "__main__":
    main()
