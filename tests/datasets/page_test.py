# SPDX-License-Identifier: Apache-2.0
"""report.html in a real browser: it opens, searches, and looks right on phones and screens."""

import pytest
import templates
from browser import CONTRAST, PHONE, SCREEN
from conftest import run_here, write_lines, write_model
from shard_reader import Shard

RECIPE = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
workers: 1
sources:
  - path: {tmp}/a.jsonl
near_duplicates: {action: drop}
filters: {conversation: {refusal: true}}
"""
HOSTILE = "</script><img src=x onerror=window.hacked=1><script>window.hacked=2</script>"
LINE = "the quick brown fox jumps over the lazy dog and does not come back before the evening "


def chat(question: str, answer: str) -> dict:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns}


ROWS = [
    chat("What is in </script>?", HOSTILE),
    chat("Wo liegt Köln?", "Am Rhein.\n\n\tNeedle in a haystack\u200b, e\u0301 "),
    chat("מה בירת צרפת?", "בירת צרפת היא פריז (Paris)."),
    chat("日本の首都は?", "東京です。" + "w" * 300),
    chat("long", "word " * 400),
    chat("copy", LINE * 3 + "one"),
    chat("copy", LINE * 3 + "two"),
    chat("What?", "As an AI language model, I cannot find the needle."),
    *[chat(f"Question {n}?", f"Answer {n}. " * (n + 1)) for n in range(5)],
]
TARGETS = {"light": "rgb(216, 239, 223)", "dark": "rgb(23, 61, 41)"}  # as in page.css
NOTHING = "rgba(0, 0, 0, 0)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small preparation with something in every section."""
    base = tmp_path_factory.mktemp("page")
    write_model(base / "model", templates.CHATML)
    write_lines(base / "a.jsonl", [*ROWS, "{broken", {"messages": HOSTILE}])
    return run_here(base, RECIPE)


@pytest.fixture
def page(browser, folder):
    """The page as a light screen shows it."""
    browser.window(*SCREEN)
    browser.scheme("light")
    browser.open(folder / "report.html")
    yield browser
    assert browser.complaints() == []
    assert browser.requests() == [(folder / "report.html").as_uri()]


def test_it_opens_and_runs_nothing_of_the_input(page):
    assert page.evaluate("document.title") == "What the model will see"
    assert page.evaluate("[document.images.length, document.scripts.length]") == [0, 1]
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert HOSTILE in page.evaluate("document.querySelector('article').textContent")
    assert page.evaluate("getComputedStyle(document.querySelector('.n'), '::before').content")


