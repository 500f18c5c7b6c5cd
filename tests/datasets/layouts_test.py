# SPDX-License-Identifier: Apache-2.0
"""Layouts of conversations: guessed, renamed, and read as their writers mean them."""

import json

import pytest
import templates
from conftest import ROOT, run_here, write_lines, write_model
from prepared import END, ONE, PLAIN, SFT, A, B, Q, chatml, made, refusal, shown
from shard_reader import Shard

TURNS = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
GUESSES = [
    ({"messages": [Q, A]}, "messages", {}),
    ({"conversations": TURNS}, "sharegpt", {}),
    ({"conversations": [Q, A]}, "messages", {"messages": "conversations"}),
    ({"messages": TURNS, "id": 1}, "sharegpt", {"conversations": "messages"}),
    ({"dialog": [Q, A]}, "messages", {"messages": "dialog"}),
    ({"instruction": "Q", "input": "", "output": "A", "text": "x"}, "instruction", {}),
    ({"instruction": "Q", "input": None, "output": "A"}, "instruction", {}),
    ({"instruction": "Q", "context": "", "response": "A", "category": "c"}, "instruction",
     {"input": "context", "output": "response"}),
    ({"prompt": "Q", "completion": "A"}, "prompt_completion", {}),
    ({"prompt": [Q], "completion": [A]}, "prompt_completion", {}),
    ({"question": "Q", "answer": "A"}, "question_answer", {}),
    ({"query": "Q", "response": "A", "type": "t"}, "question_answer",
     {"question": "query", "answer": "response"}),
    ({"prompt": "Q", "response": "A"}, "question_answer",
     {"question": "prompt", "answer": "response"}),
    ({"prompt": "Q", "chosen": "A", "rejected": "B"}, "preference", {}),
    ({"prompt": "Q", "chosen": [Q, A], "rejected": [Q, B]}, "preference", {}),
    ({"chosen": [Q, A], "rejected": [Q, B]}, "preference", {}),
]  # fmt: skip


@pytest.mark.parametrize(("row", "layout", "columns"), GUESSES)
def test_the_layout_is_guessed_from_the_first_records(tmp_path, row, layout, columns):
    found, learnt, report = made(tmp_path, ["{broken", row, {"other": 1}])
    assert found == [PLAIN] and learnt == ["A" + END]
    guess = {"path": f"{tmp_path}/a.jsonl", "format": layout, "columns": columns, "files": 1}
    assert report["layouts"] == [guess] and sum(report["dropped"].values()) == 2
    named = f"    format: {layout}\n    columns: {json.dumps(columns)}\n"
    again = made(tmp_path, [row], ONE + named)
    assert again[:2] == (found, learnt) and again[2]["layouts"] == []


def test_each_file_of_a_source_has_its_own_layout_and_the_guess_is_printed(tmp_path, prepare):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", [{"messages": [Q, A]}])
    write_lines(tmp_path / "b.jsonl", ["{", "["])
    write_lines(tmp_path / "c.jsonl", [{"conversations": TURNS}])
    recipe = SFT + "  - path: '{tmp}/*.jsonl'\ndeduplicate: false\n"
    done = prepare(recipe)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    where = f"layout: {tmp_path}/*.jsonl is"
    assert lines[0] == f"{where} messages, guessed from the first records of 2 files"
    assert lines[1] == f"{where} sharegpt, guessed from the first records of 1 file"
    assert shown(tmp_path, Shard(tmp_path / "out" / "train.h5"))[0] == [PLAIN, PLAIN]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [entry["files"] for entry in report["layouts"]] == [2, 1]
    again = prepare(recipe).stdout
    assert "is up to date" in again and lines[0] in again


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"a": 1, "b\n": "x"}, {"c": 2}], "no conversations of a known layout; their columns: a"),
        ([{"text": "x"}], "plain text is for kind pretrain"),
        ([{"question": "Q", "answers": ["A"]}], "format: question_answer with columns:"),
        ([{"messages": [Q, A], "prompt": "Q", "chosen": [Q, A]}], "messages; preference"),
        ([{"problem": "Q", "solution": "A", "messages": [Q, A]}],
         "messages; question_answer with columns {question: problem, answer: solution}"),
        ([{"question": "Q", "response": "A", "output": "A"}],
         "{answer: response}; question_answer"),
        ([{"messages": [Q, A]}, {"conversations": TURNS}], "layout: messages; sharegpt"),
    ],
)  # fmt: skip
def test_records_that_fit_no_layout_or_two_are_named(tmp_path, rows, says):
    found = refusal(tmp_path, rows)
    assert says in found and f"{tmp_path}/a.jsonl: its first records" in found
    assert "\n  try: " in found and not (tmp_path / "out").exists()


