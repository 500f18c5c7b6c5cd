# SPDX-License-Identifier: Apache-2.0
"""Classes of records get the shares of the training tokens that a recipe asks for."""

import json
import random
from collections import Counter

import pytest
import templates
from conftest import chat, report_of, texts_of
from conftest import run_here as run
from conftest import write_lines, write_model
from parts_test import content, preparation_of, quiet
from shard_reader import Shard

from temper_data import records
from temper_data.errors import DataError
from temper_data.parts import JoinedParts, Part, make_part
from temper_data.recipe import load_recipe

RECIPE = """\
kind: pretrain
model: {tmp}/model
output: {tmp}/out
workers: 1
sources:
  - path: {tmp}/a.jsonl
    balance: {by: meta.topic}
"""
# Of several scripts, with white space that does not count, and a number.
COUNTS = {"code": 900, "수학": 260, "법 률": 140, 7: 60}


def drawn_rows(seed: int, counts: dict = COUNTS) -> list[dict]:
    """Texts that name their class and number, of 20 to 200 characters, shuffled."""
    chance = random.Random(seed)
    rows = []
    for name, count in counts.items():
        for number in range(count):
            text = f"{name}|{number} " + "x" * chance.randint(20, 200)
            rows.append({"text": text, "meta": {"topic": name}})
    chance.shuffle(rows)
    return rows


def tokens_of(tmp_path, out) -> Counter:
    """Tokens of each class in the training shard: bytes, each with an end token."""
    found: Counter = Counter()
    for text in texts_of(tmp_path, out, "train"):
        found[text.split("|")[0]] += len(text.encode()) + 1
    return found


def total(rows: list[dict]) -> Counter:
    found: Counter = Counter()
    for row in rows:
        found[str(row["meta"]["topic"])] += len(row["text"].encode()) + 1
    return found


def prepare(tmp_path, rows, **overrides):
    write_model(tmp_path / "model")
    write_lines(tmp_path / "a.jsonl", rows)
    return run(tmp_path, RECIPE, **overrides)


def wanted_shares(before: Counter, temperature: float) -> dict[str, float]:
    """The oracle: the rule as it is written."""
    power = 1 / temperature if temperature else 0
    weights = {name: count**power for name, count in before.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("temperature", "epochs"), [(0, 1), (0, 3), (2, 1), (2, 50), (1, 9)])
def test_shares_are_within_one_percent_of_what_was_asked(tmp_path, temperature, epochs, seed):
    rows = drawn_rows(seed)
    options = {"temperature": temperature, "epochs": epochs}
    out = prepare(tmp_path, rows, **{f"sources.0.balance.{k}": v for k, v in options.items()})
    before, after = total(rows), tokens_of(tmp_path, out)
    asked = wanted_shares(before, temperature)
    for name, share in asked.items():
        assert after[name] / after.total() == pytest.approx(share, rel=0.01)
        assert after[name] <= epochs * before[name]
    most = min(epochs * before[name] / share for name, share in asked.items())
    assert after.total() == pytest.approx(min(most, before.total()), rel=0.01)
    (found,) = report_of(out)["balance"]
    assert {(c["class"], c["tokens"], c["tokens_made"]) for c in found["classes"]} == {
        (name, before[name], after[name]) for name in before
    }
    for item in found["classes"]:
        assert item["asked"] == pytest.approx(asked[item["class"]], abs=1e-6)
        assert item["share"] == pytest.approx(after[item["class"]] / after.total(), abs=1e-6)


def test_all_documents_of_a_class_are_there_equally_often_but_for_one(tmp_path):
    rows = drawn_rows(5)
    out = prepare(tmp_path, rows, **{"sources.0.balance.epochs": 4})
    times = Counter(texts_of(tmp_path, out, "train"))
    for name in map(str, COUNTS):
        own = [times[row["text"]] for row in rows if str(row["meta"]["topic"]) == name]
        assert max(own) - min(own) <= 1
    assert max(times.values()) == 4


def test_what_is_left_out_is_counted_and_depends_on_no_order(tmp_path):
    rows = drawn_rows(6)
    out = prepare(tmp_path, rows)
    report, kept = report_of(out), set(texts_of(tmp_path, out, "train"))
    assert report["dropped"] == {"more than its class's share": len(rows) - len(kept)}
    first = [n for n, row in enumerate(rows, 1) if row["text"] not in kept][0]
    name = rows[first - 1]["meta"]["topic"]
    place = f"{tmp_path}/a.jsonl:{first}: class {name}"
    assert report["examples"]["more than its class's share"][0] == place
    (note,) = report["notes"]
    assert "class 7 has" in note and "for 25.0 %" in note and "balance.epochs above 1" in note
    assert set(texts_of(tmp_path, prepare(tmp_path, rows[::-1]), "train")) == kept


