# SPDX-License-Identifier: Apache-2.0
"""Evaluation sets and the hold-out are kept out of the training side."""

import json
import random
import zlib

import numpy as np
import pytest
import templates
from conftest import chat, report_of, texts_of
from conftest import run_here as run
from conftest import write_lines, write_model

from temper_data.errors import DataError
from temper_data.preparation import Preparation
from temper_data.recipe import load_recipe
from temper_data.text_units import text_at, units_of, windows

CONTAMINATED = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
workers: 1
sources:
  - path: {tmp}/a.jsonl
decontaminate:
  evaluation:
    - {tmp}/quiz.jsonl
    - {tmp}/quiz.txt
"""
# Of each language: a question of an evaluation set with its answer, a text that quotes a part of
# it, and a near miss of the same topic that must stay.
LANGUAGES = {
    "English": (
        "A farmer has seventeen sheep and all but nine of them run away during the storm; how "
        "many sheep does the farmer still have?", "nine",
        "Quiz time!  a Farmer has SEVENTEEN sheep, and all but nine of them run away... during "
        "a flood.",
        "A farmer has seventeen sheep and sells nine of them at the market; how many does the "
        "farmer have left after that day?"),
    "German": (
        "Welche Stadt war von 1949 bis 1990 der Sitz von Parlament und Regierung der "
        "Bundesrepublik Deutschland, bevor beide umzogen?", "Bonn",
        "Wir fragen: welche Stadt war von 1949 bis 1990 der Sitz von Parlament und Regierung der "
        "Republik?",
        "Welche Stadt ist seit 1990 die Hauptstadt der Bundesrepublik Deutschland, und wann zog "
        "die Regierung um?"),
    "Korean": (
        "다음 중 한글을 창제한 조선의 임금으로 집현전을 설치하고 과학 기술을 크게 발전시킨 사람은 "
        "누구인지 이름을 쓰시오", "세종대왕",
        "문제: 다음 중 한글을 창제한 조선의 임금으로 집현전을 설치하고 과학 기술을 크게 발전시킨 사람은 어디에 묻혔나요?",
        "한글을 만든 조선의 임금이 세운 기관의 이름과 그곳에서 한 일을 두 문장으로 설명하시오"),
    "Chinese": (
        "一个长方形的长是十二厘米,宽是五厘米,请问它的面积是多少平方厘米?请写出计算过程。", "60",
        "练习:一个长方形的长是十二厘米,宽是五厘米,请问它的周长是多少?",
        "一个正方形的边长是十二厘米,请问它的面积和周长分别是多少?"),
    "Japanese": (
        "日本で一番高い山は富士山ですが、二番目に高い山の名前と標高を答えてください。", "北岳",
        "クイズ:日本で一番高い山は富士山ですが、二番目に高い山の名前は何でしょう。",
        "日本で一番長い川の名前と、その川が流れる県を答えてください。"),
    "Thai": (
        "จังหวัดใดของประเทศไทยที่มีพื้นที่มากที่สุดและตั้งอยู่ในภาคตะวันออกเฉียงเหนือ",
        "นครราชสีมา",
        "คำถาม จังหวัดใดของประเทศไทยที่มีพื้นที่มากที่สุดและอยู่ที่ไหน",
        "จังหวัดใดของภาคเหนือมีประชากรมากที่สุดในปีที่แล้ว"),
}  # fmt: skip


def decontaminate(tmp_path, rows, quiz, recipe=CONTAMINATED, **overrides):
    """The lines of `rows` that were taken out, the report and the quarantine's lines."""
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", rows)
    write_lines(tmp_path / "quiz.jsonl", quiz)
    if not (tmp_path / "quiz.txt").exists():
        (tmp_path / "quiz.txt").write_text("nothing that anybody would ever ask here at all\n")
    folder = run(tmp_path, recipe, **overrides)
    lines = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]
    taken = {int(line["place"].rsplit(":", 1)[1]) for line in lines}
    return taken, report_of(folder), lines