def test_columns_are_renamed_before_they_are_read(tmp_path):
    rows = [{"answer": "Q", "question": {"texts": ["x", "A"]}}, {"answer": "Q"}]
    recipe = ONE + "    columns: {question: answer, answer: question.texts.1}\n"
    found, learnt, report = made(tmp_path, rows, recipe)
    assert found == [PLAIN] and learnt == ["A" + END]
    assert report["layouts"][0]["columns"] == {"question": "answer", "answer": "question.texts.1"}
    assert report["examples"]["missing column"] == [
        f"{tmp_path}/a.jsonl:2: no question.texts.1; the record has answer"
    ]
    recipe = ONE + "    field: d\n"
    assert made(tmp_path, [{"d": TURNS, "question": "x", "answer": "y"}], recipe)[0] == [PLAIN]
    recipe = ONE + "    columns: {messages: d}\n"
    assert made(tmp_path, [{"d": TURNS}, {"d": TURNS[:1]}], recipe)[0] == [PLAIN]
    recipe = ONE + "    columns: {messages: conversations}\n"  # The old name is none any more.
    assert made(tmp_path, [{"conversations": [Q, A]}], recipe)[0] == [PLAIN]


@pytest.mark.parametrize(
    ("row", "text", "learnt"),
    [
        ({"prompt": [Q, B, Q], "chosen": "A"}, "Q B Q A", "A"),
        ({"prompt": [Q, B, Q], "chosen": [A], "rejected": [B]}, "Q B Q A", "A"),
        ({"prompt": "Q", "chosen": [A]}, "Q A", "A"),
        ({"prompt": "x", "chosen": [Q, B, Q, A], "rejected": [Q, B, Q, B]}, "Q B Q A", "A"),
        ({"chosen": [Q, A, Q, B], "rejected": [Q, B]}, "Q A Q B", "A B"),
        ({"chosen": [Q, A], "rejected": [Q, A]}, "Q A", "A"),
        ({"prompt": [Q, A], "chosen": "A"}, None, "the prompt ends within the assistant's turn"),
        ({"chosen": "A"}, None, "chosen is neither messages nor text with a prompt"),
        ({"chosen": [A]}, None, "chosen begins with an answer, and prompt is no text"),
    ],
)
def test_the_chosen_side_of_a_preference_is_learnt(tmp_path, row, text, learnt):
    recipe = ONE + "    format: preference\n"
    if text is None:
        assert learnt in refusal(tmp_path, [row], recipe)
        return
    turns = [("user" if said == "Q" else "assistant", said) for said in text.split()]
    found = made(tmp_path, [row], recipe)
    assert found[0] == [chatml(*turns)]
    assert found[1] == ["".join(said + END for said in learnt.split())]


def test_a_call_of_a_function_in_sharegpt(tmp_path):
    call = {"name": "f", "arguments": {"x": 1}}
    turns = [TURNS[0], {"from": "function_call", "value": json.dumps(call)}]
    turns += [{"from": "observation", "value": "1"}, TURNS[1]]
    found, learnt, _ = made(tmp_path, [{"conversations": turns}], ONE, templates.TOOLS)
    said = json.dumps(call)
    assert found == [chatml(("user", "Q"), ("assistant", said), ("tool", "1"), ("assistant", "A"))]
    assert learnt == [said + END + "A" + END]
    turns[1]["value"] = "f(1)"
    assert "value of turn 1 is no JSON" in refusal(tmp_path, [{"conversations": turns}])


def test_only_the_last_answer_is_learnt_when_asked(tmp_path):
    rows = [{"messages": [Q, B, Q, A]}, {"messages": [Q, B, Q, A | {"weight": 0}]}]
    found, learnt, report = made(tmp_path, rows, ONE + "train_on: last\n")
    assert learnt == ["A" + END] and len(found) == 1
    assert report["dropped"] == {"flagged as not to be trained": 1}


TAGGED = {"role": "assistant", "content": "<think>\nwhy\n</think>\n\nA"}
MULTI = {"dialog": [Q, TAGGED, Q, {"role": "assistant", "content": [{"text": "A"}]}]}
LAYOUTS = {  # What a record of the file that the recipe names first is; and the last target.
    "messages": (MULTI, "A" + END),
    "sharegpt": ({"conversations": TURNS}, "A" + END),
    "alpaca": ({"instruction": "Q", "input": "x", "output": "A"}, "A</s>"),
    "prompt-completion": ({"prompt": "Q", "completion": "A"}, "A" + END),
    "question-answer": ({"q": "Q", "answers": {"text": ["A", "B"]}}, "A" + END),
    "preference": ({"prompt": "Q", "chosen": "A", "rejected": "B"}, "A" + END),
    "text": ({"body": "Some text."}, "Some text.</s>"),
}


def test_there_is_a_recipe_for_each_layout():
    names = {path.stem for path in (ROOT / "configs" / "data").glob("layout-*.yaml")}
    assert names == {f"layout-{name}" for name in LAYOUTS}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_recipe_of_each_layout_prepares_a_file(tmp_path, name):
    row, target = LAYOUTS[name]
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", [row])
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    recipe = (ROOT / "configs" / "data" / f"layout-{name}.yaml").read_text()
    overrides = {"model": tmp_path / "model", "output": tmp_path / "out", "workers": 1}
    overrides["sources.0.path"] = tmp_path / ("a.txt" if name == "text" else "a.jsonl")
    if name == "text":
        overrides["sources.1.path"] = tmp_path / "a.jsonl"
    folder = run_here(tmp_path, recipe, **overrides)
    found, learnt = shown(tmp_path, Shard(folder / "train.h5"))
    assert learnt[-1] == target and len(found) == (3 if name == "text" else 1)
