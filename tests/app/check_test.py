# SPDX-License-Identifier: Apache-2.0
"""temper check: what it sums up, and what it finds wrong."""

import functools
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tiny_run  # noqa: E402
from tiny_run import assert_refused, flip_byte, temper  # noqa: E402

from temper_data import shard_lengths  # noqa: E402
from temper_data.joint_shards import JointShards  # noqa: E402
from temper_data.shard_writer import ShardIdentity, ShardWriter  # noqa: E402

CONFIGURATION, DATA, MODEL, CHECKPOINT = 11, 12, 13, 14


def test_a_sound_run_is_summed_up_and_ok(tmp_path):
    done = temper("check", tiny_run.write_run(tmp_path), "--ranks", "2", "--verify-data")
    assert done.returncode == 0, done
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    topics = [line.split()[0] for line in lines]
    assert topics == ["model", "compute", "data", "batch", "steps", "memory", "checkpoint",
                      "resume", "ok"]  # fmt: skip
    assert "llama, 5.71 k parameters in 4 units, stored as F32" in lines[0]
    assert lines[1].endswith("float32")
    assert "pretrain, 40 documents, 800 tokens in 25 rows, verified" in lines[2]
    assert "4 rows of 32 tokens: 4 micro-batches, shared by 2 ranks" in lines[3]
    assert "3, or 0.48 epochs of 25 rows" in lines[4]
    assert lines[7].endswith("nothing to go on from: the run starts at step 0")
    assert not (tmp_path / "run").exists()


def test_ranks_that_do_not_divide_the_micro_batches_are_told_of(tmp_path):
    done = temper("check", tiny_run.write_run(tmp_path), "--ranks", "3")
    assert done.returncode == 0, done
    assert "shared by 3 ranks, of which 1 have one more than the others" in done.stdout


@pytest.mark.parametrize("example", sorted((tiny_run.ROOT / "configs").glob("*.yaml")))
def test_each_example_is_a_configuration(example):
    done = temper("check", example, "--print-config")
    assert done.returncode == 0, done


def test_all_problems_of_a_run_are_reported_at_once(tmp_path):
    config = tiny_run.write_run(tmp_path)
    tiny_run.write_shard(tmp_path / "other.h5", tokenizer=b"another one")
    (tmp_path / "model" / "model.safetensors").unlink()
    data = f"[{{path: {tmp_path}/train.h5}}, {{path: {tmp_path}/none.h5}}]"
    holdout = f"[{{name: h, path: {tmp_path}/other.h5}}]"
    done = temper(
        "check", config, "optimizer.beta1=1.5", f"data.train={data}", f"data.holdout={holdout}",
        f"run.folder={tmp_path}/run.yaml/x", "--ranks", "5",
    )  # fmt: skip
    assert_refused(
        done,
        CONFIGURATION,
        "optimizer.beta1 (command line) is '1.5'",
        "4 micro-batches of 1, fewer than 5 ranks",
        "model.safetensors",
        f"{tmp_path}/none.h5",
        "other.h5 was made with tokenizer",
        f"run.folder {tmp_path}/run.yaml/x cannot be written: {tmp_path}/run.yaml is no folder",
        "\n6 problems\n",
    )


def test_a_shard_of_another_tokenizer_is_refused(tmp_path):
    config = tiny_run.write_run(tmp_path)
    tiny_run.write_shard(tmp_path / "train.h5", tokenizer=b"another one")
    assert_refused(temper("check", config), DATA, "train.h5 was made with tokenizer", "1 problem")


def test_a_damaged_tokenizer_is_not_another_one(tmp_path):
    config = tiny_run.write_run(tmp_path)
    path = tmp_path / "model" / "tokenizer.json"
    path.write_bytes(tiny_run.TOKENIZER[:-3])
    holdout = f"data.holdout=[{{name: h, path: {tmp_path}/train.h5}}]"
    for verb, *options in (
        ["check", config],
        ["train", config],
        ["eval", config, holdout],
        ["generate", tmp_path / "model", "--prompts", "1", "--max-new-tokens", 1],
    ):
        assert_refused(temper(verb, *options), MODEL, f"{path} is not the JSON it should be: ")
    path.write_text('{"version": "1.0"}')
    told = f"{path} is damaged: it describes no tokenizer"
    assert_refused(temper("check", config, holdout), MODEL, told, "\n1 problem\n")  # Of two shards.


def test_keys_of_a_configuration_that_change_nothing_are_told_once(tmp_path):
    config = tiny_run.write_run(tmp_path)
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"activation": "swiglu", "a b": 1}))
    done = temper("check", config)
    assert done.returncode == 0, done
    told = f"{path} has keys that are not known here and are ignored: a b, activation\"\n"
    assert (done.stdout + done.stderr).count(told) == 1, done


