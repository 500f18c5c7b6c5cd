# SPDX-License-Identifier: Apache-2.0
"""A hold-out that decides which checkpoint is the best, when a run ends, and what was forgotten."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import tiny_run
from tiny_run import temper

RESUME = 19
EVERY = 2
OPTIONS = ["train.max_steps=40", f"train.evaluate_every_steps={EVERY}",
           f"checkpoint.every_steps={EVERY}", "checkpoint.keep=1", "optimizer.learning_rate=0.02",
           "schedule.name=constant"]  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Eight documents that are learnt by heart, and others on which the loss rises meanwhile."""
    folder = tmp_path_factory.mktemp("best")
    tiny_run.write_model(folder / "model")
    tiny_run.write_shard(folder / "train.h5", num_documents=8)
    tiny_run.write_shard(folder / "holdout.h5", lengths=(17,) * 30)
    return folder


def train(source: Path, run: Path, *options: str, **how) -> subprocess.CompletedProcess:
    return temper("train", config_of(source, run), *OPTIONS, *options, **how)


def config_of(source: Path, run: Path) -> Path:
    path = source / f"{run.name}.yaml"
    text = tiny_run.CONFIG.format(folder=source).replace(f"{source}/run", str(run))
    path.write_text(text.replace("  sequence_length", (
        f"  holdout: [{{name: other, path: {source}/holdout.h5, role: general}}]\n"
        "  sequence_length")))  # fmt: skip
    return path


def losses_of(run: Path) -> dict[int, float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "evaluation"}


def weights(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.safetensors"))]


def test_the_best_checkpoint_stays_and_becomes_the_result(source, tmp_path):
    run = tmp_path / "best"
    done = train(source, run, "checkpoint.keep_best=other", "checkpoint.final=best")
    assert done.returncode == 0, done.stderr
    losses = losses_of(run)
    del losses[0]  # Of the start there is no checkpoint.
    best = min(losses, key=losses.get)
    assert 0 < best < 40, losses
    checkpoints = run / "checkpoints"
    assert sorted(p.name for p in checkpoints.glob("step-*")) == [
        f"step-{best:08d}", "step-00000040"]  # fmt: skip
    assert (checkpoints / "best").resolve().name == f"step-{best:08d}"
    assert (checkpoints / "latest").resolve().name == "step-00000040"
    assert weights(run / "final") == weights(checkpoints / "best" / "model") != []
    assert weights(run / "final") != weights(checkpoints / "latest" / "model")
    again = train(source, run, "checkpoint.keep_best=other", "checkpoint.final=newest")
    assert again.returncode == 0, again.stderr
    assert weights(run / "final") == weights(checkpoints / "latest" / "model")
    assert (checkpoints / "best").resolve().name == f"step-{best:08d}"


def test_forgetting_is_the_change_since_the_start(source, tmp_path):
    run = tmp_path / "general"
    done = train(source, run)
    assert done.returncode == 0, done.stderr
    losses = losses_of(run)
    lines = list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))
    told = {line["step"]: line["forgetting"] for line in lines if "forgetting" in line}
    assert told.keys() == losses.keys() - {0}
    for step, forgetting in told.items():
        assert np.isclose(forgetting, losses[step] - losses[0], atol=1e-12)
    assert max(losses.values()) > 1.01 * min(losses.values())
    assert "the loss on the hold-out other rises" in done.stdout + done.stderr


def test_a_run_ends_early_at_the_same_step_after_any_stop(source, tmp_path):
    run, stopped = tmp_path / "early", tmp_path / "stopped"
    options = ["early_stop={holdout: other, patience: 3}"]
    done = train(source, run, *options)
    assert done.returncode == 0, done.stderr
    losses = losses_of(run)
    last = max(losses)
    assert last < 40
    lowest = min(losses, key=losses.get)
    assert last == lowest + 3 * EVERY, losses
    assert "early_stop step=" in done.stdout + done.stderr
    assert weights(run / "final")

    command = [os.environ["TEMPER_BINARY"], "train", config_of(source, stopped), *OPTIONS,
               *options]  # fmt: skip
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = stopped / "metrics.jsonl"
    while job.poll() is None and not (metrics.exists() and b'"step":1,' in metrics.read_bytes()):
        time.sleep(0.002)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=60) in (RESUME, 0)
    assert train(source, stopped, *options).returncode == 0
    assert losses_of(stopped) == losses
    assert weights(stopped / "final") == weights(run / "final")
    again = train(source, stopped, *options)  # A chain's next job finds it finished.
    assert again.returncode == 0 and " step=" not in again.stdout.replace("early_stop step=", "")
    assert losses_of(stopped) == losses


def test_what_cannot_decide_is_refused(source, tmp_path):
    config = config_of(source, tmp_path / "refused")
    done = temper("check", config, *OPTIONS, "checkpoint.keep_best=others",
                  "early_stop.holdout=none")  # fmt: skip
    tiny_run.assert_refused(done, 11, "checkpoint.keep_best is 'others', which no hold-out is",
                            "early_stop.holdout is 'none', which no hold-out is named")  # fmt: skip