@pytest.mark.parametrize("language", LANGUAGES)
def test_planted_questions_are_found_and_near_misses_stay(tmp_path, language):
    question, answer, quote, miss = LANGUAGES[language]
    rows = [
        chat(question, answer), chat("What is asked?", quote), chat(miss, answer),
        chat("Say the word.", answer),
    ]  # fmt: skip
    taken, report, lines = decontaminate(
        tmp_path, rows, [{"question": question, "answer": answer}]
    )
    assert taken == {1, 2}
    assert report["dropped"] == {"in an evaluation set": 2}
    proof = report["decontamination"]["in an evaluation set"]
    assert proof["quarantined"] == 2 and proof["overlaps_left"] == 0 and proof["runs"] > 0
    for line in lines:
        assert line["found_in"] == f"{tmp_path}/quiz.jsonl:1"
        shared = units_of(line["shared"])
        assert len(shared) in (13, 20)
        said = [" ".join(m["content"] for m in row["messages"][1:]) for row in rows]
        for text in (question, said[int(line["place"].rsplit(":", 1)[1]) - 1], line["text"]):
            assert np.isin(windows(shared, len(shared)), windows(units_of(text), len(shared)))


SHORT = [
    {"question": "What is the capital of France?", "answer": "Paris"},
    {"question": "What is 3 + 4?", "choices": ["6", "7"], "answer": 1},
    {"messages": chat("Name the largest planet.", "Jupiter")["messages"][1:]},
    {"question": "法国的首都是哪里?", "answer": "巴黎"},
    {"question": "Why?", "answer": "So"},
]


def test_short_questions_are_found_with_their_answer_only(tmp_path):
    rows = [
        chat("what is the Capital of FRANCE", "It is Paris, of course."),
        chat("What is the capital of France?", "A city on the Seine."),
        chat("What is 3 + 4?", "7"), chat("What is 3 - 4?", "7"), chat("What is 3 + 4?", "6"),
        chat("Name the largest planet.", "Jupiter"), chat("Name the largest moon.", "Of Jupiter"),
        chat("法国的首都是哪里?", "是巴黎。"), chat("德国的首都是哪里?", "不是巴黎。"),
        chat("Why?", "So it is."), chat("What is the capital of France?", "x " * 80 + "Paris"),
    ]  # fmt: skip
    taken, report, lines = decontaminate(tmp_path, rows, [*SHORT, "{broken"])
    assert taken == {1, 3, 6, 8}
    proof = report["decontamination"]["in an evaluation set"]
    assert (proof["entries"], proof["entries_too_short"]) == (6, 1)
    assert proof["records_refused"] == 1 and proof["overlaps_left"] == 0
    assert lines[1]["shared"] == "what is 3 + 4" and lines[1]["found_in"].endswith("quiz.jsonl:2")


def test_an_evaluation_set_of_plain_text_is_looked_for_as_well(tmp_path):
    words = [f"word{number}" for number in range(40)]
    (tmp_path / "quiz.txt").write_text(" ".join(words[:20]) + "\n\n" + " ".join(words[25:35]))
    rows = [
        chat("Q", " ".join(words[5:18])), chat("Q", " ".join(words[5:17])),
        chat("Q", " ".join(words[20:40])), chat("Q", " ".join(words[26:40])),
        chat("Q", " ".join(words[:8])), chat(" ".join(words[8:16]), "No run spans two rows."),
    ]  # fmt: skip
    assert decontaminate(tmp_path, rows, SHORT)[0] == {1, 3}


def test_an_evaluation_set_that_changed_makes_the_shards_anew(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "quiz.jsonl", SHORT)
    path = tmp_path / "recipe.yaml"
    write_lines(tmp_path / "a.jsonl", [chat("Q", "A")])
    (tmp_path / "quiz.txt").write_text("x")
    path.write_text(CONTAMINATED.replace("{tmp}", str(tmp_path)))
    before = Preparation(load_recipe(path, [])).fingerprint()
    write_lines(tmp_path / "quiz.jsonl", SHORT[:4])
    assert Preparation(load_recipe(path, [])).fingerprint() != before


