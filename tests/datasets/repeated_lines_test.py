# SPDX-License-Identifier: Apache-2.0
"""Lines that many documents have: which go, which stay, and that a first pass counts them right."""

import random
from collections import Counter

import numpy as np
import pytest
from conftest import report_of, texts_of
from conftest import run_here as run
from conftest import write_lines, write_model
from filter_texts import CODE, LANGUAGES

from temper_data import line_counts, preparation, records
from temper_data.errors import DataError
from temper_data.filters.options import RepeatedLineOptions
from temper_data.filters.repeated_lines import LineTable, RepeatedLines
from temper_data.recipe import load_recipe

RECIPE = """\
kind: pretrain
model: {tmp}/model
output: {tmp}/out
sources:
  - path: {tmp}/a.jsonl
filters:
  personal_data: "off"
  repeated_lines: {min_documents: 4}
"""
# What stands above and below the texts of web pages.
FRAMES = {
    "en": (
        "Home | News | Weather | Sports | About us",
        "All rights reserved. Read our privacy policy.",
    ),
    "de": (
        "Startseite | Nachrichten | Wetter | Impressum",
        "Alle Rechte vorbehalten. Zur Datenschutzerklärung.",
    ),
    "es": (
        "Inicio | Noticias | El tiempo | Quiénes somos",
        "Todos los derechos reservados. Aviso legal.",
    ),
    "ru": (
        "Главная | Новости | Погода | О редакции",
        "Все права защищены. Политика конфиденциальности.",
    ),
    "ar": (
        "الرئيسية | الأخبار | الطقس | من نحن",
        "جميع الحقوق محفوظة. سياسة الخصوصية.",
    ),
    "ko": (
        "홈 | 뉴스 | 날씨 | 스포츠 | 회사 소개",
        "저작권자 무단 전재 및 재배포 금지",
    ),
    "zh": (
        "首页 | 新闻 | 天气 | 体育 | 关于我们",
        "版权所有，未经许可不得转载",
    ),
    "ja": (
        "ホーム | ニュース | 天気 | 会社概要",
        "無断転載を禁じます。著作権は当社に帰属します。",
    ),
}


def pages(name: str, count: int) -> list[str]:
    """The language's text in parts, each with the frame around it and a line of its own."""
    above, below = FRAMES[name]
    body = [line for line in LANGUAGES[name].split("\n") if line.strip()]
    return [f"{above}\n\n{n}: {body[n % len(body)]}\nOK\n\n{below}\n" for n in range(count)]


def bare(text: str) -> str:
    return "\n".join(text.split("\n")[2:4]) + "\n"


def prepared(tmp_path, rows: list[str], recipe: str = RECIPE, **overrides) -> list[str]:
    if not (tmp_path / "model").exists():
        write_model(tmp_path / "model")
    write_lines(tmp_path / "a.jsonl", [{"text": text} for text in rows])
    return texts_of(tmp_path, run(tmp_path, recipe, **overrides), "train")


def test_frames_of_pages_go_in_all_languages_and_what_few_have_stays(tmp_path):
    """Four documents of a language are enough, three are not; short lines always stay."""
    texts = {name: pages(name, 4) for name in FRAMES}
    few = pages("en", 7)[4:]
    rare = [
        text.replace(FRAMES["en"][0], "Another menu, which only three pages have") for text in few
    ]
    rows = [text for listed in texts.values() for text in listed] + rare
    found = prepared(tmp_path, rows)
    wanted = [bare(text) for listed in texts.values() for text in listed]
    wanted += ["\n".join(text.split("\n")[:4]) + "\n" for text in rare]
    assert found == wanted
    entry = report_of(tmp_path / "out")["filters"]["found"]["repeated lines removed"]
    assert (entry["texts"], entry["changes"]) == (35, 67)
    assert entry["share"] == 1.0
    assert entry["lines"][0] == {"line": FRAMES["en"][1], "documents": 7}
    assert len(entry["lines"]) == 16 and {item["documents"] for item in entry["lines"][1:]} == {4}


def test_prose_and_code_stay(tmp_path):
    """Of each text many changed copies; no line of it may go that says something."""
    verses = [f"Verse {n} of the song, which is told once only.\n" for n in range(6)]
    verse = "Refrain that comes again and again.\n".join(verses)
    fenced = "Use it so:\n\nas root:\n```\n$ mount the first of the disks there\n```\n"
    rows = [*LANGUAGES.values(), verse]
    for number in range(6):
        rows.append(f"# {number}\n{CODE}")
        rows.append(f"Number {number} explains another thing, with more words of it.\n{fenced}")
        rows.append(
            f"## Summary\n\nThe {number}th one is told here at length.\n\n## References\n\n- no\n"
        )
    assert prepared(tmp_path, rows) == rows


