# SPDX-License-Identifier: Apache-2.0
"""launch/compare: its figures, its sentences, its configuration and its votes."""

import json
import math
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, run_program, write_lines, write_model
from safetensors.torch import save_file
from temper_compare import findings
from temper_compare.bootstrap import Estimate, Sample
from temper_compare.findings import write_findings
from temper_compare.manual import Manual, Page, cut
from temper_compare.measures import abstains, exact_match
from temper_compare.options import load_options
from temper_compare.properties import HEADS, make_properties
from temper_compare.questions import invent
from temper_compare.retrieval import Bm25Index, DenseIndex, read_embeddings
from temper_compare.table import Row
from temper_compare.text_table import make_text_table
from temper_compare.training import Cost
from temper_compare.votes import Vote, agreement, read_votes, strengths, win_rate

from temper_data.errors import DataError
from temper_data.tasks.metrics import f1

# --- figures ---


def test_a_bootstrap_interval_is_that_of_the_normal_approximation():
    values = np.random.default_rng(3).normal(2, 1, (1, 400))
    found = Sample(values, 0).estimate()
    error = values.std() / math.sqrt(values.size)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_a_difference_is_paired_over_questions_and_not_over_seeds():
    random = np.random.default_rng(4)
    questions = random.normal(0, 5, (1, 300))  # Questions differ much, arms little.
    better, worse = Sample(questions + 0.2, 0), Sample(questions + random.normal(0, 0.1, 300), 1)
    assert better.minus(worse).differs and better.minus(worse).low > 0.15
    apart = Sample(np.roll(questions, 1), 2)
    assert not better.minus(apart).differs
    seeds = np.array([[1.0], [3.0]]) + np.zeros((2, 50))
    by = Sample(seeds, 0).minus(Sample(np.full((1, 50), 2.0), 1))
    assert (by.value, by.low, by.high) == (0, -1, 1)  # One draw in four has one seed twice.


def test_words_are_compared_as_squad_does():
    assert exact_match("The  Option.", "option") == 1
    assert exact_match("options", "option") == 0
    assert f1("a job runs twice", "The job runs") == pytest.approx(2 * 2 / (3 + 2))
    assert f1("runs runs", "runs") == pytest.approx(2 * 1 / 3)
    assert (f1("", ""), f1("", "word"), f1("word", "")) == (1, 0, 0)


def test_an_answer_abstains_in_words_or_by_saying_nothing():
    assert abstains(" \n") and abstains("Sorry, I don\u2019t know.")
    assert abstains("The manual does not mention this option.")
    assert not abstains("Know the number of jobs.")


def test_the_manual_supports_what_stands_in_it():
    manual = Manual([Page("p", "Sets the number of tasks.\n\nNever used.")], 50)
    assert manual.support("sets the NUMBER of tasks, always twice") == pytest.approx(2 / 4)
    assert manual.supports("sets the NUMBER of tasks, always twice")
    assert not manual.supports("sets the number of cats and dogs and birds")
    assert manual.supports("never used") and not manual.supports("ever used")
    assert not manual.supports("")


def test_passages_are_whole_paragraphs_and_keep_headings_with_what_follows():
    text = "one two three.\n\nfour five.\n\n--heading\n\nsix seven eight nine.\n\n" + "w " * 20
    passages = cut(Page("page", text), 6)
    assert passages == [
        "page\n\none two three.\n\nfour five.", "page\n\n--heading\n\nsix seven eight nine.",
        "page\n\n" + ("w " * 20).strip(),
    ]  # fmt: skip
    assert cut(Page("", "a.\n\n\n\nb."), 10) == ["a.\n\nb."]


def test_invented_names_have_another_last_word():
    assert invent("--array", "--gpus-per-task") == "--task"
    assert invent("MaxJobCount", "PriorityDecay") == "MaxJobDecay"
    assert invent("--array", "NoArray") is None and invent("%", "x") is None