@pytest.mark.parametrize("size", [PHONE, SCREEN], ids=["phone", "screen"])
def test_nothing_is_wider_than_the_window(page, size):
    page.window(*size)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    page.evaluate("document.getElementById('ids').click()")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.body.scrollWidth <= document.body.clientWidth")
    page.evaluate("scrollTo(99, 0)")
    assert page.evaluate("scrollX") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_targets_and_nothing_else_are_coloured(page, folder, scheme):
    page.scheme(scheme)
    shard = Shard(folder / "train.h5")
    number = next(i for i, ids in enumerate(shard.documents()) if len(ids) < 200)
    token = f"[...document.querySelectorAll('article:has(#train-{number}) i')]"
    assert page.evaluate(f"{token}.map((i) => +i.dataset.i)") == shard.documents()[number]
    colours = page.evaluate(f"{token}.map((i) => getComputedStyle(i).backgroundColor)")
    assert colours == [TARGETS[scheme] if m else NOTHING for m in shard.masks()[number]]
    specials = "[...document.querySelectorAll('article b')].map((b) => b.textContent)"
    assert set(page.evaluate(specials)) == {"<|im_start|>", "<|im_end|>"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_easy_to_read(page, scheme):
    page.scheme(scheme)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    page.evaluate("document.getElementById('ids').click()")
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, (ratio, where)  # WCAG 2.2, level AA.


def test_the_choice_of_colours_goes_before_the_system(page):
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.evaluate("document.getElementById('auto').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "dark"
    dark = page.evaluate(paper)
    page.scheme("dark")
    page.evaluate("document.getElementById('light').click()")
    assert page.evaluate(paper) == light != dark
    page.evaluate("document.getElementById('auto').click()")
    assert page.evaluate(paper) == dark


VISIBLE = "[...document.querySelectorAll('.find')].filter((e) => e.checkVisibility()).length"
SECTIONS = "[...document.querySelectorAll('main > section')].filter((e) => e.checkVisibility())"
FOUND = "document.getElementById('found').textContent"


def test_the_search_leaves_what_has_the_text(page):
    everything = page.evaluate(VISIBLE)
    page.press("/", "/")
    assert page.evaluate("document.activeElement.id") == "find"
    page.type("NEEDLE")
    assert page.evaluate(FOUND) == "1 sample, 2 examples"
    assert page.evaluate(VISIBLE) == 3
    assert page.evaluate(f"{SECTIONS}.map((s) => s.id)") == ["samples", "dropped", "filters"]
    shown = page.evaluate("[...document.querySelectorAll('article')]"
                          ".filter((e) => e.checkVisibility()).map((e) => e.textContent)[0]")
    assert "Needle in a haystack" in shown
    page.press("Escape")
    assert page.evaluate(VISIBLE) == everything and page.evaluate(FOUND) == ""
    page.type("am rhein.\n".strip())
    assert page.evaluate(FOUND) == "1 sample, 0 examples"
    page.press("Escape")
    page.type("broken")
    assert page.evaluate(FOUND) == "0 samples, 0 examples"
    assert page.evaluate(f"{SECTIONS}.length") == 0


def test_the_search_finds_a_reason_with_all_its_examples(page):
    page.press("/", "/")
    page.type("malformed rec")
    assert page.evaluate(FOUND) == "0 samples, 1 example"
    assert "messages is no list" in page.evaluate("document.querySelector('li.find:not([hidden])')"
                                                  ".textContent")  # fmt: skip


def test_screen_readers_find_their_way(page):
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes if not node.get("ignored")
    ]  # fmt: skip
    for wanted in (
        ("main", ""), ("navigation", "Contents"), ("banner", ""), ("search", ""),
        ("searchbox", "Search samples and what was dropped"), ("radio", "dark"),
        ("group", "Colours"), ("checkbox", "token ids"), ("region", "Samples"),
        ("article", "train 0, 118 tokens, 77 targets"), ("heading", "What the model will see"),
        ("columnheader", "documents"), ("status", ""),
    ):  # fmt: skip
        same = [name for role, name in found if role == wanted[0]]
        assert wanted[1] in same or not wanted[1] and same, (wanted, same)
    assert any(role == "mark" for role, _ in found)
    page.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"


def test_lines_have_their_own_direction(page):
    look = """(() => {
      const text = [...document.querySelectorAll('article')]
        .find((e) => e.textContent.includes("Paris")).querySelector(".tokens");
      const boxes = [...text.querySelectorAll("i")].map((i) => i.getBoundingClientRect());
      const at = (s) => boxes[[...text.querySelectorAll("i")].map((i) => i.textContent)
        .findIndex((t, n, all) => all.slice(n, n + s.length).join("") === s)].x;
      const box = text.getBoundingClientRect();
      return [at("assistant") - box.x, box.right - at("מ")];
    })()"""
    from_left, from_right = page.evaluate(look)
    assert from_left < 150 and from_right < 60  # Behind <|im_start|>, and two bytes of a letter.


def test_it_prints_with_all_that_is_folded(page):
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('.tools')).display") == "none"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("[...document.querySelectorAll('details')].every((d) => d.open)")
    page.call("Emulation.setEmulatedMedia", media="")


def test_without_scripts_everything_is_there(browser, folder):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(folder / "report.html")
    root = browser.call("DOM.getDocument", depth=0)["root"]["nodeId"]
    articles = browser.call("DOM.querySelectorAll", nodeId=root, selector="article")
    assert len(articles["nodeIds"]) == 11
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
