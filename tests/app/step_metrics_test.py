# SPDX-License-Identifier: Apache-2.0
"""What metrics.jsonl tells of steps beside the loss, and the traces of a profile."""

import json
import math
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
