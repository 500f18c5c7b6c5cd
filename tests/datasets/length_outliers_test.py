# SPDX-License-Identifier: Apache-2.0
"""Documents of unusual length: which are found, by source, and what becomes of them."""

import random
import statistics
from math import exp, log

import pytest
import templates
from conftest import report_of, texts_of
from conftest import run_here as run
from conftest import write_lines, write_model

from temper_data.errors import DataError
from temper_data.recipe import load_recipe

RECIPE = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
sources:
  - path: {tmp}/a.jsonl
  - path: {tmp}/b.jsonl
length_outliers:
  action: drop
"""
# Words of several languages and scripts: a length is one in all of them.
WORDS = "harbour Straße puerto гавань الميناء 항구 港口 ハーバー".split()


def answer(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(WORDS, k=count))


def row(number: int, said: str) -> dict:
    turns = [("user", f"Question {number:03}?"), ("assistant", said)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def drawn(seed: int, middle: int, count: int = 60) -> list[str]:
    """Answers of about `middle` words, times or over 2 at most."""
    chance = random.Random(seed)
    return [answer(chance, round(middle * 2 ** chance.uniform(-1, 1))) for _ in range(count)]


def limits_of(lengths: list[int]) -> tuple[float, float]:
    """The oracle: the rule as it is written."""
    logs = [log(length) for length in lengths]
    middle = statistics.median(logs)
    spread = 1.4826 * statistics.median([abs(value - middle) for value in logs])
    return exp(middle - 3.5 * spread), exp(middle + 3.5 * spread)


def write_sources(tmp_path) -> tuple[list[str], list[str]]:
    """Long answers, and short ones; each source has some of the other's length."""
    write_model(tmp_path / "model", templates.CHATML)
    long, short = drawn(1, 200), drawn(2, 12)
    long[7], short[9], short[10] = "Yes, ok.", answer(random.Random(3), 900), "no"
    for name, listed in (("a", long), ("b", short)):
        rows = [row(number, said) for number, said in enumerate(listed)]
        write_lines(tmp_path / f"{name}.jsonl", rows)
    return long, short


def test_outliers_are_those_of_the_rule_by_source(tmp_path):
    long, short = write_sources(tmp_path)
    out = run(tmp_path, RECIPE)
    report = report_of(out)
    trained = [item for item in report["length_outliers"] if item["measure"] == "trained tokens"]
    places = []
    for name, listed, item in zip("ab", (long, short), trained, strict=True):
        lengths = [len(said.encode()) + 1 for said in listed]  # One token per byte, and the mark.
        least, most = limits_of(lengths)
        assert (item["least"], item["most"]) == (round(least, 1), round(most, 1))
        assert item["median"] == round(exp(statistics.median(map(log, lengths))), 1)
        out_of_it = [n for n, length in enumerate(lengths) if not least <= length <= most]
        assert item["shorter"] + item["longer"] == len(out_of_it)
        assert item["share"] == round(len(out_of_it) / 60, 6)
        places += [f"{tmp_path}/{name}.jsonl:{number + 1}" for number in out_of_it]
    assert [place[-10:] for place in places] == ["/a.jsonl:8", "b.jsonl:10", "b.jsonl:11"]
    assert report["dropped"] == {"length outlier": 3}
    assert [text.split(": ")[0] for text in report["examples"]["length outlier"]] == places
    assert report["examples"]["length outlier"][0].split(": ")[1].startswith("9 trained tokens")
    kept = "".join(texts_of(tmp_path, out, "train"))
    assert long[8] in kept and short[8] in kept and short[9] not in kept
    assert trained[1]["examples"][0] | {"text": ""} == {
        "place": places[1], "length": len(short[9].encode()) + 1, "text": "",
    }  # fmt: skip


def test_report_keeps_all_and_is_the_same(tmp_path):
    write_sources(tmp_path)
    dropped = report_of(run(tmp_path, RECIPE, workers=1))
    kept = report_of(run(tmp_path, RECIPE, **{"length_outliers.action": "report", "workers": 2}))
    assert kept["dropped"] == {} and kept["shards"]["train"]["documents"] == 120
    assert kept["length_outliers"] == dropped["length_outliers"]


def test_equal_lengths_and_small_sources_have_no_outliers(tmp_path):
    """Where most are equal, a little more is usual; of a few nothing can be said."""
    write_model(tmp_path / "model", templates.CHATML)
    same = [row(number, "x" * (30 + number % 2 * (number % 3))) for number in range(50)]
    few = [row(number, "y" * 4**number) for number in range(6)]
    write_lines(tmp_path / "a.jsonl", same)
    write_lines(tmp_path / "b.jsonl", few)
    report = report_of(run(tmp_path, RECIPE))
    assert report["dropped"] == {}
    assert [item["source"][-7:] for item in report["length_outliers"]] == ["a.jsonl"] * 2


def test_what_falls_for_another_reason_does_not_count(tmp_path):
    """Near copies that fell are no part of the distribution, and fall once."""
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", [row(n, said) for n, said in enumerate(drawn(4, 40, 40))])
    crowd = " ".join(f"word{number}" for number in range(4000))
    copies = [row(number, f"{crowd} {number}") for number in range(40)]
    others = [row(number, said) for number, said in enumerate(drawn(5, 40, 40))]
    write_lines(tmp_path / "b.jsonl", copies + others)
    report = report_of(run(tmp_path, RECIPE, **{"near_duplicates.action": "drop"}))
    assert report["dropped"] == {"near duplicate": 39, "length outlier": 1}
    assert report["length_outliers"][2]["documents"] == 41


def test_texts_are_measured_whole(tmp_path):
    write_model(tmp_path / "model")
    texts = [f"{number:03} " + "t" * 40 for number in range(40)] + ["u" * 4000]
    write_lines(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    recipe = RECIPE.replace("sft", "pretrain").replace("  - path: {tmp}/b.jsonl\n", "")
    out = run(tmp_path, recipe)
    assert texts_of(tmp_path, out, "train") == texts[:-1]
    assert [item["measure"] for item in report_of(out)["length_outliers"]] == ["tokens"]


def test_options_are_checked(tmp_path):
    path = tmp_path / "recipe.yaml"
    text = RECIPE.replace("drop", "remove").replace("{tmp}", str(tmp_path))
    path.write_text(text + "  deviations: 0\n")
    with pytest.raises(DataError, match="(?s)action .*one of: off, report, drop.*deviations .*'0'"):
        load_recipe(path, [])
