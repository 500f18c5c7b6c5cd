# SPDX-License-Identifier: Apache-2.0
"""report.html as a file: when it is written, what is in it, and that no text of the input acts."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import templates
from conftest import chat, report_of, run_here, write_lines, write_model
from tokenizers import Tokenizer, models

from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.joint_shards import JointShards
from temper_data.page import collect as collecting
from temper_data.page.document import MAX_BYTES, make_page
from temper_data.shard_writer import ShardIdentity, ShardWriter
from temper_data.token_pieces import TokenBytes

SFT = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
workers: 1
sources:
  - path: {tmp}/a.jsonl
"""
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&<!--\u202e\ud800\0]]>"
TAGS = {
    "html", "head", "meta", "link", "title", "style", "script", "body", "a", "header", "div", "p",
    "fieldset", "legend", "label", "input", "span", "h1", "h2", "h3", "dl", "dt", "dd", "small",
    "nav", "ul", "ol", "li", "form", "output", "main", "section", "article", "mark", "i", "b", "s",
    "u", "table", "caption", "thead", "tbody", "tr", "th", "td", "svg", "rect", "details",
    "summary", "bdi", "em", "pre",
}  # fmt: skip


class Reader(HTMLParser):
    """What a browser makes of the page: its elements, and the text outside style and script."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "input", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def read(page: str) -> Reader:
    """Raises AssertionError where elements do not close, or the input made one."""
    reader = Reader(page)
    assert reader.open == []
    names = [tag for tag, _ in reader.elements]
    assert set(names) <= TAGS and names.count("script") == 1 == names.count("style")
    for _, attributes in reader.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    return reader


def prepared(tmp_path: Path, rows: list, recipe: str = SFT, **overrides) -> str:
    if not (tmp_path / "model").exists():
        write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", rows)
    return (run_here(tmp_path, recipe, **overrides) / "report.html").read_text(encoding="utf-8")


def test_the_page_tells_what_the_report_tells(tmp_path):
    line = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    copies = [chat(line, f"{line} {line[::-1]} {word}") for word in ("", "a", "b b")]
    rows = [chat(f"Question {n}?", f"Answer {n}. " * n) for n in range(1, 30)]
    rows += [*copies, rows[3], "{broken", chat("What?", "As an AI language model, I cannot.")]
    held = "The secret evaluation question that nobody may ever train on, is it understood?"
    write_lines(tmp_path / "e.jsonl", [{"question": held, "answer": "Yes"}])
    recipe = SFT + (
        "holdout: {fraction: 0.2}\nnear_duplicates: {action: drop, threshold: 0.5}\n"
        "decontaminate: {evaluation: ['{tmp}/e.jsonl']}\n"
        "filters: {conversation: {refusal: true, contradictions: true}}\n"
    )
    reader = read(prepared(tmp_path, [*rows, chat(held, "Yes, of course")], recipe))
    report = report_of(tmp_path / "out")
    text = " ".join(reader.text.split())
    for shard in report["shards"].values():
        for key in ("documents", "tokens", "targets"):
            assert f"{key}{shard[key]:,}" in text
        assert shard["fingerprint"] in text
    dropped = report["dropped"]
    reasons = ("answer refuses", "duplicate", "in an evaluation set", "invalid JSON",
               "near duplicate")  # fmt: skip
    assert set(dropped) == set(reasons)
    total = sum(dropped.values())
    documents = sum(shard["documents"] for shard in report["shards"].values())
    assert f"{total} of {total + documents} records." in text
    for reason, count in dropped.items():
        assert f"{reason}{count}" in text
        for example in report["examples"].get(reason, []):
            assert example in text
    (copies,) = report["duplicates"]["clusters"]
    assert copies["size"] == 2 and copies["copies"] == [f"{tmp_path}/a.jsonl:33"]
    assert "1 document had the tokens of one before, and fell" in text
    assert f"copy {tmp_path}/a.jsonl:33" in text and copies["text"] in text
    assert copies["kept"] == f"{tmp_path}/a.jsonl:4" and f"kept {copies['kept']}" in text
    cluster = report["near_duplicates"]["clusters"][0]
    assert f"kept {cluster['kept']['place']}{cluster['kept']['text']}" in text
    assert all(f"copy {fallen['place']}" in text for fallen in cluster["fell"])
    assert "2 near copies in 1 cluster, dropped." in text
    assert "a second search over all that stays found no overlap" in text
    assert str(tmp_path / "e.jsonl") in text
    assert "No licence or origin is stated." in text


def test_licences_and_origins_are_shown_where_the_report_has_them(tmp_path):
    prepared(tmp_path, [chat("Q", "A")])
    report = report_of(tmp_path / "out")
    report["sources"][0] |= {"license": "CC-BY-4.0", "origin": "a colleague's <notes>"}
    text = read(page_of(tmp_path, tmp_path / "out/train.h5", report)).text
    assert "licence" in text and "CC-BY-4.0" in text and "a colleague's <notes>" in text


def page_of(tmp_path: Path, shard: Path, report: dict) -> str:
    vocabulary = TokenBytes(load_model_tokenizer(tmp_path / "model"))
    with JointShards([shard]) as shards:
        return make_page([collecting.collect("train", shards, vocabulary, 24)], report)


def test_text_of_the_input_stays_text(tmp_path):
    plain = HOSTILE.replace("\ud800", "")
    page = prepared(tmp_path, [chat(plain, plain), json_of(HOSTILE), chat("Q", "A")])
    shown = read(page).text
    assert "</script><img src=x onerror=alert(1)>\"'&<!--" in shown
    assert "\u202e" not in page and "\0" not in page and "RLO" in shown


def json_of(text: str) -> dict:
    return {"messages": text}


def test_a_report_full_of_hostile_text_is_shown_and_bounded(tmp_path):
    prepared(tmp_path, [chat("Q", "A")])
    text = HOSTILE * 3000
    many = {f"{n} {HOSTILE}": n for n in range(1000)}
    place = {"place": text, "text": text}
    entry = {"documents": 3, "share": 0.5, "examples": [text] * 50}
    change = {"texts": 3, "changes": 4, "examples": [text] * 50}
    cluster = {"size": 1 << 40, "kept": place, "fell": [place] * 50}
    report = {
        "program": text,
        "recipe": {text: text, "near": {"action": text, "threshold": text}},
        "dropped": many,
        "examples": {name: [text] * 50 for name in many},
        "notes": [text] * 1000,
        "layouts": [{"path": text, "format": text, "columns": {text: "x"}, "files": 1}] * 500,
        "sources": [{"file": text, "bytes": 1 << 60, "license": text, "origin": text}] * 5000,
        "filters": {"examined": 9, "dropped": dict.fromkeys(many, entry),
                    "found": dict.fromkeys(many, change)},
        "near_duplicates": {
            "clusters_by_size": {str(n): n for n in range(2, 5000)}, "pairs_compared": 1,
            "documents_not_compared": 2, "copies": 3, "clusters": [cluster] * 500,
        },
        "decontamination": {
            name: {"runs": 1, "quarantined": 2, "overlaps_left": 3, "files": [text] * 500}
            for name in ("a", HOSTILE)
        },
    }  # fmt: skip
    page = page_of(tmp_path, tmp_path / "out/train.h5", report)
    assert len(page.encode("utf-8")) < MAX_BYTES
    text = read(page).text
    assert "too long for one page" in text and text.count("user") >= 1  # The sample has room.


def test_documents_of_long_tokens_do_not_make_the_page_long(tmp_path):
    vocabulary = {"&" * 2000 + str(number): number for number in range(60)} | {"&": 60}
    folder = write_model(tmp_path / "model", bos_token=None, eos_token=None, unk_token=None)
    Tokenizer(models.WordLevel(vocabulary, unk_token="&")).save(str(folder / "tokenizer.json"))
    model = load_model_tokenizer(folder)
    with ShardWriter(tmp_path / "a.h5", ShardIdentity("pretrain", 61, model.sha256, "", 0)) as w:
        w.append(np.arange(2400) % 60, np.full(200, 12), None)
        w.publish("{}")
    page = page_of(tmp_path, tmp_path / "a.h5", {})
    assert len(page) < MAX_BYTES
    reader = read(page)
    assert "would be too long for this page" in reader.text
    assert sum(tag == "article" for tag, _ in reader.elements) > 5


def test_long_documents_show_their_beginning_and_end(tmp_path):
    page = prepared(tmp_path, [chat("Q", "begin" + "x" * 5000 + "end")])
    text = read(page).text
    length = report_of(tmp_path / "out")["shards"]["train"]["tokens"]
    most = collecting.MAX_BEGINNING + collecting.MAX_END
    assert f"{length:,} tokens, of which {most} are shown" in text
    assert f"{length - most:,} tokens not shown" in text and "xend" in text
    assert page.count("<i data-i=") == most


def test_the_page_comes_and_goes_as_the_recipe_says(tmp_path, prepare):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", [chat("Q", "A")])
    page = tmp_path / "out/report.html"
    assert f"page: {page}" in prepare(SFT).stdout
    first = page.read_bytes()
    assert "page:" not in prepare(SFT + "page: false\n").stdout and not page.exists()
    again = prepare(SFT)
    assert "is up to date" in again.stdout and page.read_bytes() == first
    page.write_text("old")
    run_here(tmp_path, SFT, page="false")
    assert not page.exists()


def test_shares_of_balanced_classes_are_shown(tmp_path):
    topics = ["rare", *3 * [HOSTILE[:40]]]
    rows = [chat(f"Q{n}?", "A" * 50) | {"topic": topics[n % 4]} for n in range(80)]
    page = read(prepared(tmp_path, rows, SFT + "    balance: {by: topic}\n")).text
    shown = page.split("Balance", 2)[-1].split("Dropped")[0]
    assert "by topic" in shown and "onerror" in shown
    assert shown.count("50.0 %") == 4, shown  # Asked and found, of two classes.
