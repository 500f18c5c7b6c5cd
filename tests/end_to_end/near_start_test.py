# SPDX-License-Identifier: Apache-2.0
"""Runs that hold to where they began, or whose result is a mean: killed, evaluated, refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))

import tiny_job  # noqa: E402
import tiny_run  # noqa: E402

FINISHED, CONFIGURATION = 0, 11
PULL, MEAN = "train.l2_sp=5", "train.ema.decay=0.9"
NEAR = "train.kl={weight: 0.5, temperature: 1.5}"
BF16 = "model.dtype=bfloat16"
RUNS = {
    "all": [PULL, MEAN, NEAR, "train.layer_decay=0.8", BF16],
    "offloaded": [PULL, MEAN, "optimizer.offload=scratch", "optimizer.state_dtype=int8"],
    "part": [PULL, MEAN, NEAR, "train.only=[layers.1]"],
    "pissa": ["method=lora", MEAN, "lora.init=pissa", "lora.rank=4"],
    "qlora": ["method=qlora", MEAN, NEAR, BF16],
}


def write(folder: Path, evaluates: bool = False) -> Path:
    config = tiny_job.write(folder, evaluates)
    (folder / "scratch").mkdir()
    return config


def result(config: Path) -> tuple[list[dict], dict[str, str]]:
    """Metrics and weights; an adapter's other files name the folder of its base."""
    metrics, files = tiny_job.result(config)
    return metrics, {name: digest for name, digest in files.items() if name.endswith("tensors")}


@pytest.fixture(autouse=True)
def wide_model(monkeypatch):
    """Matrices that divide into blocks of four bits, and that are kept in 8 bits."""
    monkeypatch.setattr(tiny_run, "INNER", 256)


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_ends_as_one_that_was_not_on_other_ranks_and_stages(tmp_path, name):
    whole = write(tmp_path / "whole", evaluates=True)
    code, log = tiny_job.train(1, whole, *RUNS[name], "parallel.stage=0")
    assert code == FINISHED, log
    killed = write(tmp_path / "killed", evaluates=True)
    for ranks, stage, step in ((3, 3, 8), (2, 1, 18)):
        job = tiny_job.Job(ranks, killed, *RUNS[name], f"parallel.stage={stage}")
        tiny_job.wait_for_step(job, killed, step)
        job.kill()
    code, log = tiny_job.train(4, killed, *RUNS[name], "parallel.stage=2")
    assert code == FINISHED and "resumed step=" in log, log
    assert result(killed) == result(whole)
    assert all(("kl" in line) == (NEAR in RUNS[name]) for line in tiny_job.step_lines(killed))


def tensors_in(folder: Path, stem: str = "") -> dict[str, np.ndarray]:
    return {name: tensor for file in sorted(folder.glob(f"{stem}*.safetensors"))
            for name, tensor in load_file(file).items()}  # fmt: skip


def losses(config: Path, step: int) -> dict[str, float]:
    return {line["name"]: line["loss"] for line in tiny_job.metrics_of(config.parent / "run")
            if line["kind"] == "evaluation" and line["step"] == step}  # fmt: skip


def test_the_mean_is_what_is_published_and_evaluated(tmp_path):
    config = write(tmp_path / "job", evaluates=True)
    options = [MEAN, "checkpoint.keep_best=first", "checkpoint.final=best", "train.max_steps=12",
               "checkpoint.every_steps=3"]  # fmt: skip
    code, log = tiny_job.train(2, config, *options)
    assert code == FINISHED, log
    last = tiny_job.checkpoints(config)[-1]
    means, masters = (tensors_in(last / "optimizer", stem) for stem in ("mean", "master"))
    published = tensors_in(last / "model")
    assert means.keys() == masters.keys() == published.keys()
    for name, mean in means.items():
        assert (published[name] == mean).all() and (mean != masters[name]).any(), name
    told = tiny_run.temper("eval", config, *options, "--weights", "newest", cwd=config.parent)
    loss = float(told.stdout.split("holdout=first loss=")[1].split()[0])
    assert loss == pytest.approx(losses(config, 12)["first"], rel=1e-6)
    save_file(masters, last / "model" / "model.safetensors", metadata={"format": "pt"})
    for file in [*last.glob("model/model-*"), last / "model" / "model.safetensors.index.json"]:
        file.unlink()
    told = tiny_run.temper("eval", config, *options, f"model.path={last / 'model'}",
                           cwd=config.parent)  # fmt: skip
    other = float(told.stdout.split("holdout=first loss=")[1].split()[0])
    assert abs(other - loss) > 1e-4 * loss


