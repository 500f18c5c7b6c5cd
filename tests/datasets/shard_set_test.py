# SPDX-License-Identifier: Apache-2.0
"""Splits in several files, published together, and what a full disk or a bad record does."""

import json
import os
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import templates
from conftest import chat, report_of
from conftest import run_here as run
from conftest import write_lines, write_model
from shard_reader import Shard

from temper_data import decontamination, document_spool, records
from temper_data.atomic_file import Publication
from temper_data.errors import DataError
from temper_data.preparation import describe
from temper_data.shard_set import ShardSet
from temper_data.shard_writer import ShardIdentity

CUT = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
workers: 1
shard_tokens: 3000
sources:
  - path: {tmp}/a.jsonl
holdout:
  fraction: 0.3
"""


def rows(count: int, seed: int = 5) -> list[dict]:
    chance = random.Random(seed)
    return [chat(f"Question {n}?", "a" * chance.randint(1, 900)) for n in range(count)]


def greedy(lengths: list[int], most: int) -> list[int]:
    """The oracle: how many documents each part has."""
    counts, tokens = [], most + 1
    for length in lengths:
        if tokens + length > most:
            counts, tokens = [*counts, 0], 0
        counts[-1] += 1
        tokens += length
    return counts


def parts_of(folder: Path, name: str) -> list[Shard]:
    return [Shard(path) for path in sorted(folder.glob(f"{name}-*.h5"))]


def test_lengths_are_described_from_their_counts_as_from_all_of_them():
    chance = random.Random(4)
    for size in (1, 2, 3, 4, 20, 21, 101):
        lengths = sorted(chance.choice([1, 2, 2, 3, 7, 7, 9, 40]) for _ in range(size))
        wanted = {name: lengths[int(share * (size - 1))]
                  for name, share in (("median", 0.5), ("p95", 0.95), ("max", 1.0))}  # fmt: skip
        assert describe(Counter(lengths)) == wanted, lengths


def test_a_cut_split_holds_the_same_documents_whatever_the_workers_and_batches(
    tmp_path, monkeypatch
):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", rows(60))
    whole = run(tmp_path, CUT, shard_tokens=0, output=tmp_path / "whole")
    made = []
    for count, size in ((1, 1 << 19), (3, 2000)):
        monkeypatch.setattr(records, "BATCH_BYTES", size)
        folder = run(tmp_path, CUT, workers=count, output=tmp_path / f"out{count}")
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1]
    for name in ("train", "holdout"):
        expected, parts = Shard(whole / f"{name}.h5"), parts_of(folder, name)
        counts = greedy([len(ids) for ids in expected.documents()], 3000)
        assert [part["num_documents"] for part in parts] == counts and len(counts) > 2
        assert [ids for part in parts for ids in part.documents()] == expected.documents()
        assert [mask for part in parts for mask in part.masks()] == expected.masks()
        names = [f"{name}-{n:05}-of-{len(counts):05}.h5" for n in range(len(counts))]
        assert [part.path.name for part in parts] == names
        entry = report_of(folder)["shards"][name]
        assert [file["file"] for file in entry["parts"]] == names
        assert [file["tokens"] for file in entry["parts"]] == [p["num_tokens"] for p in parts]
        assert entry["file"] == f"{name}-*.h5"
        before = report_of(whole)["shards"][name]
        for key in ("documents", "tokens", "targets", "tokens_per_document"):
            assert entry[key] == before[key]
    assert len(made[0]) == len(parts_of(folder, "train")) + len(counts) + 2  # report and page


@pytest.mark.parametrize("most", [0, 1, 7, 8, 10**6])
def test_where_a_part_ends_depends_on_the_lengths_alone(tmp_path, most):
    chance = random.Random(most)
    lengths = [chance.choice([1, 2, 2, 3, 4, 9]) for _ in range(50)]
    tokens = np.arange(sum(lengths), dtype=np.uint32) % 9
    with ShardSet(tmp_path, "train", ShardIdentity("pretrain", 9, "", "", 2), most) as shard:
        first = begin = 0
        while first < len(lengths):
            last = min(len(lengths), first + chance.randint(1, 9))
            end = begin + sum(lengths[first:last])
            shard.append(tokens[begin:end], np.array(lengths[first:last]), None)
            first, begin = last, end
        counts = greedy(lengths, most) if most else [50]
        assert [part.num_documents for part in shard.parts] == counts
        assert shard.length_counts() == Counter(lengths)
        with Publication() as publication:
            files = shard.write(publication, "{}", None)
            assert not list(tmp_path.glob("*.h5"))
            publication.commit([])
    found = [Shard(tmp_path / file["file"]).payload["tokens"] for file in files]
    assert np.array_equal(np.concatenate(found), tokens)
    assert sorted(path.name for path in tmp_path.iterdir()) == shard.file_names()


def test_a_set_is_reused_replaced_or_protected(tmp_path, prepare):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", rows(30))
    out = tmp_path / "out"
    recipe = CUT.split("holdout")[0]

    def names() -> list[str]:
        return sorted(path.name for path in out.glob("*.h5"))

    done = prepare(recipe)
    assert done.returncode == 0 and f" tokens in {len(names())} files, " in done.stdout
    before = names()
    assert len(before) > 3 and "is up to date" in prepare(recipe).stdout
    write_lines(tmp_path / "a.jsonl", rows(12))
    assert "written in" in prepare(recipe).stdout  # Fewer parts: none of before is left.
    assert 1 < len(names()) < len(before) and not set(names()) & set(before)

    stranger = out / before[0]
    stranger.write_bytes(b"")
    done = prepare(recipe)
    assert done.returncode == 1 and f"holds {before[0]} of another recipe" in done.stderr
    assert "written in" in prepare(recipe, "--force").stdout and not stranger.exists()
    (out / names()[1]).unlink()
    assert "written in" in prepare(recipe).stdout

    done = prepare(recipe, "shard_tokens=0")
    assert done.returncode == 1 and f"holds {', '.join(reversed(names()))}, rep" in done.stderr
    assert "written in" in prepare(recipe, "shard_tokens=0", "--force").stdout
    assert names() == ["train.h5"]
    assert "written in" in prepare(recipe, "--force").stdout and "train.h5" not in names()


@pytest.mark.parametrize("at", ["shard", "quarantine", "sync"])
def test_shards_are_published_together_or_not_at_all(tmp_path, monkeypatch, at):
    """What fails before all is written leaves the shards of before as they were."""
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", rows(30))
    recipe = CUT + "decontaminate:\n  holdout: true\n"
    folder = run(tmp_path, recipe)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_lines(tmp_path / "a.jsonl", rows(40, 6))

    def full(*_):
        raise OSError(28, os.strerror(28))

    if at == "quarantine":
        monkeypatch.setattr(decontamination.Quarantine, "publish", full)
    elif at == "shard":
        write = ShardSet.write

        def fill_by_the_second(shard, *arguments):
            return full() if shard.name == "holdout" else write(shard, *arguments)

        monkeypatch.setattr(ShardSet, "write", fill_by_the_second)
    else:
        monkeypatch.setattr("temper_data.atomic_file.os.chmod", full)
        monkeypatch.setattr("temper_data.preparation.write_json", lambda *_: None)
    with pytest.raises(DataError) as caught:
        run(tmp_path, recipe)
    assert "No space left on device after 100 % of the input; about " in str(caught.value)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) == set(before)
    assert all(after[name] == before[name] for name in before if name != "report.json")


@pytest.mark.parametrize("waits", [False, True])
def test_a_full_disk_says_how_much_is_needed(tmp_path, monkeypatch, waits):
    """Half of four files of one size fits. The oracle is what the whole takes in the end."""
    monkeypatch.setattr(document_spool, "BUFFER_BYTES", 4096)
    write_model(tmp_path / "model", templates.CHATML)
    for name in ("a", "b", "c", "d"):
        write_lines(tmp_path / f"{name}.jsonl", rows(200, ord(name)))
    recipe = CUT.replace("a.jsonl", "[a-d].jsonl").replace("3000", "10000000")
    recipe += "near_duplicates: {action: report}\n" * waits
    owner = document_spool.DocumentSpool if waits else ShardSet
    append, calls, sizes = owner.append, [], []

    def fail_at_the_fifth(self, *arguments):
        calls.append(1)
        if len(calls) == (3 if waits else 5):  # A batch goes to two shards.
            raise OSError(28, os.strerror(28))
        append(self, *arguments)

    def measure(spool):
        finish(spool)
        sizes.extend(path.stat().st_size for path in (tmp_path / "out").glob(".*.waiting-*"))

    with monkeypatch.context() as patch:
        patch.setattr(owner, "append", fail_at_the_fifth)
        with pytest.raises(DataError) as caught:
            run(tmp_path, recipe)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]
    said = re.search(
        f"{tmp_path}/out: No space left on device after 50 % of the input; about (\\S+) MB are "
        r"needed, and \S+ GB are free there\n  try: check disk space", str(caught.value)
    )  # fmt: skip
    assert said, caught.value
    finish = document_spool.DocumentSpool.finish
    monkeypatch.setattr(document_spool.DocumentSpool, "finish", measure)
    folder = run(tmp_path, recipe)
    sizes += [2 * path.stat().st_size for path in folder.glob("*.h5")]
    assert 0.8 < float(said[1]) * 1e6 / sum(sizes) < 1.2
    assert waits == (len(sizes) > 2)


BAD = {
    "invalid JSON": ("{broken", ""),
    "no assistant turn": ({"messages": [{"role": "user", "content": "Q"}]}, ""),
    "too large": (chat("Q", "x" * 5000), "max_record_bytes: 3000\n"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_record_may_end_the_preparation(tmp_path, what):
    write_model(tmp_path / "model", templates.CHATML)
    bad, keys = BAD[what]
    refusing = chat("Q", "As an AI language model, I cannot do that.")
    lines = [*rows(6), refusing, chat("Q", "y" * 2000), *rows(1), bad, "[1]"]
    write_lines(tmp_path / "a.jsonl", lines)
    keys += "max_tokens: 1500\nfilters: {conversation: {refusal: true}}\n"
    recipe = CUT.split("shard_tokens")[0] + "sources:\n  - path: {tmp}/a.jsonl\n" + keys
    report = report_of(run(tmp_path, recipe))
    assert sum(report["dropped"].values()) == 5  # A refusal, one too long, a copy, two bad ones.
    with pytest.raises(DataError) as caught:
        run(tmp_path, recipe, on_error="stop")
    assert f"{tmp_path}/a.jsonl:10: " in str(caught.value) and what in str(caught.value)
    assert "on_error is stop" in str(caught.value)
    write_lines(tmp_path / "a.jsonl", lines[:9])
    assert sum(report_of(run(tmp_path, recipe, on_error="stop"))["dropped"].values()) == 3


def test_new_keys_leave_shards_of_before_up_to_date(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", rows(5))
    recipe = CUT.replace("shard_tokens: 3000\n", "").split("holdout")[0]
    folder = run(tmp_path, recipe)
    assert not {"shard_tokens", "on_error"} & set(report_of(folder)["recipe"])
    origin = json.loads(Shard(folder / "train.h5")["origin"])
    assert not {"shard_tokens", "on_error"} & set(origin["recipe"])