def test_shares_hold_for_what_all_else_leaves(tmp_path):
    """Near copies, copies, overlaps and the hold-out do not count; the hold-out is as it was."""
    rows = drawn_rows(7)
    near = [row | {"text": row["text"] + "."} for row in rows if row["meta"]["topic"] == "code"]
    overrides = {
        "holdout.fraction": 0.3, "near_duplicates.action": "drop", "near_duplicates.ngram": 1,
        "decontaminate.holdout": "true", "max_tokens": 190,
    }  # fmt: skip
    out = prepare(tmp_path, [*rows, *rows, *near], **overrides)
    held, report = texts_of(tmp_path, out, "holdout"), report_of(out)
    assert {"duplicate", "near duplicate", "too long"} < set(report["dropped"])
    after = tokens_of(tmp_path, out)
    assert max(after.values()) / min(after.values()) < 1.02
    (tmp_path / "recipe.yaml").unlink()
    plain = RECIPE.replace("    balance: {by: meta.topic}\n", "")
    assert texts_of(tmp_path, run(tmp_path, plain, **overrides), "holdout") == held


def test_the_bytes_are_those_of_any_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BATCH_BYTES", 3000)  # Many batches, and borders within files.
    write_model(tmp_path / "model", templates.CHATML)
    rows = [
        chat(row["text"], "yes") | {"topic": str(row["meta"]["topic"])} for row in drawn_rows(8)
    ]
    (tmp_path / "stuff").mkdir()
    write_lines(tmp_path / "stuff" / "a.jsonl", rows[:800])
    write_lines(tmp_path / "stuff" / "b.jsonl", rows[800:])
    recipe = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
shard_tokens: 20000
sources:
  - {path: '{tmp}/stuff', balance: {by: topic, epochs: 2}}