def test_the_nearest_text_is_found_in_words_and_by_embeddings(tmp_path):
    texts = ["sets the number of tasks", "names the partition", "how long a job may run"]
    found = Bm25Index(texts).nearest("which partition is it?", 9)
    assert found[0] == 1 and sorted(found) == [0, 1, 2]
    folder = write_model(tmp_path / "model")
    rows = torch.randn(268, 8).bfloat16()
    save_file({"model.embed_tokens.weight": rows}, folder / "model.safetensors")
    assert np.array_equal(read_embeddings(folder), rows.float().numpy())
    index = DenseIndex(str(folder), texts)
    assert [index.nearest(text, 1) for text in texts] == [[0], [1], [2]]
    with pytest.raises(DataError, match="no safetensors file with token embeddings"):
        read_embeddings(write_model(tmp_path / "other"))


# --- sentences ---


def sample(values, arm: int) -> Sample:
    return Sample(np.atleast_2d(np.array(values, float)), arm)


def arm_row(number: int, name: str, family: str, level: float, **others) -> Row:
    """An arm whose log-likelihoods lie about `level`, with little noise."""
    noise = np.random.default_rng(number).normal(0, 0.02, 40)
    ones = np.ones(40)
    given = {
        "right": sample(level + noise, number), "other": sample(level - 1 + noise, number),
        "knowledge": sample(ones + noise, number), "exact": sample(0 * ones, number),
        "f1": sample(0.3 + 0.1 * level + noise, number), "supported": sample(ones, number),
        "silent": sample(0 * ones, number), "abstains": sample(np.zeros(10), number),
        "confidence": sample(np.full(10, 0.5), number), "before": sample(np.zeros(8), number),
        "after": sample(np.ones(8), number), "found": None, "prompt_tokens": 50.0,
        "answer_seconds": 1.0, "answer_cpu_seconds": 1.0, "update_seconds": 1.0, "cost": Cost(),
        "answers": ["x"] * 40,
    }  # fmt: skip
    return Row(name=name, family=family, **(given | others))


def three(trained: float, sought: float, **of_trained) -> list[Row]:
    return [
        arm_row(0, "zero-shot", "nothing", -3.0, after=None),
        arm_row(1, "retrieval", "retrieval", sought, prompt_tokens=400.0, answer_seconds=3.0,
                update_seconds=0.5, found=sample([1, 0] * 20, 1)),
        arm_row(2, "sft", "fine-tuning", trained, update_seconds=30.0,
                **({"cost": Cost(100, 1 << 30, 1 << 28)} | of_trained)),
    ]  # fmt: skip


def said(rows: list[Row]) -> str:
    return "\n".join(f"{title}. {' '.join(lines)}" for title, lines in write_findings(rows))


def test_sentences_say_who_wins_and_by_how_much():
    text = said(three(trained=-1.0, sought=-2.0))
    assert "right answer. sft is the highest, with -1.00 nats a token." in text
    assert "fine-tuning (sft) wins against retrieval, a difference of 1.00 nats a token (" in text
    assert "The passages of retrieval contain the right answer to 50 % of the questions." in text


def test_sentences_say_so_where_fine_tuning_loses():
    text = said(three(trained=-2.5, sought=-1.5))
    assert "Beyond the interval it is above zero-shot by 1.50" in text
    assert "fine-tuning (sft) loses against retrieval, a difference of -1.0" in text
    assert "wins" not in text


def test_sentences_make_nothing_of_what_lies_within_the_interval():
    text = said(three(trained=-1.5, sought=-1.501))
    assert "It does not differ beyond the interval from retrieval." in text
    assert "above zero-shot by 1.5" in text and "retrieval by" not in text
    assert "fine-tuning (sft) does not differ beyond the interval from retrieval" in text
    assert "wins" not in text and "loses" not in text


def test_sentences_on_questions_without_an_answer():
    text = said(three(-1, -2))
    assert "no arm abstained on any: each answer to them is invented" in text
    assert "made it neither more nor less sure" in text
    text = said(three(-1, -2, confidence=sample(np.full(10, 0.9), 2),
                      abstains=sample([1] * 2 + [0] * 8, 2)))  # fmt: skip
    assert "sft abstained on 20 %. zero-shot and retrieval answered all of them." in text
    assert "0.90 of probability a token, zero-shot 0.50: fine-tuning made it more sure" in text