def test_a_model_without_a_tensor_is_refused(tmp_path):
    config = tiny_run.write_run(tmp_path)
    text = (tmp_path / "model" / "config.json").read_text()
    text = text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    (tmp_path / "model" / "config.json").write_text(text)
    done = temper("check", config)
    assert_refused(done, MODEL, "missing: model.layers.2.mlp.up_proj.weight")


def test_an_altered_payload_is_found_when_asked_for(tmp_path):
    config = tiny_run.write_run(tmp_path)
    shard = tmp_path / "train.h5"
    flip_byte(shard, shard.stat().st_size - 200)
    done = temper("check", config, "--verify-data")
    assert_refused(done, DATA, "train.h5")


def test_a_hold_out_is_not_trained_on(tmp_path):
    """Neither by its name nor by a pattern that means the training shards; it may be evaluated."""
    config = tiny_run.write_run(tmp_path)
    for name, lengths in (("held", (20, 9)), ("train", (20, 20))):
        split = json.dumps({"split": "holdout" if name == "held" else "train"})
        tiny_run.write_shard(tmp_path / f"{name}.h5", lengths=lengths * 20, origin=split)
    for path in ("held.h5", "he*.h5"):
        done = temper("check", config, f"data.train=[{{path: {tmp_path}/{path}}}]")
        assert_refused(done, DATA, f"data.train names a hold-out: {tmp_path}/held.h5 was made for",
                       "name the training shards")  # fmt: skip
    done = temper("check", config, f"data.train=[{{path: {tmp_path}/*.h5}}]")
    assert_refused(done, DATA, f"{tmp_path}/*.h5 matches both sides of a split: ")
    done = temper("check", config, f"data.holdout=[{{name: h, path: {tmp_path}/held.h5}}]")
    assert done.returncode == 0, done


def test_what_is_trained_on_is_not_held_out(tmp_path):
    """Neither the same file nor a copy of it, in no verb that opens hold-outs."""
    config = tiny_run.write_run(tmp_path)
    shutil.copy(tmp_path / "train.h5", tmp_path / "copy.h5")
    tiny_run.write_shard(tmp_path / "held.h5", lengths=(9,) * 40)
    told = {
        "train": f"data.holdout names what is trained on: {tmp_path}/train.h5 is in data.tr",
        "copy": f"on: {tmp_path}/copy.h5 has the content of {tmp_path}/train.h5, which is in",
    }
    for name, message in told.items():
        holdout = f"data.holdout=[{{name: h, path: {tmp_path}/{name}.h5}}]"
        for verb in ("check", "train", "eval"):
            assert_refused(temper(verb, config, holdout), DATA, message, "name shards that are not")
    holdout = f"data.holdout=[{{name: h, path: {tmp_path}/held.h5}}]"
    for verb in ("check", "train", "eval"):
        assert temper(verb, config, holdout).returncode == 0
    (tmp_path / "train.h5").unlink()  # Whoever evaluates need not have it.
    assert temper("eval", config, holdout).returncode == 0


LIMITS = [(100, 400, True), (100, 150, True), (100, 120, False)]  # soft, hard, whether it fits


@pytest.mark.parametrize(("soft", "hard", "fits"), LIMITS)
def test_a_corpus_of_many_files_needs_a_limit_for_them(tmp_path, soft, hard, fits):
    """All of them stay open; the soft limit is raised as far as the system allows."""
    config, lengths = tiny_run.write_run(tmp_path), range(3, 123)
    for number, length in enumerate(lengths):
        name = f"part-{number:05}-of-{len(lengths):05}.h5"
        tiny_run.write_shard(tmp_path / name, lengths=(20, length))
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    parts = f"data.train=[{{path: {tmp_path}/part-*.h5}}]"
    done = temper("check", config, parts, preexec_fn=limit)
    if fits:
        assert done.returncode == 0 and "240 documents in 120 files" in done.stdout, done
    else:
        assert_refused(done, DATA, "part-*.h5 has 120 files, and this process may not have",
                       "raise the hard limit to ", "(ulimit -Hn)")  # fmt: skip


def test_the_warm_up_must_fit_into_the_steps_of_the_data(tmp_path):
    done = temper("check", tiny_run.write_run(tmp_path), "train.max_steps=0", "train.epochs=1",
                  "schedule.warmup_steps=8")  # fmt: skip
    assert_refused(done, CONFIGURATION, "the warm-up of 8 steps cannot fit into the run of 7 steps")


def test_a_run_that_would_fill_the_disk_is_refused(tmp_path):
    done = temper("check", tiny_run.write_run(tmp_path), "checkpoint.keep=900000000000")
    assert_refused(done, CHECKPOINT, "run.folder needs ", "lower checkpoint.keep")


def test_a_file_system_without_room_for_more_files_is_refused(tmp_path):
    library = Path(os.environ["TEMPER_BUILD_DIR"]) / "tests" / "app" / "libfew_files.so"
    done = temper("check", tiny_run.write_run(tmp_path), env={**os.environ, "LD_PRELOAD": library})
    assert_refused(done, CHECKPOINT, f"{tmp_path} has room for only 7 more files", "remove files")


