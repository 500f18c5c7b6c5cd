# SPDX-License-Identifier: Apache-2.0
"""Going on, on purpose, from a checkpoint that another run has written."""

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiny_job  # noqa: E402
import tiny_run  # noqa: E402

FINISHED, CONFIGURATION, CHECKPOINT = 0, 11, 14
OTHER_DATA = "data.train=[{path: other.h5}]"
METHODS = {"full": [], "lora": ["method=lora", "lora.dropout=0.1"]}


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Path:
    """The configuration of a run at one rate, with checkpoints at steps 6, 12, 18, 24 and 30."""
    return run_before(tmp_path_factory.mktemp("before"), "schedule.name=constant")


def run_before(folder: Path, *overrides: str) -> Path:
    config = tiny_job.write(folder)
    change(config, "every_steps: 5, keep: 3", "every_steps: 6, keep: 9")
    code, log = tiny_job.train(2, config, *overrides)
    assert code == FINISHED, log
    return config


def change(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def checkpoint(config: Path, step: int) -> Path:
    return config.parent / "run" / "checkpoints" / f"step-{step:08}"


def write_next(folder: Path, start: Path, *changes: str) -> Path:
    """A run at one rate that goes on from a checkpoint."""
    config = tiny_job.write(folder)
    tiny_run.write_shard(folder / "other.h5", lengths=(11, 30, 7, 20, 32) * 8)
    with open(config, "a") as file:
        file.write(f"continue: {{from: {start}, change: [{', '.join(changes)}]}}\n")
        file.write("schedule: {name: constant}\n")
    return config


def last_steps(config: Path, first: int) -> list[dict]:
    return [line for line in tiny_job.result(config)[0]
            if line["kind"] == "step" and line["step"] >= first]  # fmt: skip


def weights_of(config: Path) -> dict[str, str]:
    files = tiny_job.file_digests(config.parent / "run" / "final")
    weights = {name: digest for name, digest in files.items() if name.endswith(".safetensors")}
    assert weights
    return weights


@pytest.mark.parametrize("method", METHODS)
def test_a_decay_from_the_stable_phase_is_that_of_one_run(tmp_path, method):
    """WSD: the branch's bits are those of a run that was to decay there from the beginning."""
    wsd = ["schedule.name=wsd", *METHODS[method]]
    stable = run_before(tmp_path / "stable", *wsd)
    whole = tiny_job.write(tmp_path / "whole")
    code, log = tiny_job.train(1, whole, "train.max_steps=18", "schedule.decay_ratio=0.33", *wsd)
    assert code == FINISHED, log
    branch = write_next(tmp_path / "branch", checkpoint(stable, 12), "schedule", "steps")
    code, log = tiny_job.train(3, branch, "train.max_steps=18", "schedule.decay_ratio=1.0", *wsd)
    assert code == FINISHED, log
    assert "continued step=12 " in log
    assert 'changes="schedule.decay_ratio was 0.1 and is 1, steps was 30 and is 18"' in log
    assert last_steps(branch, 1) == last_steps(whole, 13)
    assert weights_of(branch) == weights_of(whole)


def test_more_steps_are_those_of_a_longer_run(tmp_path, before):
    longer = tiny_job.write(tmp_path / "longer")
    code, log = tiny_job.train(1, longer, "train.max_steps=36", "schedule.name=constant")
    assert code == FINISHED, log
    more = write_next(tmp_path / "more", checkpoint(before, 30), "steps")
    code, log = tiny_job.train(2, more, "train.max_steps=36")
    assert code == FINISHED, log
    assert last_steps(more, 1) == last_steps(longer, 31)
    assert weights_of(more) == weights_of(longer)


def test_other_data_at_another_rate_survive_a_kill_and_the_end_of_the_run_before(tmp_path, before):
    """The order of new data begins at their first row; what is kept of the run before suffices."""
    start = shutil.copytree(checkpoint(before, 12), tmp_path / "start")
    changes = ["data", "optimizer"]
    overrides = [OTHER_DATA, "optimizer.learning_rate=0.002", "data.seed=5",
                 "data.holdout=[{name: held, path: held.h5}]"]  # fmt: skip
    undisturbed = write_next(tmp_path / "undisturbed", start, *changes)
    code, log = tiny_job.train(1, undisturbed, *overrides)
    assert code == FINISHED, log
    fresh = write_next(tmp_path / "fresh", start)
    change(fresh, f"continue: {{from: {start}, change: []}}\n", "")
    code, log = tiny_job.train(1, fresh, *overrides, f"model.path={start / 'model'}",
                               "train.max_steps=1")  # fmt: skip
    assert code == FINISHED, log
    assert last_steps(undisturbed, 13)[0]["loss"] == last_steps(fresh, 1)[0]["loss"]
    kinds = [(line["kind"], line["step"]) for line in tiny_job.result(undisturbed)[0]]
    assert kinds[:3] == [("run", 12), ("evaluation", 12), ("step", 13)]

    killed = write_next(tmp_path / "killed", start, *changes)
    job = tiny_job.Job(3, killed, *overrides)
    tiny_job.wait_for_step(job, killed, 22)
    job.kill()
    shutil.rmtree(start)
    code, log = tiny_job.train(2, killed, *overrides)
    assert code == FINISHED and "resumed step=" in log, log
    assert tiny_job.result(killed) == tiny_job.result(undisturbed)
    state = json.loads((checkpoint(killed, 30) / "state.json").read_text())
    assert state["origin"]["step"] == state["origin"]["data_step"] == 12
    assert state["origin"]["schedule_step"] == 0
    assert "optimizer.learning_rate was 0.01 and is 0.002" in state["origin"]["changes"]
    shown = tiny_run.temper("inspect", checkpoint(killed, 30)).stdout
    assert "optimizer.learning_rate was 0.01 and is 0.002" in shown


def test_check_says_what_changes(tmp_path, before):
    config = write_next(tmp_path / "next", checkpoint(before, 12), "optimizer")
    checked = tiny_job.check(config, "optimizer.learning_rate=0.002")
    assert checked.returncode == 0, checked
    assert f"at step 12 of another run, from {checkpoint(before, 12)}: " in checked.stdout
    assert "optimizer.learning_rate was 0.01 and is 0.002" in checked.stdout


REFUSALS = {
    "not listed": (["steps"], ["optimizer.learning_rate=0.002"], CONFIGURATION,
                   "optimizer.learning_rate was 0.01 and is 0.002 (list optimizer in"),
    "another method": (["steps", "schedule", "optimizer", "data"], ["method=lora"], CONFIGURATION,
                       "method was not set and is lora"),
    "no steps left": (["steps"], ["train.max_steps=12"], CONFIGURATION,
                      "the run has 12 steps in all, but"),
    "no room for a warm-up": (["schedule"], ["schedule.name=cosine", "schedule.warmup_steps=20"],
                              CONFIGURATION, "the warm-up of 20 steps cannot fit into the run of"),
    "no such aspect": (["seed"], [], CONFIGURATION, "one of: steps, schedule, optimizer, data"),
    "no checkpoint": (["steps"], ["continue.from=nowhere"], CHECKPOINT, "nowhere"),
    "nothing to go on from": (["steps"], ['continue.from=""'], CONFIGURATION,
                              "continue.from names no checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_gone_on_with_is_refused(tmp_path, before, name):
    """By check and by train, which make nothing."""
    changes, overrides, code, message = REFUSALS[name]
    config = write_next(tmp_path / "next", checkpoint(before, 12), *changes)
    for verb in ("check", "train"):
        done = tiny_run.temper(verb, config, *overrides, cwd=config.parent)
        assert done.returncode == code, done
        assert message in done.stdout + done.stderr, done
    assert not (config.parent / "run" / "checkpoints").exists()


def test_a_run_that_began_elsewhere_is_not_gone_on_with(tmp_path, before):
    """Neither by itself, nor from another checkpoint than at first."""
    config = write_next(tmp_path / "next", checkpoint(before, 12), "optimizer")
    rate = "optimizer.learning_rate=0.002"
    code, log = tiny_job.train(1, config, rate)
    assert code == FINISHED, log
    elsewhere = tiny_run.temper("train", config, rate, f"continue.from={checkpoint(before, 18)}",
                                cwd=config.parent)  # fmt: skip
    tiny_run.assert_refused(elsewhere, CONFIGURATION, "is of a run that did not begin at")
    alone = tiny_run.temper("train", config, rate, 'continue.from=""', "continue.change=[]",
                            cwd=config.parent)  # fmt: skip
    tiny_run.assert_refused(alone, CONFIGURATION, "continue.from was ")


def test_a_checkpoint_that_does_not_keep_what_decided_it_is_refused(tmp_path):
    older = tiny_run.write_checkpoint(tmp_path / "older")
    config = write_next(tmp_path / "next", older, "steps")
    done = tiny_run.temper("train", config, cwd=config.parent)
    tiny_run.assert_refused(done, CHECKPOINT, "was written by an older temper")
