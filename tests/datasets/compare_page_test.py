# SPDX-License-Identifier: Apache-2.0
"""The pages of launch/compare in a real browser: the comparison, and the blind choice."""

import json
import time
from pathlib import Path

import pytest
from browser import Browser
from compare_test import arm_row, sample, three
from page_test import CONTRAST, PHONE, SCREEN
from temper_compare.arms import Asked
from temper_compare.blind_page import make_blind
from temper_compare.compare_page import make_page
from temper_compare.comparison import Compared
from temper_compare.options import load_options
from temper_compare.questions import Edit, Question
from temper_compare.votes import read_votes

HOSTILE = "</script><img src=x onerror=window.hacked=1><!-- <script>window.hacked=2</script>"
CONFIG = """\
folder: out
model: model
questions: {recipe: recipe.yaml}
manual: {path: pages.jsonl}
arms: [zero-shot, retrieval]
training: [{name: sft, config: sft.yaml, retrieval: true}]
blind: {arms: [zero-shot, retrieval, sft], questions: 2}
"""


def question(text: str) -> Question:
    return Question(({"role": "user", "content": text},), {}, f"right {text}", (1,), (2,), ())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both pages, of figures that are made up."""
    base = tmp_path_factory.mktemp("compare")
    (base / "compare.yaml").write_text(CONFIG)
    options = load_options(base / "compare.yaml", [])
    asked = [question(f"q{n} {HOSTILE}") for n in range(40)]
    rows = three(-1, -2, answers=[f"sft {HOSTILE}"] * 40, before=sample([0, 1] * 4, 2))
    rows.append(arm_row(3, "sft + retrieval", "fine-tuning and retrieval", -2, answers=["z"] * 40))
    edits = [Edit(asked[0], asked[1], (asked[0],))]
    compared = Compared(options, Asked(asked, asked[:10], edits, 8), rows, 100)
    (base / "compare.html").write_text(make_page(compared))
    page, key = make_blind(compared)
    (base / "blind.html").write_text(page)
    (base / "blind-key.json").write_text(json.dumps(key))
    return base


@pytest.fixture
def opened(browser, folder):
    """Opens one of the pages; none may complain, or ask the network for anything."""
    names = []

    def open_page(name: str, size=SCREEN, scheme="light") -> Browser:
        browser.window(*size)
        browser.scheme(scheme)
        browser.open(folder / name)
        names.append(name)
        return browser

    yield open_page
    assert browser.complaints() == []
    assert browser.requests() == [(folder / names[-1]).as_uri()]
    assert browser.evaluate("typeof window.hacked") == "undefined"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, SCREEN], ids=["phone", "screen"])
@pytest.mark.parametrize("name", ["compare.html", "blind.html"])
def test_pages_fit_and_are_easy_to_read(opened, name, size, scheme):
    page = opened(name, size, scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, (ratio, where)


def test_the_comparison_shows_every_figure(opened):
    page = opened("compare.html")
    captions = page.evaluate("[...document.querySelectorAll('caption')]"
                             ".map((c) => c.firstChild.textContent)")  # fmt: skip
    assert captions == [
        "Properties, measured", "Answers to held-out questions",
        "Questions that the manual does not answer", "Cost of an answer and of an arm",
        "Edited answers",
    ]  # fmt: skip
    cells = page.evaluate("[...document.querySelectorAll('#answers tbody tr')]"
                          ".map((r) => [...r.children].map((c) => c.textContent))")  # fmt: skip
    assert [row[0] for row in cells] == ["zero-shot", "retrieval", "sft", "sft + retrieval"]
    assert all(len(row) == 7 for row in cells) and cells[2][1].startswith("\u22121.0")
    updates = page.evaluate("document.querySelector('#updates tbody').textContent")
    assert "never" in updates and "50" in updates
    text = page.evaluate("document.getElementById('findings').textContent")
    assert "wins against retrieval" in text
    properties = page.evaluate("document.getElementById('properties').textContent")
    for name in ("adding knowledge", "changing format", "cost", "updating", "best use"):
        assert name in properties
    assert HOSTILE in page.evaluate("document.getElementById('shown').textContent")


def is_whole(path: Path) -> bool:
    """The browser makes a file that it saves before it writes it."""
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True


def test_choices_are_made_with_keys_and_saved(opened, folder, tmp_path):
    page = opened("blind.html")
    page.evaluate("localStorage.clear()")
    page.open(folder / "blind.html")
    key = json.loads((folder / "blind-key.json").read_text())
    place = "document.getElementById('place').textContent"
    assert len(key["pairs"]) == 2 * 2 and page.evaluate(place) == "Pair 1 of 4"
    assert page.evaluate("document.getElementById('save').disabled")
    source = (folder / "blind.html").read_text()
    assert "zero-shot" not in source and "retrieval" not in source  # Nothing tells whose they are.

    page.evaluate("document.getElementById('rater').focus()")
    page.type("Ann1")  # A digit in the name is no choice.
    assert page.evaluate(place) == "Pair 1 of 4"
    page.evaluate("document.getElementById('rater').blur()")
    said = "document.getElementById('{}').textContent"
    wanted = []
    for pair in key["pairs"][:3]:
        answers = [page.evaluate(said.format(side)) for side in ("first", "second")]
        assert answers[0] == (f"sft {HOSTILE}" if pair["first"] == "sft" else "x")
        choice = "1" if pair["first"] == "sft" else "2"
        wanted.append(int(choice))
        page.press(choice, choice)
    page.press("1", "1")
    page.evaluate("document.getElementById('back').click()")
    page.open(folder / "blind.html")  # What was chosen is kept.
    assert page.evaluate(place) == "Pair 4 of 4"
    page.evaluate("document.querySelector('[data-choice=\"0\"]').click()")
    assert page.evaluate(place) == "4 of 4 chosen"
    assert not page.evaluate("document.getElementById('done').hidden")
    page.press("1", "1")  # There is nothing left to choose.

    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.evaluate("document.getElementById('save').click()")
    saved, end = tmp_path / "votes-Ann1.json", time.monotonic() + 60
    while not is_whole(saved) and time.monotonic() < end:
        page.call("Target.getTargets")
    found = read_votes(folder / "blind-key.json", [saved])
    assert [vote.rater for vote in found] == ["Ann1"] * 4
    votes = json.loads(saved.read_text())["votes"]
    assert [vote["choice"] for vote in votes] == [*wanted, 0]
    assert all(vote["seconds"] >= 0 for vote in votes)


def test_pairs_of_equal_answers_are_left_out(folder):
    key = json.loads((folder / "blind-key.json").read_text())
    both = [{pair["first"], pair["second"]} for pair in key["pairs"]]
    assert both.count({"zero-shot", "retrieval"}) == 0  # Both say "x" to everything.
    assert both.count({"zero-shot", "sft"}) == 2
