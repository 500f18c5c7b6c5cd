# SPDX-License-Identifier: Apache-2.0
"""launch/board: event files are read back by another reader, and a second call adds what is new."""

import ast
import importlib.util
import json
import math
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from runs import (
    ROOT, environment, evaluation_line, launch, loss_at, step_line, write_lines, write_run,
)  # fmt: skip


def read(folder: Path) -> dict[str, list]:
    """(step, value, seconds) by tag, in the order of the files."""
    reader = Path(__file__).with_name("event_reader.py")
    done = subprocess.run([os.environ["TEMPER_BOARD_PYTHON"], reader, folder], capture_output=True)
    assert done.returncode == 0, done
    found = {}
    for tag, *rest in json.loads(done.stdout):
        found.setdefault(tag, []).append(tuple(rest))
    return found


def board(*arguments) -> str:
    done = launch("board", *arguments)
    assert done.returncode == 0, done
    return done.stdout


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


def trainers_function(name: str):
    """Of the Trainer's callbacks, by its own source: to import all of it takes seconds."""
    package = Path(importlib.util.find_spec("transformers").origin).parent
    source = (package / "integrations" / "integration_utils.py").read_text()
    chosen = [node for node in ast.parse(source).body if getattr(node, "name", "") == name]
    names = {}
    exec(compile(ast.Module(chosen, []), name, "exec"), names)
    return names[name]


def test_curves_have_the_names_of_hugging_faces_trainer(tmp_path):
    run = write_run(tmp_path / "run", 40)
    board(run)
    found = read(tmp_path / "run.board")
    assert [(step, np.float32(loss_at(step))) for step in range(1, 41)] == [
        (step, value) for step, value, _ in found["train/loss"]
    ]
    logged = {"loss": 1, "learning_rate": 1, "grad_norm": 1, "num_input_tokens_seen": 1}
    assert set(trainers_function("rewrite_logs")(logged)) <= set(found)
    seen = [value for _, value, _ in found["train/num_input_tokens_seen"]]
    assert seen == [1024 * step for step in range(1, 41)]
    assert [(s, v) for s, v, _ in found["eval/general/loss"]] == [(0, 2.0), (40, 2.25)]
    assert [(s, v) for s, v, _ in found["eval/general/forgetting"]] == [(40, 0.25)]
    end = (run / "metrics.jsonl").stat().st_mtime
    assert found["train/loss"][-1][2] == pytest.approx(end)
    assert found["train/loss"][-1][2] - found["train/loss"][0][2] == pytest.approx(39 * 0.5)
    assert not files(run)


def test_a_second_call_adds_what_is_new_and_no_more(tmp_path):
    run = write_run(tmp_path / "run", 40, last=5)
    assert "50 new values" not in board(run)
    assert ": 0 new values" in board(run) and len(files(tmp_path / "run.board")) == 1
    with open(run / "metrics.jsonl", "a") as file:
        for step in (6, 7):
            file.write(json.dumps(step_line(step)) + "\n")
        file.write('{"kind": "step", "step": 8, "lo')
    done = launch("board", run)  # In the same second as the first, perhaps.
    assert ": 26 new values" in done.stdout and "line 13 could not be read" in done.stderr
    assert len(files(tmp_path / "run.board")) == 2
    found = read(tmp_path / "run.board")
    assert [step for step, _, _ in found["train/loss"]] == [1, 2, 3, 4, 5, 6, 7]
    assert [step for step, _, _ in found["eval/answers/loss"]] == [0]


def test_files_of_one_second_have_names_of_their_own(tmp_path):
    code = """if True:
        from pathlib import Path
        from temper_runs.event_files import EventFolder
        from temper_runs.scalars import Scalar
        for step in range(12):
            folder = EventFolder(Path("events"))
            folder.add([Scalar("a", step, 0.0, 0.0)])
            folder.close()"""
    command = [os.environ["TEMPER_BOARD_PYTHON"], "-c", code]
    paths = f"{ROOT}/launch:{ROOT}/datasets"
    subprocess.run(command, cwd=tmp_path, env=environment(PYTHONPATH=paths), check=True)
    assert [step for step, _, _ in read(tmp_path / "events")["a"]] == list(range(12))


def test_steps_that_a_resumed_job_repeats_are_not_there_twice(tmp_path):
    run = write_run(tmp_path / "run", 40, last=9)
    board(run)
    for last in (6, 9, 11):  # Back to a checkpoint, and on.
        write_lines(run / "metrics.jsonl", [step_line(step) for step in range(1, last + 1)])
        board(run)
    steps = [step for step, _, _ in read(tmp_path / "run.board")["train/loss"]]
    assert steps == list(range(1, 12))


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    run = write_run(tmp_path / "run", 40, last=5)
    board(run)
    before = [path.read_bytes() for path in files(tmp_path / "run.board")]
    lines = [step_line(step, loss=9.0) for step in range(1, 8)]
    write_lines(run / "metrics.jsonl", lines)
    done = launch("board", run)
    assert done.returncode == 1
    assert "has another run: its train/loss is 2.3 at step 5" in done.stderr
    assert "\n  try: " in done.stderr
    assert [path.read_bytes() for path in files(tmp_path / "run.board")] == before


@pytest.mark.parametrize("cut", [2, 37, 1197])
def test_an_event_file_that_was_torn_is_made_up_for(tmp_path, cut):
    run = write_run(tmp_path / "run", 40)
    board(run)
    whole = read(tmp_path / "run.board")
    (torn,) = files(tmp_path / "run.board")
    os.truncate(torn, torn.stat().st_size - cut)
    board(run)
    found = read(tmp_path / "run.board")
    assert {tag: [v[:2] for v in sorted(values)] for tag, values in found.items()} == {
        tag: [v[:2] for v in values] for tag, values in whole.items()
    }


def test_what_was_not_finite_is_nan_and_odd_names_are_made_plain(tmp_path):
    run = tmp_path / "run"
    write_lines(run / "metrics.jsonl", [
        step_line(1, loss=None, **{"peak memory, GB": 3.5}), step_line(2, loss="low", host={}),
        evaluation_line(2, "answers", None),
    ])  # fmt: skip
    board(run, "-o", tmp_path / "all")
    found = read(tmp_path / "all" / "run")
    assert [math.isnan(v) for _, v, _ in found["train/loss"]] == [True]
    assert found["train/peak_memory__GB"][0][:2] == (1, 3.5)
    assert math.isnan(found["eval/answers/loss"][0][1]) and "train/host" not in found
    assert ": 0 new values" in board(run, "-o", tmp_path / "all")


def test_following_ends_with_the_run(tmp_path):
    run = write_run(tmp_path / "run", 40, last=5)
    process = subprocess.Popen(
        [ROOT / "launch" / "board", run, "--follow"], stdout=subprocess.PIPE, text=True
    )
    assert "new values" in process.stdout.readline()
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps(step_line(6)) + "\n")
    (run / "final").mkdir()
    begin = time.monotonic()
    assert process.stdout.readline().endswith(": 13 new values\n")
    assert process.wait(60) == 0 and time.monotonic() - begin < 60


@pytest.mark.parametrize("option, library", [
    (["--wandb", "offline"], "wandb"), (["--mlflow", "store"], "mlflow"),
])  # fmt: skip
def test_libraries_that_are_not_there_are_named(tmp_path, option, library):
    done = launch("board", write_run(tmp_path / "run"), *option, cwd=tmp_path)
    assert done.returncode == 1 and f"{library} cannot be imported" in done.stderr
    assert "\n  try: pip install" in done.stderr
