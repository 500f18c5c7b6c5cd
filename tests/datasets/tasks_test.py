# SPDX-License-Identifier: Apache-2.0
"""evaluate.py: tasks that are wrong, before a model is looked at; what is counted."""

import math

import pytest
import templates
from conftest import run_program, write_lines, write_model

from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.tasks import metrics
from temper_data.tasks.asking import Asking
from temper_data.tasks.examples import Example, read_examples
from temper_data.tasks.evaluation import Plan, choose, complete
from temper_data.tasks.task_file import load_tasks
from temper_data.text_ends import cut_at

CHOICE = """\
tasks:
  - name: choice
    kind: multiple_choice
    data: data.jsonl
    prompt: "Q: {question}\\nA:"
    choices: options
    answer: right
"""
ROW = {"question": "one or two?", "options": ["one", "two"], "right": 1}


def refusal(tmp_path, tasks: str, rows: list) -> str:
    """What is said of tasks and data; the model folder is not there, and not missed."""
    (tmp_path / "tasks.yaml").write_text(tasks)
    write_lines(tmp_path / "data.jsonl", rows)
    done = run_program("evaluate.py", tmp_path / "no-model", "--tasks", tmp_path / "tasks.yaml")
    assert done.returncode == 1 and "\n  try: " in done.stderr and not done.stdout, done
    return done.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("    name: choice\n", ""), "tasks.0"),
        (("multiple_choice", "choice"), "one of: multiple_choice, cloze, generation"),
        (("options", "options\n    option: x"), "tasks.0.option (line 8) is not an option"),
        (("    choices: options\n", ""), "tasks.0.choices"),
        (("{question}", "{}"), "has {} without a column"),
        (("data.jsonl", "none.jsonl"), "none.jsonl: No such file"),
        (("    answer: right\n", "    answer: right\n    metrics: [chrf]\n"), "metrics.0"),
        (("    answer: right\n", "    answer: right\n    stop: [x]\n"), "tasks.0.stop"),
    ],
)
def test_a_file_of_tasks_that_is_wrong_is_refused_at_once(tmp_path, change, says):
    changed = CHOICE.replace("  - name", "  -\n    name").replace(*change)
    assert says in refusal(tmp_path, changed, [ROW])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"question": "?", "right": 1}, "has no options; its keys are: question, right"),
        (ROW | {"right": 2}, "right is 2, no number from 0 to 1 and no choice"),
        (ROW | {"right": "three"}, 'right is "three"'),
        (ROW | {"options": ["one"]}, "options is no list of two or more texts"),
        (ROW | {"question": None}, "question is no text"),
        ("{", "no JSON"),
        ("[1]", "no object"),
    ],
)
def test_data_that_is_wrong_is_refused_with_its_line(tmp_path, row, says):
    told = refusal(tmp_path, CHOICE, [ROW, row])
    assert f"data.jsonl:2: {says}" in told


def test_data_without_an_example_are_refused(tmp_path):
    assert "has no example" in refusal(tmp_path, CHOICE, ["", " "])


def test_an_example_that_does_not_fit_the_model_is_refused(tmp_path):
    model = load_model_tokenizer(write_model(tmp_path / "model", templates.CHATML))
    (tmp_path / "tasks.yaml").write_text(CHOICE.replace("  - name", "  - chat: true\n    name"))
    write_lines(tmp_path / "data.jsonl", [ROW])
    task = load_tasks(tmp_path / "tasks.yaml")[0]
    example = read_examples(task)[0]
    context, continuation = Asking(model, 1000).pair(task, example, "two")
    whole_ids = [*context, *continuation]
    whole = model.tokenizer.decode(whole_ids, skip_special_tokens=False)
    assert whole.endswith("<|im_start|>assistant\ntwo")
    room = len(whole_ids) - 1  # The last token is not read.
    assert Asking(model, room).pair(task, example, "two") == (context, continuation)
    says = f"takes {room} positions, and the model has {room - 1} for a text"
    with pytest.raises(DataError, match=says):
        Asking(model, room - 1).pair(task, example, "two")


def test_choices_are_compared_as_they_are_by_length_and_by_bytes(tmp_path):
    (tmp_path / "tasks.yaml").write_text(CHOICE)
    task = load_tasks(tmp_path / "tasks.yaml")[0]
    examples = [Example("", "", ("ab", "ééé", "x" * 6), 0, ()), Example("", "", ("a", "b"), 1, ())]
    scores = [(-3.0, False), (-3.9, False), (-7.0, False), (-1.0, True), (-1.0, True)]
    outcome = choose(Plan(task, examples), scores)
    assert outcome.answers[0]["chosen"] == {
        "accuracy": 0, "accuracy_by_length": 2, "accuracy_by_bytes": 1,
    }  # fmt: skip
    assert outcome.answers[1]["chosen"]["accuracy"] == 0  # The first of equal ones.
    assert outcome.figures["accuracy"] == metrics.Figure(0.5, 0.5)


def test_completions_have_perplexity_and_bits_per_byte(tmp_path):
    tasks = CHOICE.replace("multiple_choice", "cloze").replace("    choices: options\n", "")
    (tmp_path / "tasks.yaml").write_text(tasks)
    task = load_tasks(tmp_path / "tasks.yaml")[0]
    examples = [Example("", "", (), 0, (text,)) for text in ("ab", "é1")]
    figures = complete(Plan(task, examples), [(-1.0, True), (-3.0, False)]).figures
    assert figures["accuracy"] == metrics.Figure(0.5, 0.5)
    assert figures["perplexity"].value == pytest.approx(math.exp(2.0))
    assert figures["perplexity"].standard_error == pytest.approx(math.exp(2.0))
    assert figures["bits_per_byte"].value == pytest.approx(4.0 / math.log(2) / 5)


def test_texts_are_compared_as_squad_does():
    assert metrics.exact_match(" Paris\n", "Paris") == 1.0
    assert metrics.exact_match("paris", "Paris") == 0.0
    assert metrics.f1("The cat, sat!", "a CAT sat down") == pytest.approx(0.8)
    assert metrics.f1("", "cat") == 0.0 and metrics.f1("dog", "cat") == 0.0
    assert cut_at("one. two\nthree", "", ("\n", "."))[0] == "one"
