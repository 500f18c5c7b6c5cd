# SPDX-License-Identifier: Apache-2.0
"""Every ending that a new start does not mend has its exit code in Slurm's accounting.

The other endings are in signals_test.py, nodes_test.py and launch_test.py.
"""

import json
from pathlib import Path

import pytest
import slurm_job
import tiny_job
from safetensors.numpy import load_file, save_file
from slurm_job import (
    CHECKPOINT, CONFIGURATION, DATA, MODEL, NO_MEMORY, NON_FINITE, Job, add_site, change, end_codes,
)  # fmt: skip


def set_small_batch(config: Path) -> None:
    change(config, ("global_batch: 6", "global_batch: 1"))


def cut_shard(config: Path) -> None:
    shard = config.parent / "train.h5"
    shard.write_bytes(shard.read_bytes()[:-100])


def cut_model(config: Path) -> None:
    path = config.parent / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def damage_checkpoints(config: Path) -> None:
    code, log = tiny_job.train(1, config)
    assert code == 0, log
    for checkpoint in tiny_job.checkpoints(config):
        tiny_job.tiny_run.flip_byte(checkpoint / "state.json", 30)


def make_logits_infinite(config: Path) -> None:
    path = config.parent / "model" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][3] = 3e38  # Finite, so that it loads.
    save_file(weights, path, metadata={"format": "pt"})
    change(config, ("threads: 1", "threads: 1, max_skipped_in_a_row: 4"))


def take_memory_away(config: Path) -> None:
    """Rows that take twice of what a process may have."""
    tiny_job.tiny_run.write_shard(config.parent / "train.h5", num_documents=50_000)
    longer = ("sequence_length: 32", "sequence_length: 1000000")
    change(config, longer, ("global_batch: 6", "global_batch: 2"))
    model = config.parent / "model" / "config.json"
    positions = {"max_position_embeddings": 1_000_000}
    model.write_text(json.dumps(json.loads(model.read_text()) | positions))
    add_site(
        config.parent, "TEMPER_CONTAINER=(bash -c 'ulimit -v 2000000; exec \"$@\"' temper)"
    )


@pytest.mark.parametrize(
    "break_run, code, message",
    [
        (set_small_batch, CONFIGURATION, "data.global_batch"),
        (cut_shard, DATA, "train.h5"),
        (cut_model, MODEL, "model.safetensors"),
        (damage_checkpoints, CHECKPOINT, "is whole:"),
        (make_logits_infinite, NON_FINITE, "steps 1 to 4 had no finite loss and gradient"),
        (take_memory_away, NO_MEMORY, "memory"),
    ],
)
def test_the_code_of_an_ending_is_in_the_accounting(config, break_run, code, message):
    slurm_job.hurry(config.parent)
    break_run(config)
    job = Job(config)
    assert job.wait() == "FAILED", job.text()
    assert (job.exit_code(), job.step_codes()) == (code, [code]), job.text()
    assert end_codes(config) == [code]
    assert message in job.text() and "\n  try: " in job.text()
    assert f"code={code} is one that a new start does not mend" in job.text()
    assert not (config.parent / "run" / "final").exists() or code == CHECKPOINT
