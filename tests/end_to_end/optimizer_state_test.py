# SPDX-License-Identifier: Apache-2.0
"""Moments in fewer bits and state on disk: killed, resumed on other ranks, continued, refused."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiny_job  # noqa: E402
import tiny_run  # noqa: E402

FINISHED, CONFIGURATION, REFUSED = 0, 11, 18
BFLOAT16, INT8 = "optimizer.state_dtype=bfloat16", "optimizer.state_dtype=int8"
OFFLOAD = "optimizer.offload=scratch"


@pytest.fixture(autouse=True)
def wide_model(monkeypatch):
    """The tiny model's matrices have fewer elements than those that are kept in 8 bits."""
    monkeypatch.setattr(tiny_run, "INNER", 256)


def write(folder: Path) -> Path:
    config = tiny_job.write(folder)
    (folder / "scratch").mkdir()
    return config


def result(config: Path) -> tuple[list[dict], dict[str, str]]:
    """Metrics and weights; an adapter's other files name the folder of its base."""
    metrics, files = tiny_job.result(config)
    return metrics, {name: digest for name, digest in files.items() if name.endswith("tensors")}


@pytest.mark.parametrize("state", [[BFLOAT16], [INT8], [OFFLOAD], [INT8, OFFLOAD],
                                   ["method=lora", BFLOAT16, OFFLOAD], ["method=lora", INT8]])
def test_a_killed_run_ends_with_the_bits_of_one_rank_in_memory(tmp_path, state):
    """The killed job leaves nothing in the folder that two ranks of a node share."""
    bf16 = "model.dtype=bfloat16"
    undisturbed = write(tmp_path / "undisturbed")
    code, log = tiny_job.train(1, undisturbed, bf16, *[one for one in state if one != OFFLOAD])
    assert code == FINISHED, log
    killed = write(tmp_path / "killed")
    job = tiny_job.Job(3, killed, bf16, *state)
    tiny_job.wait_for_step(job, killed, 12)
    job.kill()
    assert not list((killed.parent / "scratch").iterdir())
    code, log = tiny_job.train(2, killed, bf16, *state)
    assert code == FINISHED and "resumed step=" in log, log
    assert ("offloaded=" in log) == (OFFLOAD in state), log
    assert result(killed) == result(undisturbed)
    assert not list((killed.parent / "scratch").iterdir())


def test_another_dtype_is_another_trajectory_and_a_change_of_the_optimizer(tmp_path):
    before = write(tmp_path / "before")
    code, log = tiny_job.train(2, before)
    assert code == FINISHED, log
    again = tiny_run.temper("train", before, INT8, "train.max_steps=30", cwd=before.parent)
    tiny_run.assert_refused(again, CONFIGURATION, "optimizer.state_dtype was not set and is int8")
    after = write(tmp_path / "after")
    start = before.parent / "run" / "checkpoints" / "step-00000020"
    with open(after, "a") as file:
        file.write(f"continue: {{from: {start}, change: []}}\n")
    refused = tiny_run.temper("train", after, INT8, cwd=after.parent)
    tiny_run.assert_refused(refused, CONFIGURATION, "list optimizer in continue.change")
    code, log = tiny_job.train(2, after, INT8, "continue.change=[optimizer]")
    assert code == FINISHED, log
    assert 'changes="optimizer.state_dtype was not set and is int8"' in log
    losses = [[line["loss"] for line in tiny_job.result(config)[0] if line["kind"] == "step"]
              for config in (before, after)]  # fmt: skip
    assert losses[1][0] == losses[0][20] and losses[1][-1] != losses[0][-1]
    assert losses[1][-1] == pytest.approx(losses[0][-1], rel=0.02)


def test_a_folder_is_refused_before_the_first_step(tmp_path):
    config = write(tmp_path)
    for folder, reason in {
        "nowhere": "optimizer.offload nowhere cannot be used: No such file or directory",
        "/dev/shm": "optimizer.offload /dev/shm is memory itself (tmpfs), not a local disk",
    }.items():
        code, log = tiny_job.train(2, config, f"optimizer.offload={folder}")
        assert code == REFUSED and reason in log, log
    assert not (tmp_path / "run").exists()


def test_check_counts_the_bytes_and_refuses_a_gpu(tmp_path):
    config = write(tmp_path)
    kept = tiny_job.check(config, "model.dtype=bfloat16")
    moved = tiny_job.check(config, "model.dtype=bfloat16", OFFLOAD)
    assert kept.returncode == moved.returncode == FINISHED, moved
    assert "offload" not in kept.stdout
    assert "a rank, in scratch on each node" in moved.stdout
    for option in (INT8, OFFLOAD):
        refused = tiny_run.temper("check", config, option, "model.device=cuda", cwd=tmp_path)
        assert refused.returncode == CONFIGURATION, refused
        assert "is set, but model.device is cuda" in refused.stdout + refused.stderr
