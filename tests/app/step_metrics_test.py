# SPDX-License-Identifier: Apache-2.0
"""What metrics.jsonl tells of steps beside the loss, and the traces of a profile."""

import json
import math
import re
import subprocess
from pathlib import Path

import pytest
import tiny_run
from safetensors.numpy import load_file

PHASES = ("forward", "backward", "exchange", "update", "save")


def train(config: Path, folder: Path, ranks: int, *overrides: str) -> list[dict]:
    """The lines of the metrics."""
    command = [tiny_run.ROOT / "launch" / "temper", "-n", str(ranks), "train", config,
               f"run.folder={folder}", *overrides]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()))


def steps_of(lines: list[dict]) -> list[dict]:
    return [line for line in lines if line["kind"] == "step"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, list[dict], list[dict]]:
    """The same run on one rank and, sharded, on two: its folder, and the lines of each."""
    folder = tmp_path_factory.mktemp("runs")
    config = tiny_run.write_run(folder)
    asked = ("train.log_unit_norms=2", "train.profile.steps=2-3", "checkpoint.every_steps=2")
    one = train(config, folder / "one", 1, *asked, "parallel.stage=0")
    two = train(config, folder / "two", 2, *asked, "parallel.stage=3")
    return folder, one, two


def test_norms_of_units_make_up_that_of_all_with_the_same_bits_on_any_ranks(runs):
    _, one, two = runs
    for lines in (one, two):
        assert [("unit_grad_norms" in line) for line in steps_of(lines)] == [False, True, False]
    norms = steps_of(one)[1]["unit_grad_norms"]
    assert sorted(norms) == ["embed", "head", "layers.0", "layers.1"]
    whole = math.sqrt(sum(norm**2 for norm in norms.values()))
    assert whole == pytest.approx(steps_of(one)[1]["grad_norm"], rel=1e-12)
    assert steps_of(two)[1]["unit_grad_norms"] == norms
    ratios = steps_of(one)[1]["unit_update_ratios"]
    assert steps_of(two)[1]["unit_update_ratios"] == ratios and ratios.keys() == norms.keys()
    assert [line["loss"] for line in steps_of(two)] == [line["loss"] for line in steps_of(one)]


def test_an_update_is_measured_against_the_weights_before_it(runs):
    """By the checkpoints before and after the second step of a run in fp32."""
    folder, _, _ = runs
    config = folder / "run.yaml"
    asked = ("train.log_unit_norms=1", "checkpoint.every_steps=1", "checkpoint.keep=3")
    lines = steps_of(train(config, folder / "kept", 1, *asked))
    before, after = (masters(folder / "kept", step) for step in (1, 2))
    unit = "model.layers.1."
    moved = sum(((after[name] - before[name]).astype(float) ** 2).sum() for name in before
                if name.startswith(unit))  # fmt: skip
    whole = sum((before[name].astype(float) ** 2).sum() for name in before if name.startswith(unit))
    told = lines[1]["unit_update_ratios"]["layers.1"]
    assert told == pytest.approx(math.sqrt(moved / whole), rel=1e-6)


