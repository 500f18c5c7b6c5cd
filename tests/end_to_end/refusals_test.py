# SPDX-License-Identifier: Apache-2.0
"""What cannot be trained on is refused alike by `check` and `train`, before anything is made."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiny_job  # noqa: E402
import tiny_run  # noqa: E402

from temper_data.shard_writer import ShardIdentity, ShardWriter  # noqa: E402

CONFIGURATION, DATA, MODEL = 11, 12, 13


def write_shard(config: Path, vocab_size: int, tokens: np.ndarray, mask=None) -> None:
    """Documents of 40 tokens."""
    kind = "pretrain" if mask is None else "sft"
    digest = hashlib.sha256(tiny_run.TOKENIZER).hexdigest()
    path = config.parent / "train.h5"
    path.unlink()
    template = "" if mask is None else "{{ messages }}"
    (config.parent / "model" / "chat_template.jinja").write_text(template)
    with ShardWriter(path, ShardIdentity(kind, vocab_size, digest, template, 0)) as writer:
        writer.append(tokens, np.full(len(tokens) // 40, 40), mask)
        writer.publish("{}")


def other_tokenizer(config: Path) -> None:
    tiny_run.write_shard(config.parent / "train.h5", tokenizer=b"another one")


def bigger_vocabulary(config: Path) -> None:
    write_shard(config, tiny_run.VOCAB + 1, np.arange(800) % tiny_run.VOCAB)


def truncated_shard(config: Path) -> None:
    path = config.parent / "train.h5"
    path.write_bytes(path.read_bytes()[:-500])


def targets_out_of_reach(config: Path) -> None:
    """They lie behind the 32 tokens that a row has."""
    mask = np.tile(np.arange(40) >= 35, 20).astype(np.uint8)
    write_shard(config, tiny_run.VOCAB, np.arange(800) % tiny_run.VOCAB, mask)


def truncated_weights(config: Path) -> None:
    path = config.parent / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-500])


def nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    "damage, ranks, code, message",
    [
        (nothing, 7, CONFIGURATION, "6 micro-batches of 1, fewer than 7 ranks"),
        (other_tokenizer, 2, DATA, "train.h5 was made with tokenizer"),
        (bigger_vocabulary, 2, DATA, "train.h5"),
        (truncated_shard, 2, DATA, "train.h5"),
        (targets_out_of_reach, 2, DATA, "has no target within the first 32 tokens"),
        (truncated_weights, 2, MODEL, "model.safetensors"),
    ],
)
def test_it_is_refused_before_anything_is_made(tmp_path, damage, ranks, code, message):
    config = tiny_job.write(tmp_path / "job")
    damage(config)
    before = tiny_job.file_digests(tmp_path)
    checked = tiny_job.check(config, "--ranks", ranks)
    assert (checked.returncode, message in checked.stderr) == (code, True), checked
    found, log = tiny_job.train(ranks, config)
    assert (found, message in log) == (code, True), (found, log)
    assert "\n  try: " in log
    (config.parent / "log").unlink()
    assert tiny_job.file_digests(tmp_path) == before


def test_a_token_outside_the_vocabulary_ends_the_run(tmp_path):
    """Only reading the tokens shows it: `check` does when asked to, `train` when it gets there."""
    config = tiny_job.write(tmp_path / "job")
    tokens = np.arange(800) % tiny_run.VOCAB
    tokens[555] = tiny_run.VOCAB
    write_shard(config, tiny_run.VOCAB, tokens)
    checked = tiny_job.check(config, "--verify-data")
    assert (checked.returncode, "train.h5" in checked.stderr) == (DATA, True), checked
    code, log = tiny_job.train(2, config)
    assert (code, "train.h5" in log) == (DATA, True), (code, log)
    assert tiny_job.checkpoints(config) == []
