# SPDX-License-Identifier: Apache-2.0
"""Every way a run can end but by itself, and that the next job makes good for it.

What a disturbed run must come to is the result of the undisturbed one: its curve and final files.
"""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))

import tiny_job  # noqa: E402
import tiny_run  # noqa: E402

FINISHED, CONFIGURATION, DATA, CHECKPOINT, COMM = 0, 11, 12, 14, 15
NON_FINITE, REFUSED, RESUME = 16, 18, 19


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The configuration of a run that was left alone."""
    config = tiny_job.write(tmp_path_factory.mktemp("undisturbed") / "job", evaluates=True)
    code, log = tiny_job.train(2, config)
    assert code == FINISHED, log
    assert len(tiny_job.step_lines(config)) == tiny_job.NUM_STEPS
    assert len(tiny_job.metrics_of(config.parent / "run")) == 3 * tiny_job.NUM_STEPS + 3
    assert [path.name for path in tiny_job.checkpoints(config)] == [
        f"step-{step:08d}" for step in (20, 25, 30)
    ]
    return config


def start_over(undisturbed: Path, folder: Path) -> Path:
    """The same run, from its beginning, in a folder of its own."""
    config = tiny_job.write(folder, evaluates=True)
    assert tiny_job.file_digests(folder / "model") == tiny_job.file_digests(
        undisturbed.parent / "model"
    )
    return config


# Signals and kills.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_to_one_rank_makes_all_save_the_same_step(undisturbed, tmp_path, number):
    config = start_over(undisturbed, tmp_path / "job")
    job = tiny_job.Job(2, config)
    tiny_job.wait_for_step(job, config, 7)
    tiny_job.send(job.rank_pids()[1], number)
    assert job.wait() == RESUME, job.log.read_text()
    last = tiny_job.step_lines(config)[-1]["step"]
    assert 7 <= last < tiny_job.NUM_STEPS, "the signal came too late to stop anything"
    assert tiny_job.checkpoints(config)[-1].name == f"step-{last:08d}"
    assert f"stop signal={int(number)} saving=yes" in job.log.read_text()
    assert not (config.parent / "run" / "final").exists()

    code, log = tiny_job.train(3, config, "parallel.stage=2")
    assert code == FINISHED, log
    assert f"resumed step={last} " in log
    assert tiny_job.result(config) == tiny_job.result(undisturbed)


def test_an_evaluation_that_a_kill_cut_off_is_made_up_for(undisturbed, tmp_path):
    """Killed after the last save, between the hold-outs: its metrics end in half a line, and there
    is no final model yet."""
    config = tiny_job.copy(undisturbed, tmp_path / "job")
    shutil.rmtree(config.parent / "run" / "final")
    metrics = config.parent / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-40])
    code, log = tiny_job.train(2, config)
    assert code == FINISHED, log
    assert log.count(" evaluation step=30 ") == 1 and "holdout=second" in log, log
    assert tiny_job.result(config) == tiny_job.result(undisturbed)


def test_a_rank_that_stands_still_is_named_and_ends_the_job(undisturbed, tmp_path):
    config = start_over(undisturbed, tmp_path / "job")
    job = tiny_job.Job(3, config, "train.max_steps=1000000", "watchdog.silence_seconds=3")
    tiny_job.wait_for_step(job, config, 7)
    tiny_job.send(job.rank_pids()[2], signal.SIGSTOP)
    assert job.wait() == COMM, job.log.read_text()
    log = job.log.read_text()
    assert "rank=0 lost rank=2 node=" in log and ' last="#' in log
    reason = r"nothing was heard of it for (\d+) s: it, its node or its network stands still"
    silence = re.search(f'reason="{reason}" exit=15', log)
    assert int(silence[1]) >= 3, log
    assert "rank=0 waits node=" in log


def test_a_job_that_is_suspended_as_a_whole_goes_on(undisturbed, tmp_path):
    config = start_over(undisturbed, tmp_path / "job")
    job = tiny_job.Job(2, config, "watchdog.silence_seconds=3")
    tiny_job.wait_for_step(job, config, 7)
    for number, pause in ((signal.SIGSTOP, 6), (signal.SIGCONT, 0)):
        for pid in job.rank_pids():
            tiny_job.send(pid, number)
        time.sleep(pause)
    assert job.wait() == FINISHED, job.log.read_text()
    assert tiny_job.result(config) == tiny_job.result(undisturbed)


def test_ranks_that_all_wait_are_named_by_the_one_that_began_the_fewest(tmp_path):
    """Rank 0 writes its metrics to a pipe that nobody reads: it lives, and goes nowhere."""
    config = tiny_job.write(tmp_path / "job")
    job = tiny_job.Job(2, config, "train.max_steps=1000000", "watchdog.stall_seconds=3")
    tiny_job.wait_for_step(job, config, 7)
    os.mkfifo(config.parent / "pipe")
    (config.parent / "pipe").replace(config.parent / "run" / "metrics.jsonl")
    assert job.wait() == COMM, job.log.read_text()
    log = job.log.read_text()
    assert "rank=0 lost rank=0 node=" in log
    assert "no collective began or ended for 3 s, and it began the fewest" in log


# Damage.


DORA = ["use_dora=true", "modules_to_save=[norm]", "trainable_tokens=[3, 7]"]


@pytest.mark.parametrize(
    "method, more",
    [
        ("lora", ["lora.dropout=0.1"]),
        ("qlora", ["lora.dropout=0.1"]),
        ("lora", [f"lora.{option}" for option in DORA]),
        ("lora", ["lora.init=pissa", "lora.rank=4"]),
        ("prefix", []),
        ("prefix", ["prefix.projection=12"]),
        ("prompt", []),
        ("bottleneck", []),
    ],
)
def test_an_adapters_run_that_is_killed_comes_to_the_same_bits(tmp_path, method, more):
    options = [f"method={method}", *more]
    alone, killed = (tiny_job.write(tmp_path / name) for name in ("alone", "killed"))
    code, log = tiny_job.train(1, alone, *options)
    assert code == FINISHED, log
    job = tiny_job.Job(2, killed, *options)
    tiny_job.wait_for_step(job, killed, 12)
    job.kill()
    code, log = tiny_job.train(3, killed, *options, "parallel.stage=1")
    assert code == FINISHED and "resumed step=" in log, log
    curves, files = zip(*map(tiny_job.result, (alone, killed)))
    assert curves[0] == curves[1] and len(tiny_job.step_lines(alone)) == tiny_job.NUM_STEPS
    # The others name the base, which lies in another folder.
    weights = "adapter.safetensors" if method == "bottleneck" else "adapter_model.safetensors"
    assert files[0][weights] == files[1][weights]


def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(undisturbed, tmp_path):
    config = tiny_job.copy(undisturbed, tmp_path / "job")
    newest = tiny_job.checkpoints(config)[-1]
    weights = max((newest / "model").glob("*.safetensors"))
    tiny_run.flip_byte(weights, -100)
    code, log = tiny_job.train(3, config)
    assert code == FINISHED, log
    assert f"passed_over={newest.name} " in log
    assert f"{weights.name} was altered" in log
    assert f"resumed step={tiny_job.NUM_STEPS - 5} " in log
    assert tiny_job.result(config) == tiny_job.result(undisturbed)


def test_a_run_without_a_whole_checkpoint_ends_and_keeps_all(undisturbed, tmp_path):
    config = tiny_job.copy(undisturbed, tmp_path / "job")
    for checkpoint in tiny_job.checkpoints(config):
        tiny_run.flip_byte(checkpoint / "state.json", 30)
    before = tiny_job.file_digests(config.parent / "run")
    code, log = tiny_job.train(2, config)
    assert code == CHECKPOINT, log
    assert "is whole:" in log
    for checkpoint in tiny_job.checkpoints(config):
        assert f"{checkpoint.name}: " in log
    assert tiny_job.file_digests(config.parent / "run") == before


# Another job in the same folder.


def test_a_job_that_lost_its_folder_to_another_one_stops_writing(tmp_path):
    config = tiny_job.write(tmp_path / "job")
    job = tiny_job.Job(2, config, "train.max_steps=1000000", "checkpoint.every_steps=0")
    tiny_job.wait_for_step(job, config, 1)
    lock = config.parent / "run" / "lock.json"
    lock.write_text('{"owner": "job 8"}')
    assert job.wait() == REFUSED, job.log.read_text()
    log = job.log.read_text()
    assert "run was taken over by another job while this one stood still\n  try: look at" in log
    assert lock.read_text() == '{"owner": "job 8"}'
    assert tiny_job.checkpoints(config) == []


# Another run in the same folder.


def other_data(config: Path) -> list[str]:
    tiny_run.write_shard(config.parent / "train.h5", num_documents=41)
    return []


def other_weights(config: Path) -> list[str]:
    path = config.parent / "model" / "config.json"
    path.write_text(path.read_text().replace("10000.0", "20000.0"))
    return []


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda _: ["data.seed=5"], "data.seed was 0 and is 5"),
        (lambda _: ["optimizer.beta1=0.8"], "optimizer.beta1 was 0.9 and is 0.8"),
        (lambda _: ["train.max_steps=70"], "steps was 30 and is 70"),
        (other_data, "the training shards"),
        (other_weights, "the model's weights"),
    ],
)
def test_another_run_does_not_go_on_in_this_ones_folder(undisturbed, tmp_path, change, message):
    config = tiny_job.copy(undisturbed, tmp_path / "job")
    before = tiny_job.file_digests(config.parent / "run")
    overrides = change(config)
    refusal = "run/checkpoints/step-00000030 is of a run with another result: "
    code, log = tiny_job.train(2, config, *overrides)
    assert (code, refusal in log, message in log) == (CONFIGURATION, True, True), (code, log)
    checked = tiny_job.check(config, *overrides)
    found = (refusal in checked.stderr, message in checked.stderr)
    assert (checked.returncode, *found) == (CONFIGURATION, True, True), checked
    assert tiny_job.file_digests(config.parent / "run") == before


# Steps that teach nothing.


def test_steps_without_a_target_are_no_question_of_numbers(tmp_path):
    config = tiny_job.write(tmp_path / "job")
    # One target in 626 rows, which the first steps do not come to.
    tiny_run.write_shard(config.parent / "train.h5", lengths=(*[1] * 20_000, 2))
    code, log = tiny_job.train(2, config, "train.max_skipped_in_a_row=4")
    assert code == DATA, log
    assert "steps 1 to 4 had no target, so there was nothing to learn from" in log
    assert log.count(" skipped=no_target ") == 4, log


def test_steps_without_a_finite_loss_are_skipped_counted_and_end_the_run(tmp_path):
    config = tiny_job.write(tmp_path / "job")
    path = config.parent / "model" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][3] = 3e38  # Finite, so that it loads; the logits are not.
    save_file(weights, path, metadata={"format": "pt"})
    options = ("train.max_skipped_in_a_row=4", "checkpoint.every_steps=1")
    code, log = tiny_job.train(2, config, *options)
    assert code == NON_FINITE, log
    assert "steps 1 to 4 had no finite loss and gradient; the weights are those before them" in log
    assert log.count(" skipped=yes ") == 4, log
    lines = tiny_job.step_lines(config)
    assert [(line["step"], line["loss"], line["updated"]) for line in lines] == [
        (step, None, False) for step in (1, 2, 3, 4)
    ]
    newest = tiny_job.checkpoints(config)[-1]
    state = json.loads((newest / "state.json").read_text())
    step = state["step"]
    assert 1 <= step < 4 and newest.name == f"step-{step:08d}"
    assert state["num_updates"] == 0
    assert state["num_skipped"] == state["num_skipped_in_a_row"] == step
    assert state["num_target_tokens"] == sum(line["num_targets"] for line in lines[:step])
    saved = {}
    for path in (newest / "model").glob("*.safetensors"):
        saved |= load_file(path)
    assert sorted(saved) == sorted(weights)
    assert all(np.array_equal(saved[name], weights[name]) for name in weights)