def test_copies_are_left_to_those_who_look_for_copies(tmp_path):
    """Exact ones do not count, and of near ones nothing would be left."""
    long = "\n".join(f"Line {number} of a document that was copied." for number in range(9))
    rows = [long + "\nand more"] * 9 + ["Its own text, which is short enough to lose."]
    for most in (0.8, 1):
        limits = {"deduplicate": "false", "filters.repeated_lines.max_removed_share": most}
        assert prepared(tmp_path, rows, **limits) == rows
    rows = [f"{long}\n{number}" for number in range(9)]
    assert prepared(tmp_path, rows) == rows
    found = prepared(tmp_path, rows, **{"filters.repeated_lines.max_removed_share": 1})
    assert found == [str(number) for number in range(9)]


def test_counts_are_those_of_a_counter(tmp_path, monkeypatch):
    """By source, with white space folded, whatever batches and workers there are."""
    chance = random.Random(5)
    kinds = [f"{number} is a line that many documents may have" for number in range(60)]
    write_model(tmp_path / "model")
    texts = {}
    for name in "ab":
        drawn = [chance.choices(kinds, range(60), k=chance.randint(1, 9)) for _ in range(80)]
        texts[name] = ["\n".join([f"own {name} {n}", *lines]) for n, lines in enumerate(drawn)]
        spaced = [text.replace(" line ", "  line\t") + " " for text in texts[name]]
        write_lines(tmp_path / f"{name}.jsonl", [{"text": text} for text in spaced])
    recipe = RECIPE.replace("filters:", "  - path: {tmp}/b.jsonl\nfilters:")
    expected = []
    for listed in texts.values():
        counts = Counter(line for text in listed for line in set(text.split("\n")))
        kept = [[line for line in text.split("\n") if counts[line] < 20] for text in listed]
        expected += ["\n".join(lines) for lines in kept]
    made = []
    limits = {"filters.repeated_lines.min_documents": 3, "filters.repeated_lines.min_share": 0.25}
    for count, size in ((1, 1 << 19), (2, 2000)):
        monkeypatch.setattr(records, "BATCH_BYTES", size)
        limits |= {"filters.repeated_lines.max_removed_share": 1, "output": tmp_path / f"o{count}"}
        out = run(tmp_path, recipe, workers=count, **limits)
        found = [
            text.replace("  line\t", " line ").strip() for text in texts_of(tmp_path, out, "train")
        ]
        assert [t.replace(" \n", "\n") for t in found] == expected
        names = ["report.html", "report.json", "train.h5"]
        assert sorted(path.name for path in out.iterdir()) == names
        made.append([(out / name).read_bytes() for name in ("report.json", "train.h5")])
    assert made[0] == made[1]


def test_unreadable_records_cost_themselves_alone(tmp_path):
    rows = pages("en", 5)
    write_model(tmp_path / "model")
    write_lines(tmp_path / "a.jsonl", ["{]", *[{"text": text} for text in rows], '{"text": 3}'])
    found = texts_of(tmp_path, run(tmp_path, RECIPE), "train")
    assert found == [bare(text) for text in rows]
    assert report_of(tmp_path / "out")["dropped"].keys() >= {"invalid JSON", "malformed record"}


def test_blank_lines_around_what_goes_become_one():
    lines = RepeatedLines(RepeatedLineOptions(min_documents=2, min_letters=2))
    for text, wanted in (
        ("xx\n\na b\n\nxx\n\nc d\n\nxx", "a b\n\nc d"),
        ("a b\nxx\nc d\n", "a b\nc d\n"),
        ("a b\n\n\nc d\nxx\n", "a b\n\n\nc d\n"),
        ("  xx  \na b", "a b"),
        ("xx", ""),
    ):
        digests = {line.digest for line in lines.of("xx", "s")}
        table = LineTable(np.array(sorted(digests), np.uint64), np.array([7], np.uint32))
        options = RepeatedLineOptions(min_documents=2, min_letters=2, max_removed_share=1)
        stripped = RepeatedLines(options, table).strip(text, "s")
        assert stripped.text == wanted and set(stripped.lines.values()) == {7}
        assert RepeatedLines(options, table).strip(text, "another source") is None


def test_a_source_that_changes_between_the_passes_is_an_error(tmp_path, monkeypatch):
    counted = line_counts.count_lines

    def count_and_change(*arguments):
        found = counted(*arguments)
        write_lines(tmp_path / "a.jsonl", [{"text": "now another text stands here"}])
        return found

    monkeypatch.setattr(preparation, "count_lines", count_and_change)
    with pytest.raises(DataError, match="a.jsonl changed between the two passes"):
        prepared(tmp_path, pages("en", 5))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


def test_options_that_would_do_harm_are_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    text = RECIPE.replace("min_documents: 4", "min_documents: 1")
    path.write_text(text.replace("{tmp}", str(tmp_path)))
    with pytest.raises(
        DataError, match="filters.repeated_lines.min_documents .* every line would go"
    ):
        load_recipe(path, [])
    refusal = "repeated_lines .* is for kind pretrain.*\n.*near_duplicates"
    with pytest.raises(DataError, match=refusal):
        load_recipe(path, ["kind=sft", "filters.repeated_lines.min_documents=2"])