def test_another_start_is_refused(tmp_path):
    """The weights that a run holds to are those of the base, read again when it is resumed."""
    config = write(tmp_path / "job")
    for option in (PULL, NEAR):
        folder = f"run.folder={option[6:8]}"
        code, log = tiny_job.train(2, config, option, folder, "train.max_steps=6")
        assert code == FINISHED, log
    path = config.parent / "model" / "model.safetensors"
    weights = tensors_in(config.parent / "model")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name] + np.float32(0.5)
    save_file(weights, path, metadata={"format": "pt"})
    for option in (PULL, NEAR):
        done = tiny_run.temper("check", config, option, f"run.folder={option[6:8]}",
                               "train.max_steps=6", cwd=config.parent)  # fmt: skip
        tiny_run.assert_refused(done, CONFIGURATION, "no option has changed: the model's weights")


def test_check_counts_the_copies(tmp_path):
    config = write(tmp_path / "job")

    def numbers(*overrides: str) -> tuple[float, float]:
        """State and checkpoint, in kB."""
        checked = tiny_job.check(config, *overrides)
        assert checked.returncode == FINISHED, checked
        lines = checked.stdout.splitlines()
        memory = next(line for line in lines if line.startswith("memory"))
        checkpoint = next(line for line in lines if line.startswith("checkpoint"))
        return float(memory.split(": ")[1].split()[0]), float(checkpoint.split()[1])

    state, checkpoint = numbers()
    assert numbers(PULL) == pytest.approx((state * 4 / 3, checkpoint), rel=0.01)
    assert numbers(MEAN) == pytest.approx((state * 4 / 3, checkpoint * 5 / 4), rel=0.01)
    assert numbers(NEAR) == pytest.approx((state * 4 / 3, checkpoint), rel=0.01)
    told = tiny_job.check(config, "train.layer_decay=0.5").stdout
    assert "learning_rate 0.01 at the head, 0.005 in layers.1 and so on down to 0.00125 at " in told
    adapted = numbers("method=lora")
    assert numbers("method=lora", NEAR) == adapted


REFUSALS = {
    "pull of an adapter": ([PULL, "method=lora"], "train.l2_sp has no effect: method is lora"),
    "pull beyond": (["train.l2_sp=101"], "train.l2_sp of 101 times a learning rate of 0.01"),
    "pull beyond in a group": (
        [PULL, "optimizer.groups=[{match: norms, learning_rate_ratio: 50}]"],
        "train.l2_sp of 5 times a learning rate of 0.5 is more than 1",
    ),
    "depth of an adapter": (
        ["train.layer_decay=0.9", "method=prompt"],
        "train.layer_decay has no effect: method is prompt",
    ),
    "no decay": (["train.layer_decay=0"], "a number above 0, at most 1"),
    "mean of all": (["train.ema.decay=1"], "a number from 0 to below 1"),
    "unknown key": (["train.ema={rate: 0.9}"], "train.ema.rate"),
    "projected mean": (
        [MEAN, "method=prefix", "prefix.projection=8"],
        "train.ema is set, but prefix.projection computes the prefix",
    ),
    "near pissa": ([NEAR, "method=lora", "lora.init=pissa"], "but lora.init is pissa"),
    "near new rows": (
        [NEAR, "method=lora", "lora.trainable_tokens=[3]"],
        "but lora.trainable_tokens puts rows of the adapter in the place of the base's",
    ),
    "temperature alone": (["train.kl={temperature: 2}"], "train.kl.temperature has no effect"),
}  # fmt: skip


def test_what_makes_no_sense_is_refused_before_anything_is_made(tmp_path):
    config = write(tmp_path / "job")
    for overrides, message in REFUSALS.values():
        done = tiny_run.temper("check", config, *overrides, cwd=config.parent)
        tiny_run.assert_refused(done, CONFIGURATION, message)
    assert not (config.parent / "run").exists()


def test_only_rates_may_change_when_a_run_goes_on(tmp_path):
    before = write(tmp_path / "before")
    code, log = tiny_job.train(2, before, NEAR, "train.max_steps=10")
    assert code == FINISHED, log
    state = json.loads((tiny_job.checkpoints(before)[-1] / "state.json").read_text())
    assert "train.kl.temperature=1.5" in state["decided_by"].split("\n")
    config = write(tmp_path / "next")
    with open(config, "a") as file:
        start = tiny_job.checkpoints(before)[-2]
        file.write(f"continue: {{from: {start}, change: [optimizer, steps]}}\n")
    code, log = tiny_job.train(1, config, NEAR, "train.layer_decay=0.5", "train.max_steps=8")
    assert code == FINISHED and "train.layer_decay was not set and is 0.5" in log, log
    checked = tiny_job.check(config, MEAN, "run.folder=other")
    assert checked.returncode == CONFIGURATION, checked
    assert "train.ema.decay was not set and is 0.9" in checked.stderr
    assert "train.kl.weight was 0.5" in checked.stderr