def test_check_tells_where_a_run_goes_on(tmp_path):
    config = tiny_run.write_run(tmp_path)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000002"
    stored = config.read_text() + "optimizer:\n  beta1: 0.8\n"
    tiny_run.write_checkpoint(checkpoint, trajectory="another", config=stored)
    done = temper("check", config)
    assert_refused(done, CONFIGURATION,
                   f"{checkpoint} is of a run with another result: "
                   "optimizer.beta1 was 0.8 and is 0.9")  # fmt: skip
    assert f"at step 2, from {checkpoint}" in done.stdout
    done = temper("check", config, "checkpoint.resume=never")
    assert done.returncode == 0, done


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(tmp_path):
    config = tiny_run.write_run(tmp_path)
    checkpoint = tiny_run.write_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000002")
    (checkpoint / "state.json").unlink()
    assert_refused(temper("check", config), CHECKPOINT, "is whole:", "state.json is missing")


def test_check_tells_what_a_job_cannot_hold_before_it_is_submitted(tmp_path):
    """By a guess it is a warning; by what a job of the run has measured it is refused."""
    config = tiny_run.write_run(tmp_path)
    assert "\ntime " not in temper("check", config).stdout
    limit = "train.time_limit_minutes=90"
    done = temper("check", config, "--nodes", "2", "--time", "8:00:00", limit)
    fact = "\ntime        1h30m a job; a save is expected to take 2s (not measured yet: "
    assert fact in done.stdout
    done = temper("check", config, "--time", "0:04")
    assert done.returncode == 0, done
    assert "\ntime        4s a job may not hold one step and one save; a save is " in done.stdout
    assert_refused(temper("check", config, "--time", "soon"), CONFIGURATION, "'soon'")
    environment = {**os.environ, "TEMPER_SITE": str(tmp_path / "site.env")}
    command = [tiny_run.ROOT / "slurm" / "submit", "--dry-run", "--time", "0:04", config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert "\nwarning  4s a job may not hold one step and one save; a save is " in done.stdout, done

    assert temper("train", config).returncode == 0
    timing = json.loads((tmp_path / "run" / "timing.json").read_text())
    assert (timing["num_nodes"], timing["num_ranks"]) == (1, 1)
    assert timing["save_seconds"] > 0 and timing["step_seconds"] > 0
    timing |= {"save_seconds": 900.0, "step_seconds": 30.0, "num_nodes": 4}
    (tmp_path / "run" / "timing.json").write_text(json.dumps(timing))
    assert temper("check", config, "--nodes", "4", "--time", "24").returncode == 0
    done = temper("check", config, "--nodes", "1", "--time", "1:00:00")
    assert_refused(done, CONFIGURATION, "a job of 1h00m cannot hold one step and one save: by what",
                   "a save is expected to take 1h00m and a step 30s", "is 1h30m")  # fmt: skip
    command[3] = "1:00:00"
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == CONFIGURATION and "nothing was submitted" in done.stderr, done
    done = temper("train", config, "train.time_limit_minutes=1000")
    assert " reserved_for_a_save=1h00m expected=1h00m measured=yes" in done.stderr, done


def write_uneven_conversations(folder: Path, template: str) -> Path:
    """400 conversations of 2 to 90 tokens, whose targets begin anywhere."""
    random = np.random.default_rng(4)
    lengths = random.integers(2, 91, 400)
    mask = np.concatenate([np.arange(n) >= random.integers(1, n) for n in lengths])
    digest = hashlib.sha256(tiny_run.TOKENIZER).hexdigest()
    identity = ShardIdentity("sft", tiny_run.VOCAB, digest, template, 0)
    with ShardWriter(folder / "train.h5", identity) as writer:
        tokens = random.integers(1, tiny_run.VOCAB, lengths.sum())
        writer.append(tokens, lengths, mask.astype(np.uint8))
        writer.publish("{}")
    return folder / "train.h5"


def test_the_data_page_knows_how_the_trainer_fills_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_lengths, "SEQUENCE_LENGTHS", (20, 33, 64))
    config, template = tiny_run.write_run(tmp_path), "{{ messages }}"
    (tmp_path / "model/chat_template.jinja").write_text(template)
    with JointShards([write_uneven_conversations(tmp_path, template)]) as shards:
        fills = shard_lengths.ShardLengths(shards).fills()
    for fill in fills:
        done = temper("check", config, f"data.sequence_length={fill.sequence_length}")
        assert fill.cut > 50 and fill.without_target > 5
        facts = (f" tokens in {fill.rows} rows, {fill.cut} truncated, "
                 f"{fill.without_target} without a target left out")  # fmt: skip
        assert facts in done.stdout, (facts, done)