holdout: {fraction: 0.1}
"""
    one = content(run(tmp_path, recipe, workers=1, output=tmp_path / "one"))
    assert content(run(tmp_path, recipe, workers=3, output=tmp_path / "three")) == one
    for number in range(3):
        part = preparation_of(tmp_path, recipe)
        assert make_part(part, Part(number, 3), quiet(part))
    joining = preparation_of(tmp_path, recipe)
    joined = JoinedParts(joining)
    joining.run(quiet(joining), joined)
    joined.remove()
    assert content(tmp_path / "out") == one
    assert len([name for name in one if name.startswith("train-")]) > 1


def test_sources_are_balanced_each_by_itself(tmp_path):
    """And what is said of it stands in the shard, whose other sources are not touched."""
    write_lines(tmp_path / "b.jsonl", [{"text": f"plain {n}"} for n in range(300)])
    rows = drawn_rows(9)
    write_model(tmp_path / "model")
    write_lines(tmp_path / "a.jsonl", rows)
    out = run(tmp_path, RECIPE + "  - path: {tmp}/b.jsonl\n")
    after = tokens_of(tmp_path, out)
    assert sum(count for name, count in after.items() if name.startswith("plain")) == sum(
        len(f"plain {n}") + 1 for n in range(300)
    )
    (said,) = json.loads(Shard(out / "train.h5")["origin"])["balance"]
    assert said["source"] == f"{tmp_path}/a.jsonl" and said["by"] == "meta.topic"
    classes = report_of(out)["balance"][0]["classes"]
    assert said["shares"] == {item["class"]: item["share"] for item in classes}


def test_classes_are_balanced_across_all_sources(tmp_path, prepare):
    """Whatever each source has of them, in both kinds of shares, and as the forecast says."""
    rows = {"a": drawn_rows(11, {"code": 700, "law": 40}), "b": drawn_rows(12, {"law": 90, 7: 60})}
    rows["b"] += drawn_rows(13, {"code": 200})
    write_model(tmp_path / "model")
    for name, own in rows.items():
        write_lines(tmp_path / f"{name}.jsonl", own)
    recipe = RECIPE.replace("    balance: {by: meta.topic}\n", "  - path: {tmp}/b.jsonl\n")
    for temperature in (0, 2):
        options = {"by": "meta.topic", "temperature": temperature, "epochs": 3}
        out = run(tmp_path, recipe, **{f"balance.{key}": v for key, v in options.items()})
        before, after = total(rows["a"] + rows["b"]), tokens_of(tmp_path, out)
        for name, share in wanted_shares(before, temperature).items():
            assert after[name] / after.total() == pytest.approx(share, rel=0.01)
        (found,) = report_of(out)["balance"]
        assert (found["source"], len(found["classes"])) == ("all sources", 3)
        (said,) = json.loads(Shard(out / "train.h5")["origin"])["balance"]
        assert said["source"] == "all sources" and set(said["shares"]) == {"code", "law", "7"}
        assert "all sources by meta.topic" in (out / "report.html").read_text()
        (tmp_path / "recipe.yaml").unlink()
    recipe += "balance: {by: meta.topic}\n"
    lines = prepare(recipe, "--dry-run", "--sample", "5000").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("balance of all sources by meta.topic: ")]
    assert line.count(" 33.3 % of 33.3 % asked") == 3


def test_records_without_a_class_are_dropped_by_name(tmp_path):
    bad = [{}, {"topic": None}, {"topic": ["a"]}, {"topic": {}}, {"topic": 0.5}, {"topic": " \n"},
           {"topic": "x" * 101}]  # fmt: skip
    good = [{"topic": True}, {"topic": "true"}, {"topic": " true\t"}]
    rows = [{"text": f"text {n}", "meta": meta} for n, meta in enumerate(bad + good)]
    out = prepare(tmp_path, [*rows, {"text": "t", "meta": {"topic": "\ud800"}}, {"text": "none"}])
    report = report_of(out)
    assert report["dropped"] == {"no class": len(bad) + 1, "invalid Unicode": 1}
    assert "a.jsonl:1: no meta.topic; the record has " in report["examples"]["no class"][0]
    assert [item["class"] for item in report["balance"][0]["classes"]] == ["true"]
    assert sorted(texts_of(tmp_path, out, "train")) == ["text 7", "text 8", "text 9"]


def test_too_many_classes_are_no_classes(tmp_path):
    rows = [{"text": f"text {n}", "meta": {"topic": f"id-{n}"}} for n in range(1001)]
    expected = "(?s)more than 1000 classes, such as .*'id-1000'.*balance.by"
    with pytest.raises(DataError, match=expected):
        prepare(tmp_path, rows)
    assert not list((tmp_path / "out").glob("*.h5"))


def test_a_share_that_documents_are_too_long_for_is_noted(tmp_path):
    rows = [{"text": f"{n}|" + "x" * 1000, "meta": {"topic": "a"}} for n in range(3)]
    rows += [{"text": f"{n}|" + "y" * 700, "meta": {"topic": "b"}} for n in range(2)]
    notes = report_of(prepare(tmp_path, rows))["notes"]
    assert any("share by more than 1 % of it: 2, most of all a" in note for note in notes)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("{by: meta.topic}", "{temperature: 2}", "balance.by is missing"),
        ("{by: meta.topic}", "{by: a, temperature: 0.5}", "temperature .* is below 1"),
        ("{by: meta.topic}", "{by: a, epochs: 0}", "(?s)epochs .*from 1 to 1000"),
        ("{by: meta.topic}", "{by: a, epoch: 2}", "did you mean epochs"),
        ("{by: meta.topic}", "{by: a}\n    format: text", "plain text has no fields"),
        ("{by: meta.topic}", "{by: a}\n    separator: ''", "plain text has no fields"),
        ("sources:", "holdout: {fraction: 1}\nsources:", "balance is for the training side"),
        ("sources:", "balance: {by: a}\nsources:", "all sources and for one of them"),
        ("{by: meta.topic}", "{}\n    format: text\nbalance: {by: a}", "plain text has no fields"),
    ],
)
def test_options_are_checked(tmp_path, old, new, expected):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace(old, new).replace("{tmp}", str(tmp_path)))
    with pytest.raises(DataError, match=expected):
        load_recipe(path, [])


def test_plain_text_in_a_balanced_folder_is_refused(tmp_path):
    write_model(tmp_path / "model")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="balanced by meta.topic, but .*a.txt is plain text"):
        run(tmp_path, RECIPE.replace("a.jsonl", "a.txt"))


def test_a_forecast_says_what_comes(tmp_path, prepare):
    rows = drawn_rows(10)
    write_model(tmp_path / "model")
    write_lines(tmp_path / "a.jsonl", rows)
    said = prepare(RECIPE, "--dry-run", "--sample", "5000").stdout.splitlines()
    made = prepare(RECIPE).stdout.splitlines()
    lines = [[line for line in text if line.startswith("balance of ")] for text in (said, made)]
    shares = [[part.split(" of ")[0] for part in line[0].split(", ")[:4]] for line in lines]
    assert len(lines[0]) == len(lines[1]) == 1 and "of 25.0 % asked" in lines[1][0]
    assert [part.rsplit(" ", 2)[1][:4] for part in shares[0][1:]] == ["25.0"] * 3
    train = [next(line for line in text if line.startswith("train: ")) for text in (said, made)]
    tokens = [int(line.split(" tokens")[0].rsplit(" ", 1)[1]) for line in train]
    assert tokens[0] == pytest.approx(tokens[1], rel=0.01)
    assert any(line.startswith("note: balance of ") for line in said)
