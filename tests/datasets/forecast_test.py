# SPDX-License-Identifier: Apache-2.0
"""What --dry-run says of a preparation, beside what the preparation makes."""

import gzip
import json
import random
import re

import pytest
import templates
from conftest import chat, report_of
from conftest import run_here as run
from conftest import write_lines, write_model
from shard_reader import Shard
from source_files import parquet

from temper_data.errors import DataError
from temper_data.forecast import Forecast, describe_forecast
from temper_data.preparation import Preparation
from temper_data.recipe import load_recipe
from temper_data.sampling import Sampler

RECIPE = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
workers: 1
max_tokens: 900
sources:
  - path: {tmp}/a.jsonl
holdout:
  fraction: 0.3
"""
TEXT = "kind: pretrain\nmodel: {tmp}/model\noutput: {tmp}/out\nsources:\n"


def rows(count: int, seed: int) -> list:
    chance = random.Random(seed)
    made = [chat(f"Question {n} of {seed}?", "a" * chance.randint(1, 800)) for n in range(count)]
    return ["{broken" if chance.random() < 0.1 else row for row in made]


def forecast_of(tmp_path, recipe: str, count: int, **overrides) -> Forecast:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.replace("{tmp}", str(tmp_path)))
    recipe = load_recipe(path, [f"{k}={v}" for k, v in overrides.items()])
    return Forecast(Preparation(recipe), count)


def packed_one_by_one(lengths: list[int], capacity: int) -> list[list[int]]:
    """The oracle: best fit decreasing as one would explain it."""
    bins: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row in bins if sum(row) + length <= capacity]
        if fitting:
            max(fitting, key=sum).append(length)
        else:
            bins.append([length])
    return bins


@pytest.mark.parametrize("recipe", [RECIPE, RECIPE.replace("sft", "pretrain")])
def test_without_a_training_side_nothing_is_said_of_its_rows(tmp_path, recipe):
    write_model(tmp_path / "model", templates.CHATML)
    pretrain = "pretrain" in recipe
    held = [{"text": f"text {n}"} if pretrain else chat(f"Q{n}?", "A") for n in range(30)]
    write_lines(tmp_path / "a.jsonl", held)
    forecast = forecast_of(tmp_path, recipe, 100, **{"holdout.fraction": 1})
    lines = describe_forecast(forecast, 1024, 8)
    assert any(line.startswith("holdout: about 30 documents") for line in lines)
    assert not [line for line in lines if line.startswith(("train", "rows of", "steps"))]


def test_a_sample_of_everything_says_what_the_preparation_makes(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    late = [chat("q" * 550 + str(number), "A") for number in range(40)]  # past 700 tokens
    records = [*rows(300, 1), *late]
    write_lines(tmp_path / "a.jsonl", [*records, *records[:9]])
    forecast = forecast_of(tmp_path, RECIPE, 1000)
    assert not (tmp_path / "out").exists()
    folder = run(tmp_path, RECIPE)
    report = report_of(folder)
    for name, side in (("train", 0), ("holdout", 1)):
        chosen, shard = forecast.in_holdout == side, Shard(folder / f"{name}.h5")
        found = [forecast.lengths[chosen].tolist(), int(forecast.targets[chosen].sum())]
        assert found == [[len(ids) for ids in shard.documents()], shard["num_targets"]]
        lengths = report["shards"][name]["tokens_per_document"]
        said = [f"{lengths['median']} in the median", f"{lengths['p95']} in the 95th"]
        lines = describe_forecast(forecast, 700, 3)
        (line,) = (line for line in lines if line.startswith(name))
        assert all(part in line for part in [*said, f"about {shard['num_documents']} documents"])
        assert f" {shard['num_tokens']} tokens an epoch" in line
    (source,) = forecast.sources
    assert +source.dropped == report["dropped"] and source.scale == pytest.approx(1)
    train = Shard(folder / "train.h5")
    lengths = [
        min(700, len(ids))
        for ids, mask in zip(train.documents(), train.masks(), strict=True)
        if any(mask[:700])
    ]
    packed = packed_one_by_one(lengths, 700)
    fill = sum(lengths) / (700 * len(packed))
    assert f"rows of 700: about {len(packed)}, {100 * fill:.1f} % full, " in "\n".join(lines)
    assert f"steps: about {-(-len(packed) // 3)} an epoch of rows of 700, 3 a step" in lines


def write_kinds(tmp_path) -> int:
    """The same records in five kinds of files, of which two are large; how many there are."""
    records = [row for row in rows(4000, 2) if not isinstance(row, str)]
    write_lines(tmp_path / "a.jsonl", records)
    text = "".join(json.dumps(row) + "\n" for row in records)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "c.json").write_text(json.dumps(records, indent=1))
    (tmp_path / "d.parquet").write_bytes(parquet(records))
    return len(records)


@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl.gz", "c.json", "d.parquet"])
def test_a_sample_stands_for_the_whole_in_each_kind_of_file(tmp_path, name):
    """Within 8 %, which is four times the deviation of the mean of 400 such records."""
    write_model(tmp_path / "model", templates.CHATML)
    count = write_kinds(tmp_path)
    recipe = RECIPE.replace("a.jsonl", name) + "deduplicate: false\n"
    forecast = forecast_of(tmp_path, recipe, 400, **{"holdout.fraction": 0, "max_tokens": 0})
    shard = Shard(run(tmp_path, recipe, **{"holdout.fraction": 0, "max_tokens": 0}) / "train.h5")
    assert shard["num_documents"] == count
    assert 390 <= len(forecast.lengths) <= 450
    assert abs(forecast.weights.sum() / count - 1) < 0.08
    tokens = float((forecast.weights * forecast.lengths).sum())
    assert abs(tokens / shard["num_tokens"] - 1) < 0.08
    again = forecast_of(tmp_path, recipe, 400, **{"holdout.fraction": 0, "max_tokens": 0})
    assert again.lengths.tolist() == forecast.lengths.tolist()


def test_texts_are_sampled_by_document_and_by_place(tmp_path):
    write_model(tmp_path / "model")
    (tmp_path / "whole").mkdir()
    chance = random.Random(4)
    for number in range(200):
        (tmp_path / "whole" / f"{number:03}.txt").write_text("x" * chance.randint(100, 900))
    parts = ["y" * chance.randint(1000, 9000) + f"\nsecond line {n}" for n in range(600)]
    (tmp_path / "parts.txt").write_text("\n%\n".join(parts))
    recipe = TEXT + "  - path: {tmp}/whole\n  - path: {tmp}/parts.txt\n    separator: '%'\n"
    forecast = forecast_of(tmp_path, recipe, 300)
    first, second = forecast.sources
    assert first.records == 20 and 270 <= second.records <= 310
    assert abs(first.records * first.scale / 200 - 1) < 0.4
    assert abs(second.records * second.scale / 600 - 1) < 0.12
    lines = describe_forecast(forecast, 1024, 8)
    whole = sum(len(part) for part in parts) + 600 * 2 + 200 * 501
    rows_line = next(line for line in lines if line.startswith("rows of 1024"))
    assert abs(int(re.search(r"about (\d+)", rows_line)[1]) * 1024 / whole - 1) < 0.12
    texts = [data for s in sampler(tmp_path).samples() for _, data in s.records if s.source == 1]
    assert len(texts) > 200  # Whole documents of the file, none twice, from its end as well.
    assert {text.decode().removesuffix("\n") for text in texts} <= set(parts)
    assert len(set(texts)) == len(texts) and any(b"second line 59" in text for text in texts)


def sampler(tmp_path) -> Sampler:
    preparation = Preparation(load_recipe(tmp_path / "recipe.yaml", []))
    return Sampler(preparation.files, 300, preparation.recipe.max_record_bytes)


def test_long_records_make_the_sample_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr("temper_data.sampling.MAX_BYTES", 1 << 20)
    write_model(tmp_path / "model")
    write_lines(tmp_path / "a.jsonl", [{"text": f"{n} " + "x" * 50000} for n in range(300)])
    forecast = forecast_of(tmp_path, TEXT + "  - path: {tmp}/a.jsonl\n", 1000)
    assert 21 <= len(forecast.lengths) <= 55
    assert abs(forecast.weights.sum() / 300 - 1) < 0.05


def test_the_program_writes_nothing(tmp_path, prepare):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", [*rows(200, 1), *rows(3, 1)])
    before = sorted(tmp_path.rglob("*"))
    recipe = RECIPE + "near_duplicates: {action: drop}\n"
    done = prepare(recipe, "--dry-run", "--sample", "1000", "--global-batch", "2")
    assert done.returncode == 0, done.stderr
    for line in [
        r"sample: 203 of about 203 records, \S+ kB in 1 source\n",
        r"dropped: about \S+ % invalid JSON, \d+ of the sample, first at \S+/a.jsonl:\d+: Expect",
        r"dropped: about \S+ % duplicate, \d of the sample\n",
        r"rows of  ?8192: about \d+, \S+ % full",
        r"steps: about \d+ an epoch of rows of 1024, 2 a step\n",
        r"time: about 0:0\d here, with 1 process\n",
        r"note: near duplicates and what repeats evaluation texts are found",
    ]:
        assert re.search(line, done.stdout), (line, done.stdout)
    assert sorted(set(tmp_path.rglob("*")) - set(before)) == [tmp_path / "recipe.yaml"]
    for bad in (["--sample", "0"], ["--global-batch", "x"]):
        done = prepare(recipe, "--dry-run", *bad)
        assert done.returncode == 2 and "is no whole number of at least 1" in done.stderr
    write_lines(tmp_path / "a.jsonl", ["{broken", "[1]"])
    with pytest.raises(DataError, match="no document is left of the sample\n.*a.jsonl:1: "):
        forecast_of(tmp_path, RECIPE.replace("a.jsonl\n", "a.jsonl\n    format: messages\n"), 10)
