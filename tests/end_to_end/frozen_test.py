# SPDX-License-Identifier: Apache-2.0
"""Runs that train a part of the model: killed, resumed elsewhere, described and refused."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))

import tiny_job  # noqa: E402
import tiny_run  # noqa: E402

FINISHED, CONFIGURATION, MODEL = 0, 11, 13
BF16 = "model.dtype=bfloat16"  # Rounds the weights that are computed with.
GROUPS = (
    "optimizer.groups=[{match: norms, learning_rate: 0.03}, {match: q_proj, weight_decay: 0.2}]"
)
PARTS = {
    "upper": ["train.only=[layers.1]"],
    "norms": ["train.only=[norms]", BF16],
    "matrices": ["train.only=[q_proj, v_proj, up_proj]", BF16],
    "grouped": ["train.freeze=[embedding, head, layers.0.mlp]", GROUPS],
}


def tensors_in(folder: Path) -> dict[str, np.ndarray]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors"))
            for name, tensor in load_file(file).items()}  # fmt: skip


def trained_names(config: Path) -> set[str]:
    """Those with state in the newest checkpoint."""
    names = set()
    for file in (tiny_job.checkpoints(config)[-1] / "optimizer").glob("first_moment*.safetensors"):
        names |= load_file(file).keys()
    return names


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_run_ends_as_one_that_was_not_on_other_ranks_and_stages(tmp_path, part):
    overrides = PARTS[part]
    whole = tiny_job.write(tmp_path / "whole")
    code, log = tiny_job.train(1, whole, *overrides, "parallel.stage=0")
    assert code == FINISHED, log
    killed = tiny_job.write(tmp_path / "killed")
    for ranks, stage, step in ((3, 3, 8), (2, 1, 18)):
        job = tiny_job.Job(ranks, killed, *overrides, f"parallel.stage={stage}")
        tiny_job.wait_for_step(job, killed, step)
        job.kill()
    code, log = tiny_job.train(4, killed, *overrides, "parallel.stage=2", "train.recompute=true")
    assert code == FINISHED and "resumed step=" in log, log
    assert tiny_job.result(killed) == tiny_job.result(whole)


@pytest.mark.parametrize("part", PARTS)
def test_what_is_frozen_keeps_its_bytes_and_has_no_state(tmp_path, part):
    config = tiny_job.write(tmp_path / "job")
    code, log = tiny_job.train(2, config, *PARTS[part], "train.max_steps=3")
    assert code == FINISHED, log
    before = tensors_in(config.parent / "model")
    after = tensors_in(config.parent / "run" / "final")
    assert after.keys() == before.keys()
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == trained_names(config)
    assert 0 < len(changed) < len(before)


def test_check_and_the_log_say_what_is_trained_and_how(tmp_path):
    config = tiny_job.write(tmp_path / "job")
    checked = tiny_job.check(config, "train.only=[layers.1]", GROUPS)
    assert checked.returncode == 0, checked
    assert "2.34 k of 5.71 k parameters, from layers.1 on\n" in checked.stdout
    lines = [line for line in checked.stdout.splitlines() if line.startswith("group")]
    assert lines == [
        "group       norms: 2 tensors, 32 parameters, learning_rate 0.03",
        "group       q_proj: 1 tensor, 256 parameters, learning_rate 0.01, weight_decay 0.2",
    ]
    code, log = tiny_job.train(1, config, "train.only=[layers.1]", GROUPS, "train.max_steps=1")
    assert code == FINISHED, log
    assert " trained=2.34 k\n" in log
    assert 'group="norms: 2 tensors, 32 parameters, learning_rate 0.03"\n' in log


def test_check_counts_less_memory_and_smaller_checkpoints(tmp_path):
    config = tiny_job.write(tmp_path / "job")

    def numbers(*overrides: str) -> tuple[str, str]:
        lines = tiny_job.check(config, *overrides).stdout.splitlines()
        memory = next(line for line in lines if line.startswith("memory"))
        checkpoint = next(line for line in lines if line.startswith("checkpoint"))
        return memory.split(": ")[1].split(",")[0], checkpoint.split()[1]

    # On one rank each unit is padded to 4,096 elements, of which it has 12 bytes or 4. Each of four
    # units has a file in each of four sets: 4 bytes an element behind 4,096.
    assert numbers() == ("197 kB state", "157")
    assert numbers("train.only=[layers.1]") == ("98.3 kB state", "79.6")


def test_another_base_is_refused(tmp_path):
    """Its weights are read again when a run is resumed: they have to be those that it froze."""
    config = tiny_job.write(tmp_path / "job")
    part = "train.freeze=[layers.0]"
    code, log = tiny_job.train(2, config, part, "train.max_steps=10")
    assert code == FINISHED, log
    shutil.rmtree(tiny_job.checkpoints(config)[-1])
    weights = tensors_in(config.parent / "model")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name] + np.float32(0.5)
    save_file(weights, config.parent / "model" / "model.safetensors", metadata={"format": "pt"})
    checked = tiny_job.check(config, part, "train.max_steps=10")
    assert checked.returncode == MODEL, checked
    for told in (checked.stderr, tiny_job.train(3, config, part, "train.max_steps=10")[1]):
        assert f"froze {name}, and model has another one: it is not its base" in told, told


def test_groups_are_what_continue_change_optimizer_covers(tmp_path):
    before = tiny_job.write(tmp_path / "before")
    code, log = tiny_job.train(2, before, "train.freeze=[norms]")
    assert code == FINISHED, log
    config = tiny_job.write(tmp_path / "next")
    with open(config, "a") as file:
        file.write(f"continue: {{from: {tiny_job.checkpoints(before)[-2]}, change: [optimizer]}}\n")
    group = "optimizer.groups=[{match: mlp, learning_rate_ratio: 0.5}]"
    code, log = tiny_job.train(1, config, "train.freeze=[norms]", group)
    assert code == FINISHED, log
    assert "optimizer.groups[0].match was not set and is mlp" in log
    checked = tiny_job.check(config, "train.freeze=[norms, embedding, head]", group,
                             "run.folder=other")  # fmt: skip
    assert checked.returncode == CONFIGURATION, checked
    assert "train.freeze was norms and is norms, embedding, head" in checked.stderr


REFUSALS = {
    "no such parameter": (["train.only=[qproj]"], "train.only has 'qproj', which fits no param"),
    "no such block": (["train.freeze=[layers.1-2]"], "the model has 2 blocks, 0 to 1"),
    "nothing left": (["train.freeze=[model, head]"], "of the model: nothing is left to train"),
    "half of a tied matrix": (["train.freeze=[embedding]"], "the model has one matrix for both"),
    "no text": (["train.only=[[norms]]"], "train.only (command line) is a list"),
    "no expression": (["train.only=['(']"], "train.only has '(', which is no regular expression"),
    "much work": (["train.only=['((((a*)*)*)*)*b']"], "fits no parameter of the model"),
    "adapter": (["train.only=[norms]", "method=lora"], "train.only has no effect: method is lora"),
    "groups of an adapter": ([GROUPS, "method=lora"], "optimizer.groups has no effect"),
    "no match": (["optimizer.groups=[{learning_rate: 1}]"], "[0].match names no parameters"),
    "two rates": (
        ["optimizer.groups=[{match: norms, learning_rate: 1, learning_rate_ratio: 1}]"],
        "optimizer.groups[0] has learning_rate and learning_rate_ratio",
    ),
    "no change": (["optimizer.groups=[{match: norms}]"], "optimizer.groups[0] changes nothing"),
    "no rate": (["optimizer.groups=[{match: norms, learning_rate: 0}]"], "set it to a positive"),
    "unknown key": (["optimizer.groups=[{match: norms, lr: 1}]"], "optimizer.groups[0].lr"),
    "frozen group": (
        ["train.freeze=[norms]", "optimizer.groups=[{match: norms, weight_decay: 1}]"],
        "optimizer.groups[0].match means no parameter that is trained",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_trained_is_refused_before_anything_is_made(tmp_path, name):
    overrides, message = REFUSALS[name]
    config = tiny_job.write(tmp_path / "job")
    for verb in ("check", "train"):
        done = tiny_run.temper(verb, config, *overrides, cwd=config.parent)
        tiny_run.assert_refused(done, CONFIGURATION, message)
    assert not (config.parent / "run").exists()


def test_the_state_of_a_run_keeps_what_was_trained(tmp_path):
    config = tiny_job.write(tmp_path / "job")
    code, log = tiny_job.train(1, config, *PARTS["grouped"], "train.max_steps=2")
    assert code == FINISHED, log
    state = json.loads((tiny_job.checkpoints(config)[-1] / "state.json").read_text())
    lines = state["decided_by"].split("\n")
    assert "train.freeze=embedding, head, layers.0.mlp" in lines
    assert "optimizer.groups[0].match=norms" in lines
    assert "optimizer.groups[0].learning_rate=0.03" in lines
    assert "optimizer.groups[1].weight_decay=0.2" in lines
    code, log = tiny_job.train(1, config, *PARTS["upper"], "train.max_steps=2")
    assert code == CONFIGURATION, log
    assert "train.only was not set and is layers.1" in log