HOLDOUT = """\
kind: pretrain
model: {tmp}/model
output: {tmp}/out
workers: 1
sources:
  - path: {tmp}/a.jsonl
holdout:
  fraction: 0.3
decontaminate:
  holdout: true
"""


@pytest.mark.parametrize("fraction", [0.1, 0.3])  # Less than ten documents, and more.
def test_the_training_side_repeats_nothing_of_the_hold_out(tmp_path, fraction):
    """Quotes are taken out; a phrase of all documents is none. The oracle is plain Python."""
    chance = random.Random(23)
    phrase = " ".join(f"licence{number}" for number in range(20))
    texts = [
        " ".join(f"v{chance.randrange(10**6)}" for _ in range(60)) + " " + phrase for _ in range(60)
    ]
    for number in range(20, 40):
        quoted = texts[number - 20].split()[10:23]
        texts[number] = " ".join(texts[number].split()[:30] + quoted) + " " + phrase
    write_model(tmp_path / "model")
    write_lines(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    plain = run(
        tmp_path, HOLDOUT, **{"decontaminate.holdout": "false", "holdout.fraction": fraction}
    )
    held = texts_of(tmp_path, plain, "holdout")
    guilty = [text for text in texts_of(tmp_path, plain, "train") if shares(text, held, phrase)]
    assert guilty and not (plain / "quarantine.jsonl").exists()

    folder = run(tmp_path, HOLDOUT, **{"holdout.fraction": fraction})
    assert texts_of(tmp_path, folder, "holdout") == held
    train = texts_of(tmp_path, folder, "train")
    assert set(train) == set(texts) - set(held) - set(guilty)
    assert not [text for text in train if shares(text, held, phrase)]
    lines = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]
    assert [line["text"].removesuffix("</s>") for line in lines] == guilty
    for line in lines:
        number = int(line["found_in"].rsplit(":", 1)[1]) - 1
        assert texts[number] in held and line["shared"] in texts[number]
    proof = report_of(folder)["decontamination"]["repeats the hold-out"]
    assert proof["quarantined"] == len(guilty) and proof["overlaps_left"] == 0
    assert proof["common_runs_left_out"] == 8


def shares(text: str, others: list[str], phrase: str) -> bool:
    """Whether a run of 13 words is in one of the others, but for those of the phrase."""
    words = text.split()
    runs = [" ".join(words[i : i + 13]) for i in range(len(words) - 12)]
    return any(run in other for run in runs if run not in phrase for other in others)


def test_units_are_words_characters_and_signs():
    def count(text):
        return len(units_of(text))

    assert count("It's  well-known: 3 + 4 = -7!") == 10  # the signs with the numbers
    texts = ("हिन्दी भाषा", "학교에 갔다", "漢字かな", "ไทย", "...", "")
    assert [count(text) for text in texts] == [2, 2, 4, 3, 1, 1]
    same = ["Straße ＡＢＣ", "STRASSE, abc!", "strasse\n(abc)"]
    assert len({units_of(text).tobytes() for text in same}) == 1
    assert units_of("3 + 4").tobytes() != units_of("3 * 4").tobytes()
    assert units_of("a" * 3).tolist() == [zlib.crc32(b"aaa") & 0x7FFFFFFF]
    assert text_at("He said: “Go, now!” Then", 2, 4) == "go, now"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("near_duplicates:\n  threshold: 0.1\n", "threshold (line 8) is below 0.3"),
        ("near_duplicates:\n  action: drop\n  ngrams: 3\n", "did you mean ngram?"),
        ("decontaminate:\n  holdout: true\n", "names the hold-out, but there is none"),
        ("decontaminate:\n  evaluation: a.jsonl\n", "set it to a list, such as"),
        ("decontaminate:\n  evaluation: [none.jsonl]\n", "no file matches none.jsonl"),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused(tmp_path, keys, says):
    write_model(tmp_path / "model")
    write_lines(tmp_path / "a.jsonl", [{"text": "one"}])
    recipe = HOLDOUT.split("holdout")[0] + keys
    with pytest.raises(DataError) as caught:
        run(tmp_path, recipe)
    assert says in str(caught.value) and "\n  try: " in str(caught.value)