def test_sentences_on_cost_and_updates():
    text = said(three(-1, -2))
    assert "retrieval reads 400 tokens for an answer and takes 3.00 s, sft 50 tokens and 1." in text
    assert "100 s of training are as long as what about 50 answers save." in text
    assert "zero-shot has no way to learn of a change" in text
    assert "retrieval: after a new index in 0.5 s, 100 % of 8 new answers" in text
    assert "sft: after a run of 30 s, 100 % of 8 new answers are more probable" in text
    dear = said(three(-1, -2, answer_seconds=4.0))
    assert "no cheaper, so training never pays for itself" in dear
    same = said(three(-1, -2, after=sample(np.zeros(8), 2)))
    assert "0 % before, which is no difference beyond the interval." in same


def test_passages_for_a_trained_arm_are_judged_beside_it_alone():
    rows = [*three(-1, -2), arm_row(3, "sft + retrieval", "fine-tuning and retrieval", -2.0)]
    assert "Passages lower the F1 of sft, a difference of -10 points (" in said(rows)


def test_the_tables_have_a_cell_for_each_figure():
    rows = three(-1, -2)
    properties = {line[0]: dict(zip(HEADS[1:], line[1:], strict=True))
                  for line in make_properties(rows)}  # fmt: skip
    assert properties["measured on"]["in-context"] == "not compared"
    assert properties["changing format"]["fine-tuning"].startswith("more: 2.00 nats a token (")
    assert properties["adding knowledge"]["retrieval"].startswith("no difference: ")
    assert properties["updating"]["retrieval"] == "0.5 s: 0 to 100 % of new answers preferred"
    assert "it follows soonest" in properties["best use"]["retrieval"]
    assert "changing format" in properties["best use"]["fine-tuning"]
    lines = make_text_table(rows).splitlines()
    assert len(lines) == 5 and len({line.count("|") for line in lines}) == 1
    assert "never" in lines[2] and "0 % to 100 %" in lines[4]


def test_a_difference_counts_only_where_zero_is_outside():
    assert Estimate(1, 0.1, 2).differs and Estimate(-1, -2, -0.1).differs
    assert not Estimate(1, -0.1, 2).differs
    assert findings.listed(["a", "b", "c"]) == "a, b and c" and findings.listed(["a"]) == "a"


# --- the configuration ---

