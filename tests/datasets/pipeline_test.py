# SPDX-License-Identifier: Apache-2.0
"""The parts of preparation that work together: order, hold-out, duplicates, processes, progress."""

import io
import os
import random
from pathlib import Path

import pytest
import templates
from conftest import write_lines, write_model
from shard_reader import Shard

from temper_data import records, workers
from temper_data.digest_set import DigestSet
from temper_data.errors import DataError
from temper_data.preparation import Preparation, total_bytes
from temper_data.progress import Progress, clock_time
from temper_data.recipe import load_recipe


@pytest.fixture
def small_batches(monkeypatch):
    """Many batches from little data."""
    monkeypatch.setattr(records, "BATCH_BYTES", 500)


def run(tmp_path, recipe: str, **overrides) -> Path:
    """Prepares in this process and returns the output folder."""
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.replace("{tmp}", str(tmp_path)))
    preparation = Preparation(load_recipe(path, [f"{k}={v}" for k, v in overrides.items()]))
    preparation.run(Progress(total_bytes(preparation.files), io.StringIO()))
    return preparation.output


SFT = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
workers: 1
sources:
  - path: {tmp}/a.jsonl
holdout:
  fraction: 0.3
  by: group
"""


def conversations(count: int, groups: int) -> list[dict]:
    chance = random.Random(5)
    return [
        {
            "messages": [
                {"role": "user", "content": f"Question {number}?"},
                {"role": "assistant", "content": "A" * chance.randint(1, 60)},
            ],
            "group": f"g{number % groups}",
        }
        for number in range(count)
    ]


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, small_batches):
    write_model(tmp_path / "model", templates.CHATML)
    lines = conversations(200, 20)
    lines.insert(50, "{broken")
    lines.insert(120, lines[3])
    write_lines(tmp_path / "a.jsonl", lines)
    made = []
    for count in (1, 2, 3):
        folder = run(tmp_path, SFT, workers=count, output=tmp_path / f"out{count}")
        names = ["train.h5", "holdout.h5", "report.json"]
        made.append([(folder / name).read_bytes() for name in names])
        assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert made[0] == made[1] == made[2]


def test_order_is_that_of_the_files(tmp_path, small_batches):
    write_model(tmp_path / "model")
    for name in ("b", "a"):
        write_lines(tmp_path / f"{name}.jsonl", [{"text": f"{name}{n}"} for n in range(50)])
    recipe = "kind: pretrain\nmodel: {tmp}/model\noutput: {tmp}/out\nsources:\n"
    folder = run(tmp_path, recipe + "  - path: '{tmp}/[ab].jsonl'\n", workers=2)
    ids = Shard(folder / "train.h5").documents()
    preparation = Preparation(load_recipe(tmp_path / "recipe.yaml", []))
    texts = [preparation.model.tokenizer.decode(document) for document in ids]
    assert texts == [f"{name}{n}" for name in "ab" for n in range(50)]


def groups_of(tmp_path, folder, name) -> set[int]:
    shard = Shard(folder / f"{name}.h5")
    tokenizer = Preparation(load_recipe(tmp_path / "recipe.yaml", [])).model.tokenizer
    texts = [tokenizer.decode(document) for document in shard.documents()]
    return {int(text.split("Question ")[1].split("?")[0]) % 40 for text in texts}


def test_no_group_is_on_both_sides(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(400, 40))
    folder = run(tmp_path, SFT)
    train = groups_of(tmp_path, folder, "train")
    holdout = groups_of(tmp_path, folder, "holdout")
    assert not train & holdout and train | holdout == set(range(40))
    assert 4 <= len(holdout) <= 20  # 0.3 of 40 is 12
    salted = run(tmp_path, SFT + "  salt: other\n", output=tmp_path / "salted")
    assert groups_of(tmp_path, salted, "holdout") != holdout


def test_copies_that_differ_in_white_space_stay_on_one_side(tmp_path):
    write_model(tmp_path / "model")
    lines = [{"text": f"text {n}{blank}"} for n in range(60) for blank in ("", "\n", "  \n ")]
    write_lines(tmp_path / "a.jsonl", lines)
    recipe = SFT.replace("sft", "pretrain").replace("  by: group\n", "")
    folder = run(tmp_path, recipe)
    counts = [Shard(folder / name)["num_documents"] for name in ("train.h5", "holdout.h5")]
    assert counts[0] % 3 == 0 and counts[1] % 3 == 0 and sum(counts) == 180


def test_everything_or_nothing_may_be_held_out(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(20, 20))
    folder = run(tmp_path, SFT, **{"holdout.fraction": 1})
    assert Shard(folder / "holdout.h5")["num_documents"] == 20
    assert not (folder / "train.h5").exists()
    run(tmp_path, SFT, **{"holdout.fraction": 0})
    assert Shard(folder / "train.h5")["num_documents"] == 20
    assert not (folder / "holdout.h5").exists()
    with pytest.raises(DataError, match="no document is left for holdout.h5; dropped: none"):
        run(tmp_path, SFT, **{"holdout.fraction": 0.000001})


def test_a_record_without_its_key_is_dropped(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    lines = conversations(30, 30)
    del lines[4]["group"]
    write_lines(tmp_path / "a.jsonl", lines)
    report = (run(tmp_path, SFT) / "report.json").read_text()
    assert "a.jsonl:5: no text under group" in report


def test_duplicates_are_kept_when_asked(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(5, 5) * 3)
    kept = run(tmp_path, SFT, **{"holdout.fraction": 0, "deduplicate": "false"})
    assert Shard(kept / "train.h5")["num_documents"] == 15
    run(tmp_path, SFT, **{"holdout.fraction": 0})
    assert Shard(kept / "train.h5")["num_documents"] == 5


def die(_batch):
    os._exit(3)


def test_a_worker_that_dies_is_reported(tmp_path, monkeypatch):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(20, 20))
    monkeypatch.setattr(workers, "prepare_in_worker", die)
    with pytest.raises(DataError) as caught:
        run(tmp_path, SFT, workers=2)
    assert "a worker process died" in str(caught.value) and "fewer than 2" in str(caught.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


def test_the_digest_set_is_a_set():
    chance = random.Random(3)
    digests = [chance.getrandbits(64) >> chance.choice([0, 40]) for _ in range(5000)]
    ours, reference = DigestSet(capacity=8), set()
    for digest in [0, *digests, *digests[:100]]:
        is_new = (digest or 1) not in reference
        assert ours.add(digest) == is_new
        reference.add(digest or 1)
    assert len(ours) == len(reference)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "first"), [(io.StringIO(), " "), (Terminal(), "\r")])
def test_progress_shows_what_is_left(monkeypatch, stream, first):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(4_000_000, stream)
    progress.advance(1, 1, 1)
    assert stream.getvalue() == ""
    now[0] = 130.0
    progress.advance(999_999, 20, 3000)
    progress.finish()
    line = " 25.0 % of 4.0 MB, 20 documents, 3000 tokens, 100 tokens/s, 1:30 left"
    assert line in stream.getvalue() and stream.getvalue().startswith(first)
    assert stream.getvalue().endswith("\n" if first == " " else "\r")


def test_times_are_read_like_clocks():
    assert [clock_time(s) for s in (0, 59.6, 3599, 3600)] == ["0:00", "1:00", "59:59", "1:00:00"]
