# SPDX-License-Identifier: Apache-2.0
"""One preparation in several processes gives the bytes of one."""

import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import templates
from conftest import ROOT, chat, run_program, write_lines, write_model
from source_files import parquet

from temper_data import records
from temper_data.documents import Prepared
from temper_data.errors import DataError
from temper_data.filters.findings import Findings
from temper_data.part_file import PartReader, PartWriter
from temper_data.parts import Inputs, JoinedParts, Part, Share, make_part, parse_part
from temper_data.preparation import Preparation, total_bytes
from temper_data.progress import Progress
from temper_data.recipe import load_recipe
from temper_data.traces import Traces

RECIPE = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
workers: 1
shard_tokens: 20000
sources:
  - path: {tmp}/stuff
near_duplicates: {action: drop}
decontaminate: {evaluation: ['{tmp}/quiz.jsonl'], holdout: true}
holdout: {fraction: 0.3}
filters: {conversation: {refusal: true, contradictions: true}}
"""


def drawn_rows(count: int, seed: int) -> list:
    """Conversations with copies, near copies, refusals, questions of a quiz, and broken lines."""
    chance = random.Random(seed)
    rows: list = []
    while len(rows) < count:
        words = [f"w{chance.randrange(5000)}" for _ in range(chance.randint(20, 60))]
        row = chat(" ".join(words[:9]), " ".join(words[9:]))
        rows += [row] * chance.choice([1, 1, 2])
        words[-1] = "changed"
        near = chat(" ".join(words[:9]), " ".join(words[9:]))
        others = ["{broken", chat("Q", "As an AI language model, I cannot."), near]
        others.append(chat("Quiz!", " ".join(f"quiz{n}" for n in range(20))))
        rows.append(chance.choice(others))
    chance.shuffle(rows)
    return rows


def write_stuff(tmp_path) -> None:
    """A small file, an empty one, a large one that several parts share, and other kinds."""
    write_model(tmp_path / "model", templates.CHATML)
    stuff = tmp_path / "stuff"
    stuff.mkdir()
    rows = drawn_rows(400, 3)
    write_lines(stuff / "a.jsonl", rows[:20])
    (stuff / "b.jsonl").write_bytes(b"")
    write_lines(stuff / "c.jsonl", rows[10:300])
    packed = write_lines(tmp_path / "d.jsonl", rows[300:350]).read_bytes()
    (stuff / "d.jsonl.gz").write_bytes(gzip.compress(packed))
    whole = [row for row in rows[340:] if not isinstance(row, str)]
    (stuff / "e.parquet").write_bytes(parquet(whole))
    write_lines(tmp_path / "quiz.jsonl", [{"question": " ".join(f"quiz{n}" for n in range(20))}])


def preparation_of(tmp_path, recipe=RECIPE, **overrides) -> Preparation:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.replace("{tmp}", str(tmp_path)))
    return Preparation(load_recipe(path, [f"{k}={v}" for k, v in overrides.items()]))


def quiet(preparation: Preparation) -> Progress:
    return Progress(total_bytes(preparation.files), open(os.devnull, "w"))


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("count", [3, 7])
def test_parts_and_their_join_give_the_bytes_of_one_process(tmp_path, monkeypatch, count):
    monkeypatch.setattr(records, "BATCH_BYTES", 3000)  # Many batches, and borders within files.
    monkeypatch.setattr("temper_data.source_file.READ_BYTES", 1000)
    write_stuff(tmp_path)
    one = preparation_of(tmp_path, output=tmp_path / "one")
    report = one.run(quiet(one))
    dropped = {"duplicate", "near duplicate", "answer refuses", "in an evaluation set"}
    assert dropped | {"invalid JSON"} <= set(report["dropped"]), report["dropped"]
    order = list(range(count))
    random.Random(1).shuffle(order)
    sizes = []
    for number in order:
        part = preparation_of(tmp_path, workers=1 + number % 2)
        assert make_part(part, Part(number, count), quiet(part))
        assert not make_part(part, Part(number, count), quiet(part))  # It is there.
        path = part.output / "parts" / Part(number, count).file_name
        sizes.append(sum(1 for _ in PartReader(path).batches()))
    assert sum(size > 0 for size in sizes) > count // 2
    joining = preparation_of(tmp_path)
    joined = JoinedParts(joining)
    joining.run(quiet(joining), joined)
    joined.remove()
    assert content(tmp_path / "out") == content(tmp_path / "one")
    assert len(list((tmp_path / "out").glob("train-*"))) > 1


def test_parts_know_which_lines_the_whole_corpus_repeats(tmp_path):
    write_model(tmp_path / "model")
    footer = "Read this page in its newest version on our site."
    rows = [{"text": f"Page {n} of the manual tells of thing {n}.\n{footer}"} for n in range(60)]
    write_lines(tmp_path / "a.jsonl", rows)
    recipe = "kind: pretrain\nmodel: {tmp}/model\noutput: {tmp}/out\nsources:\n"
    recipe += "  - path: {tmp}/a.jsonl\nfilters: {repeated_lines: {min_documents: 50}}\n"
    one = preparation_of(tmp_path, recipe, output=tmp_path / "one")
    one.run(quiet(one))
    for number in range(3):
        part = preparation_of(tmp_path, recipe)
        assert make_part(part, Part(number, 3), quiet(part))
    joining = preparation_of(tmp_path, recipe)
    joined = JoinedParts(joining)
    report = joining.run(quiet(joining), joined)
    joined.remove()
    assert report["filters"]["found"]["repeated lines removed"]["texts"] == 60
    assert content(tmp_path / "out") == content(tmp_path / "one")


def test_each_batch_is_of_one_part_and_files_within_a_part_are_read_by_it_alone(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(records, "BATCH_BYTES", 400)
    monkeypatch.setattr("temper_data.source_file.READ_BYTES", 150)
    write_stuff(tmp_path)
    for number in range(20):
        write_lines(tmp_path / "stuff" / f"f{number}.jsonl", drawn_rows(5, number))
    files = preparation_of(tmp_path).files
    whole = [(b.file, [n for n, _ in b.records]) for b in records.read_batches(files, 10**6, [])]
    for count in (1, 2, 5, 40):
        inputs, found, ends, openings = Inputs.of(files), [], [], 0
        for number in range(count):
            share, described = Share(Part(number, count), files, inputs), []
            openings += len(share.files)
            found += [(b.file, [n for n, _ in b.records]) for b in share.batches(10**6, described)]
            ends += [entry["file"] for entry in described]
        assert found == whole
        assert set(ends) == {str(file.path) for file in files}
        assert openings <= len(files) + count  # At most one file across each border.


def changed(tmp_path) -> None:
    with open(tmp_path / "stuff" / "c.jsonl", "a") as file:
        file.write("\n")


def torn(tmp_path) -> None:
    path = tmp_path / "out" / "parts" / "00001-of-00003.part"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(tmp_path) -> None:
    path = tmp_path / "out" / "parts" / "00001-of-00003.part"
    os.truncate(path, path.stat().st_size * 2 // 3)


def lacking(tmp_path) -> None:
    (tmp_path / "out" / "parts" / "00001-of-00003.part").unlink()


def mixed(tmp_path) -> None:
    shutil.copy(tmp_path / "out" / "parts" / "00001-of-00003.part",
                tmp_path / "out" / "parts" / "00001-of-00004.part")  # fmt: skip


def other_recipe(tmp_path) -> None:
    part = preparation_of(tmp_path, max_tokens=5000)
    assert make_part(part, Part(1, 3), quiet(part))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (changed, "c.jsonl is another file than the one that"),
        (torn, "00001-of-00003.part is damaged\n  try: remove it, and run this part again"),
        (cut, "00001-of-00003.part is damaged"),
        (lacking, "lacks 1 of 3 parts: 1\n  try: run what is missing, such as --part 1/3"),
        (mixed, "holds parts of 3 and of 4"),
        (other_recipe, "00001-of-00003.part is of another recipe"),
        (lambda tmp: shutil.rmtree(tmp / "out"), "out/parts holds no parts"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(tmp_path, spoil, says):
    write_stuff(tmp_path)
    for number in range(3):
        part = preparation_of(tmp_path)
        make_part(part, Part(number, 3), quiet(part))
    spoil(tmp_path)
    joining = preparation_of(tmp_path)
    with pytest.raises(DataError) as caught:
        joining.run(quiet(joining), JoinedParts(joining))
    assert says in str(caught.value) and "\n  try: " in str(caught.value)
    assert not list((tmp_path / "out").glob("*.h5"))
    if spoil in (torn, cut, lacking, other_recipe):  # What it says is what helps.
        part = preparation_of(tmp_path)
        assert make_part(part, Part(1, 3), quiet(part))
        joining = preparation_of(tmp_path)
        joining.run(quiet(joining), JoinedParts(joining))


def test_an_array_job_from_outside(tmp_path, prepare):
    """Killed tasks are run again; what is done is not done twice."""
    write_stuff(tmp_path)
    array = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0",
             "SLURM_ARRAY_TASK_MAX": "1"}  # fmt: skip
    environments = [os.environ | array | {"SLURM_ARRAY_TASK_ID": str(n)} for n in range(2)]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("{tmp}", str(tmp_path)))
    command = [sys.executable, ROOT / "datasets/prepare.py", recipe, "--part", "slurm"]
    parts = tmp_path / "out" / "parts"
    with subprocess.Popen(command, env=environments[0]) as process:
        while process.poll() is None and not (parts.is_dir() and list(parts.iterdir())):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    for environment in environments * 2:
        done = prepare(RECIPE, "--part", "slurm", env=environment)
        assert done.returncode == 0, done.stderr
    assert "is there already" in done.stdout
    assert sorted(os.listdir(parts)) == ["00000-of-00002.part", "00001-of-00002.part"]
    assert not list((tmp_path / "out").glob("*.json"))
    done = prepare(RECIPE, "--join")
    assert done.returncode == 0 and "written in" in done.stdout and not parts.exists()
    joined = content(tmp_path / "out")
    for option in (["--part", "0/2"], ["--join"]):
        assert "is up to date" in prepare(RECIPE, *option).stdout
    assert run_program("prepare.py", recipe, "--force").returncode == 0
    assert content(tmp_path / "out") == joined
    done = prepare(RECIPE, "--part", "0/2", "max_tokens=4000")
    assert done.returncode == 1 and "of another recipe" in done.stderr


def task(number: int, first: int, last: int, count: int) -> dict[str, str]:
    values = {"ID": number, "MIN": first, "MAX": last, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("0/1", {}, Part(0, 1)),
        ("7/8", {}, Part(7, 8)),
        ("8/8", {}, "there is no part 8 of 8\n  try: the parts of 8 are numbered 0 to 7"),
        ("1", {}, "--part is '1'"),
        ("-1/8", {}, "--part is '-1/8'"),
        ("slurm", {}, "this is none\n  try: submit it with sbatch --array=0-7"),
        ("slurm", task(3, 0, 7, 8), Part(3, 8)),
        ("slurm", task(3, 3, 3, 1), "cannot be told from it\n  try: say it, as in --part slurm/8"),
        ("slurm", task(1, 1, 8, 8), "tasks go from 1 to 8"),
        ("slurm", task(0, 0, 6, 4), "tasks go from 0 to 6"),
        ("slurm/8", task(3, 3, 3, 1), Part(3, 8)),
        ("slurm/8", task(9, 9, 9, 1), "there is no part 9 of 8"),
    ],
)
def test_parts_are_named_by_hand_or_by_slurm(text, environment, expected):
    if isinstance(expected, Part):
        assert parse_part(text, environment) == expected
        return
    with pytest.raises(DataError) as caught:
        parse_part(text, environment)
    assert expected in str(caught.value)


def test_a_part_file_gives_back_all_that_was_put_in(tmp_path):
    numbers = np.arange(5, dtype=np.uint64)
    batch = Prepared(
        tokens=np.arange(9, dtype=np.uint32), lengths=np.array([4, 5]), mask=None,
        turn_ends=np.array([-1]), num_turns=np.array([1, 0]), digests=[2**64 - 1, 0],
        in_holdout=np.array([True, False]), dropped=Counter({"\ud800": 2, "a": 1}),
        examples=[("b", "file:1: \udce9")], source_bytes=7,
        findings=Findings(3, Counter(x=1), Counter(), Counter(), {"x": ["one"]}),
        asked=[(1, 2**64 - 1, "Why?")],
        file="f:", lines=np.zeros(0, np.int64),
        traces=Traces("s", numbers.astype(np.uint32), numbers, numbers.reshape(5, 1), numbers,
                      ["a", "\ud800"]),
    )  # fmt: skip
    path = tmp_path / "a.part"
    with open(path, "wb") as file:
        writer = PartWriter(file, {"what": "test"})
        writer.add(batch)
        writer.finish([{"file": "f"}])
    reader = PartReader(path)
    (found,) = reader.batches()
    assert reader.head == {"what": "test"} and reader.sources == [{"file": "f"}]
    assert repr(found) == repr(batch)
    assert found.tokens.dtype == np.uint32 and found.traces.bands.shape == (5, 1)
    data = path.read_bytes()
    for place in range(0, len(data), 13):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(DataError, match="damaged"):
            list(PartReader(path).batches())
    with open(path, "wb") as file, pytest.raises(TypeError, match="cannot hold a set"):
        PartWriter(file, {}).add(replace(batch, digests={1}))