CONFIG = """\
folder: {tmp}/out
model: {tmp}/model
questions: {{recipe: recipe.yaml}}
manual: {{path: pages.jsonl}}
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("seed=2", "seed (command line) is not an option\n  try: did you mean seeds?"),
        ("arms=x", "arms (command line) is 'x'\n  try: set it to a list"),
        ("questions.count=1", "questions.count (command line) is '1'"),
        ("questions.edited=3", "questions.edited (command line) is odd"),
        ("questions.unanswerable=4", "needs names to exchange for ones that do not exist"),
        ("manual.wrods=9", "manual.wrods (command line) is not an option\n  try: did you mean"),
        ("prompts.shots=0", "prompts.shots (command line) is '0'"),
        ("update_steps=0", "update_steps (command line) is '0'"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said(tmp_path, change, says):
    path = tmp_path / "compare.yaml"
    path.write_text(CONFIG.format(tmp=tmp_path))
    with pytest.raises(DataError) as caught:
        load_options(path, [change])
    assert says in str(caught.value)


def test_all_problems_come_at_once(tmp_path):
    path = tmp_path / "compare.yaml"
    path.write_text(
        "model: m\nquestions: {recipe: r, names: n}\nmanual: {}\nseeds: 2\n"
        "arms: [zero-shot, dense retrieval]\nblind: {arms: [zero-shot, sft]}\n"
        "training: [{name: zero-shot, config: c, existing: true}, {name: a/b}]\n"
    )
    with pytest.raises(DataError) as caught:
        load_options(path, [])
    for problem in (
        "8 problems", "folder is missing", "manual.path is missing",
        "training.1.name (line 7) is 'a/b', which is no name of a folder",
        "training.1.config is missing", "name 'zero-shot' twice",
        "blind (line 6) names the arm 'sft', which there is not",
        "dense retrieval, but prompts.dense names no folder",
        "seeds (line 4) is above 1, but an existing run has one seed",
    ):  # fmt: skip
        assert problem in str(caught.value), problem


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("compare*.yaml")), ids=str)
def test_the_examples_are_right(path):
    options = load_options(path, [])
    assert Path(options.questions.recipe).name == "slurm-sft.yaml" and options.trainings


# --- votes ---


def votes(first: str, second: str, wins: int, losses: int, ties: int = 0) -> list[Vote]:
    won = [1.0] * wins + [0.0] * losses + [0.5] * ties
    return [Vote("r", place, place, first, second, value) for place, value in enumerate(won)]


def test_two_arms_have_the_log_odds_of_their_wins():
    found = strengths(votes("a", "b", 30, 10, 4))
    assert found["a"] - found["b"] == pytest.approx(math.log((30 + 2.5) / (10 + 2.5)))
    assert win_rate(votes("a", "b", 30, 10, 4), "a", "b") == pytest.approx(32 / 44)
    assert found["a"] + found["b"] == pytest.approx(0, abs=1e-9)


def test_strengths_are_those_of_the_model_that_made_the_wins():
    true = {"a": 0.8, "b": 0.1, "c": -0.9}
    made = []
    for first, second in (("a", "b"), ("a", "c"), ("b", "c")):
        wins = round(40_000 / (1 + math.exp(true[second] - true[first])))
        made += votes(first, second, wins, 40_000 - wins)
    found = strengths(made)
    assert found == pytest.approx(true, abs=1e-3)


def test_agreement_is_of_pairs_that_two_have_seen():
    choices = {"r": [1, 1, 0, 0.5], "s": [1, 0, 0], "t": [1]}
    made = [Vote(rater, pair, pair, "a", "b", won)
            for rater, row in choices.items() for pair, won in enumerate(row)]  # fmt: skip
    assert agreement(made) == pytest.approx(4 / 5)  # 3 of pair 0, none of pair 1, 1 of pair 2.
    assert math.isnan(agreement(votes("a", "b", 2, 2)))


def write_key(folder: Path) -> Path:
    pairs = [{"question": f"q{n}", "first": a, "second": b}
             for n, (a, b) in enumerate(islice(cycle([("x", "y"), ("y", "x")]), 6))]  # fmt: skip
    path = folder / "key.json"
    path.write_text(json.dumps({"page": "p", "pairs": pairs}))
    return path


def write_votes(path: Path, choices: list, page: str = "p", rater: str = "") -> Path:
    listed = [{"pair": n, "choice": choice} for n, choice in enumerate(choices)]
    path.write_text(json.dumps({"page": page, "rater": rater, "votes": listed}))
    return path


def test_exported_choices_are_read_and_told(tmp_path):
    key = write_key(tmp_path)
    one = write_votes(tmp_path / "one.json", [1, 2, 1, 2, 0, 0])  # x wins four times, twice neither
    assert [vote.won for vote in read_votes(key, [one])] == [1, 1, 1, 1, 0.5, 0.5]
    two = write_votes(tmp_path / "two.json", [1, 2, 2], rater="B")
    done = run_program("compare.py", "--votes", key, one, two)
    assert done.returncode == 0, done.stderr
    assert "raters=2 votes=9" in done.stdout
    assert "x is better than y in 78 % (" in done.stdout
    assert "two people agree on 67 % (" in done.stdout


@pytest.mark.parametrize(
    ("choices", "options", "says"),
    [
        ([1], {"page": "other"}, "is of the page other"),
        ([3], {}, "has the vote {'pair': 0, 'choice': 3}"),
        ([0] * 7, {}, "has the vote {'pair': 6"),
        ([], {}, "hold no votes"),
    ],
)
def test_wrong_votes_are_refused(tmp_path, choices, options, says):
    path = write_votes(tmp_path / "one.json", choices, **options)
    done = run_program("compare.py", "--votes", write_key(tmp_path), path)
    assert done.returncode == 1 and says in done.stderr and "try: " in done.stderr


def test_a_rater_votes_once(tmp_path):
    same = [write_votes(tmp_path / name, [1], rater="A") for name in ("a.json", "b.json")]
    with pytest.raises(DataError, match="'A' has a file already"):
        read_votes(write_key(tmp_path), same)
    with pytest.raises(DataError, match="lacks one of page, rater, votes"):
        read_votes(write_key(tmp_path), [write_lines(tmp_path / "c.json", ["{}"])])