def test_losses_by_source_are_those_of_an_evaluation_of_each(runs, tmp_path):
    """Of a step that is a whole epoch; two files of one source, and another source."""
    folder, _, _ = runs
    lengths = {"part-a": [20] * 8, "part-b": [3, 5, 9] * 4, "other": [33, 2] * 5}
    files = {name: tiny_run.write_shard(tmp_path / f"{name}.h5", lengths=own)
             for name, own in lengths.items()}  # fmt: skip
    asked = [f"data.train=[{{path: '{tmp_path}/part-*.h5'}}, {{path: {files['other']}}}]",
             "data.global_batch=14", "train.max_steps=2"]  # fmt: skip
    one = train(folder / "run.yaml", tmp_path / "one", 1, *asked, "parallel.stage=0")
    two = train(folder / "run.yaml", tmp_path / "two", 3, *asked, "parallel.stage=3")
    assert one[0]["sources"] == [str(path) for path in files.values()]
    step, other = steps_of(one)[0], steps_of(two)[0]
    for key in ("source_losses", "source_targets", "document_lengths", "num_padding"):
        assert step[key] == other[key], key
    for path, loss, targets in zip(files.values(), step["source_losses"], step["source_targets"],
                                   strict=True):  # fmt: skip
        done = tiny_run.temper("eval", folder / "run.yaml", *tiny_run.evaluating(path))
        found = re.search(r"loss=(\S+) .*num_targets=(\d+)", done.stdout)
        assert int(found[2]) == targets and float(found[1]) == pytest.approx(loss, rel=1e-6)
    rows = [min(32, total - begin) for total in (sum(lengths["part-a"]) + sum(lengths["part-b"]),
            sum(lengths["other"])) for begin in range(0, total, 32)]  # fmt: skip
    assert len(rows) == 14 and step["num_padding"] == 14 * 32 - sum(rows) > 0
    assert sum(step["document_lengths"]) >= sum(map(len, lengths.values()))
    assert step["document_lengths"][1] >= 8 and len(step["document_lengths"]) == 6
    assert 0 <= other["slowest_rank"] < 3 and other["straggler_seconds"] >= 0.0
    assert step["straggler_seconds"] == 0.0


PROMPTS = [{"id": "a", "prompt": [1, 22, 7]}, {"prompt": [5], "max_tokens": 3}]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_prompts_are_answered_as_temper_generate_does_on_any_ranks(runs, tmp_path, method):
    folder, _, _ = runs
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(line) + "\n" for line in PROMPTS))
    asked = [f"train.sample_prompts={prompts}", "train.sample_tokens=6", f"method={method}",
             "train.evaluate_every_steps=2", "checkpoint.every_steps=2",
             "optimizer.learning_rate=0.1"]  # fmt: skip
    one = train(folder / "run.yaml", tmp_path / "one", 1, *asked)
    two = train(folder / "run.yaml", tmp_path / "two", 2, *asked, "parallel.stage=3")
    told = [line for line in one if line["kind"] == "samples"]
    assert [line["step"] for line in told] == [0, 2, 3]
    assert told == [line for line in two if line["kind"] == "samples"]
    result, base = tmp_path / "one" / "final", [folder / "model"]
    trained = [result] if method == "full" else [*base, "--adapter", result]
    for line, weights in ((told[0], base), (told[2], trained)):
        output = tmp_path / f"answers-{line['step']}.jsonl"
        done = tiny_run.temper("generate", *weights, "--requests", prompts, "--output", output,
                               "--max-new-tokens", 6)  # fmt: skip
        assert done.returncode == 0, done
        found = [json.loads(text)["answers"] for text in output.read_text().splitlines()]
        assert found == [sample["answers"] for sample in line["samples"]]
    assert told[0]["samples"] != told[2]["samples"]  # So they are of other weights.
    assert [sample["id"] for sample in told[0]["samples"]] == ["a", 1]
    again = [f"checkpoint.resume={tmp_path}/one/checkpoints/step-00000002", *asked]
    lines = train(folder / "run.yaml", tmp_path / "one", 1, *again)
    assert told == [line for line in lines if line["kind"] == "samples"]


def test_prompts_that_cannot_be_answered_are_refused_before_anything_is_made(runs, tmp_path):
    config = runs[0] / "run.yaml"
    prompts = tmp_path / "prompts.jsonl"
    for text, words in (('{"prompt": [1, 99]}', "line 1"), ("", "has no request"),
                        ('{"prompt": [1], "max_tokens": 64}', "64 positions")):  # fmt: skip
        prompts.write_text(text)
        asked = [f"train.sample_prompts={prompts}", f"run.folder={tmp_path}/run"]
        for verb in ("check", "train"):
            tiny_run.assert_refused(tiny_run.temper(verb, config, *asked), 12, words)
        assert not (tmp_path / "run").exists()


