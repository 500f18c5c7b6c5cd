# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmark on a tiny model: the losses must be those that transformers has.

With --trl the systems of TRL, too, after tests/bench/setup.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "app"))

import tiny_run  # noqa: E402

LENGTHS = np.array([16, 7, 9, 21, 11, 30, 5, 13, 19, 8, 12, 26, 6, 14, 17, 10, 9, 20, 4, 15])
WITH_TEMPER = {("temper", 1, 2), ("temper", 2, 1)}
WITH_TRL = WITH_TEMPER | {("TRL packed", 1, 2), ("TRL padded", 1, 2)}
TEMPLATE = "{{ x }}"
SYSTEMS = {True: "temper,trl-packed,trl-padded", False: "temper"}


def write_tokenizer(folder: Path) -> bytes:
    """What TRL wants to open; the benchmark has no text."""
    words = {f"w{index}": index for index in range(tiny_run.VOCAB)}
    Tokenizer(models.WordLevel(words, unk_token="w1")).save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "w0",
              "chat_template": TEMPLATE}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return (folder / "tokenizer.json").read_bytes()


def write_shard(path: Path, tokenizer: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random conversations, 8 rows of 36 tokens; all but the first third of each are targets.

    Returns tokens and mask of each.
    """
    random = np.random.default_rng(3)
    found = []
    for length in LENGTHS:
        tokens = random.integers(1, tiny_run.VOCAB, length)
        found.append((tokens, (np.arange(length) > length // 3).astype(np.uint8)))
    digest = hashlib.sha256(tokenizer).hexdigest()
    identity = tiny_run.ShardIdentity("sft", tiny_run.VOCAB, digest, TEMPLATE, 0)
    with tiny_run.ShardWriter(path, identity) as writer:
        tokens, masks = (np.concatenate(parts) for parts in zip(*found))
        writer.append(tokens, LENGTHS, masks)
        writer.publish("{}")
    return found


def expected_loss(model: Path, conversations: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Before any training, by transformers. The rate is so low that training hardly changes it."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    loss_sum, num_targets = 0.0, 0
    for tokens, mask in conversations:
        ids, labels = torch.tensor(tokens)[None], torch.tensor(np.where(mask == 1, tokens, -100))
        with torch.no_grad():
            loss_sum += float(network(ids, labels=labels[None]).loss) * mask.sum()
        num_targets += mask.sum()
    return loss_sum / num_targets


def run_sft(folder: Path, **changes) -> subprocess.CompletedProcess:
    options = {
        "model": folder / "model", "shard": folder / "train.h5", "output": folder / "sft.json",
        "binary": os.environ["TEMPER_BINARY"], "row-tokens": 36, "conversations": 12,
        "rounds": 1, "dtype": "float32", **changes,
    }  # fmt: skip
    command = [ROOT / "tests/bench/sft", *(f"--{key}={value}" for key, value in options.items())]
    return subprocess.run(command, capture_output=True, text=True)


def check_records(records: list[dict], layouts: set, loss: float, num_targets: int) -> None:
    found = {(record["system"], record["ranks"], record["threads"]) for record in records}
    assert found == layouts, found
    assert {record["method"] for record in records} == {"full", "lora"}, records
    for record in records:
        assert abs(record["mean_loss"] - loss) < 1e-3, (record, loss)
        assert record["pass_tokens"] == LENGTHS.sum(), record
        assert record["pass_targets"] == num_targets, record
        assert 0 < record["measured_tokens"] < record["pass_tokens"], record
        assert record["num_steps"] > 1 and record["tokens_per_second"] > 0, record
        assert 0 < record["idle_rss_gb_per_rank"] < record["peak_rss_gb_per_rank"] < 4, record


def main() -> None:
    has_trl = "--trl" in sys.argv
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny_run.write_model(folder / "model")
        conversations = write_shard(folder / "train.h5", write_tokenizer(model))
        done = run_sft(folder, systems=SYSTEMS[has_trl], methods="full,lora")
        assert done.returncode == 0, done.stdout + done.stderr
        records = json.loads((folder / "sft.json").read_text())
        layouts = WITH_TRL if has_trl else WITH_TEMPER
        num_targets = sum(int(mask.sum()) for _, mask in conversations)
        check_records(records, layouts, expected_loss(model, conversations), num_targets)
        missing = run_sft(folder, systems="temper", binary=folder / "none")
        assert missing.returncode == 1 and "run launch/build" in missing.stdout, missing
        short = run_sft(folder, conversations=13)
        assert short.returncode == 1 and "has 20 conversations, not 21" in short.stderr, short


if __name__ == "__main__":
    main()