def masters(run: Path, step: int) -> dict:
    found = {}
    for file in (run / "checkpoints" / f"step-{step:08}" / "optimizer").glob("master*.safetensors"):
        found |= load_file(file)
    return found


def test_a_step_is_told_by_phases_and_bytes(runs):
    _, one, two = runs
    for line in steps_of(one) + steps_of(two):
        seconds = [line[f"{phase}_seconds"] for phase in PHASES]
        assert min(seconds) >= 0.0 and line["forward_seconds"] > 0.0 < line["backward_seconds"]
        in_step = sum(seconds[:4]) + line["data_seconds"]
        assert in_step < 1.05 * line["seconds"] + 0.05, line
    assert {line["bytes_sent"] for line in steps_of(one)} == {0}
    sent = [line["bytes_sent"] for line in steps_of(two)]
    parameters = sum(math.prod(shape) for shape in tiny_run.weight_shapes().values())
    # Gathered twice, of which half is another rank's, and gradients exchanged, in fp32.
    assert min(sent) > 4 * parameters
    assert sum(line["exchange_seconds"] for line in steps_of(two)) > 0.0
    assert steps_of(one)[2]["save_seconds"] > 0.0  # The save after the second step.


def test_what_holds_for_all_steps_stands_there_once(runs, tmp_path):
    folder, one, _ = runs
    assert [line["kind"] for line in one] == ["run", "step", "step", "step"]
    assert (one[0]["max_steps"], one[0]["rows_per_step"], one[0]["tokens_per_row"]) == (3, 4, 32)
    again = [f"checkpoint.resume={folder}/one/checkpoints/step-00000002", "parallel.stage=2"]
    lines = train(folder / "run.yaml", folder / "one", 1, *again)
    assert [line["kind"] for line in lines] == ["run", "step", "step", "step"]
    assert lines[3]["loss"] == one[3]["loss"]


def test_a_profile_is_a_trace_of_each_rank(runs):
    """As Chrome opens it: whole events with their fields, nested in one another."""
    folder, _, _ = runs
    for name, ranks in (("one", 1), ("two", 2)):
        files = sorted((folder / name / "profile").iterdir())
        assert [file.name for file in files] == [f"rank-{rank:05}.json" for rank in range(ranks)]
        for rank, file in enumerate(files):
            events = json.loads(file.read_text())["traceEvents"]
            assert events[0]["ph"] == "M" and events[0]["args"] == {"name": f"rank {rank}"}
            spans = events[1:]
            for event in spans:
                assert event["ph"] == "X" and event["pid"] == rank and event["tid"] == 0
                assert event["ts"] >= 0 and event["dur"] >= 0 and event["name"]
            names = [event["name"] for event in spans]
            # Two steps of four micro-batches, over the ranks, and two blocks each.
            assert names.count("forward") == names.count("backward") == 8 // ranks
            assert names.count("update") == names.count("data") == 2
            assert names.count("block 1") == names.count("block backward 1") == 8 // ranks
            assert ("exchange" in names) == (ranks == 2)
            blocks = [event for event in spans if event["name"] == "block 1"]
            assert all(any(is_within(block, span) for span in spans if span["name"] == "forward")
                       for block in blocks)  # fmt: skip


def is_within(inner: dict, outer: dict) -> bool:
    begin, end = outer["ts"], outer["ts"] + outer["dur"]
    return begin <= inner["ts"] and inner["ts"] + inner["dur"] <= end + 0.002


def test_a_range_of_steps_that_is_none_is_refused(tmp_path):
    config = tiny_run.write_run(tmp_path)
    for text in ("3-2", "0", "2-", "a", "1-2-3"):
        done = tiny_run.temper("check", config, f"train.profile.steps='{text}'")
        tiny_run.assert_refused(done, 11, "train.profile.steps", "a step or a range of steps")
