# SPDX-License-Identifier: Apache-2.0
"""The parts of preparation that work together: order, hold-out, duplicates, processes, progress."""

import faulthandler
import hashlib
import io
import json
import os
import random
import signal
import time

import pytest
import templates
from conftest import run_here as run
from conftest import write_lines, write_model
from shard_reader import Shard
from transformers import AutoTokenizer

from temper_data import records, workers
from temper_data.documents import DocumentMaker
from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.preparation import Preparation
from temper_data.progress import Progress, clock_time
from temper_data.recipe import load_recipe
from temper_data.reuse import foreign_output, summarise, up_to_date


@pytest.fixture
def small_batches(monkeypatch):
    """Many batches from little data."""
    monkeypatch.setattr(records, "BATCH_BYTES", 500)


SFT = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
workers: 1
sources:
  - path: {tmp}/a.jsonl
holdout:
  fraction: 0.3
  by: group
"""


def conversations(count: int, groups: int) -> list[dict]:
    chance = random.Random(5)
    return [
        {
            "messages": [
                {"role": "user", "content": f"Question {number}?"},
                {"role": "assistant", "content": "A" * chance.randint(1, 60)},
            ],
            "group": f"g{number % groups}",
        }
        for number in range(count)
    ]


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, small_batches):
    write_model(tmp_path / "model", templates.CHATML)
    lines = conversations(200, 20)
    lines.insert(50, "{broken")
    lines.insert(120, lines[3])
    write_lines(tmp_path / "a.jsonl", lines)
    made = []
    for count in (1, 2, 3):
        folder = run(tmp_path, SFT, workers=count, output=tmp_path / f"out{count}")
        names = ["train.h5", "holdout.h5", "report.json", "report.html"]
        made.append([(folder / name).read_bytes() for name in names])
        assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert made[0] == made[1] == made[2]


def test_order_is_that_of_the_files(tmp_path, small_batches):
    write_model(tmp_path / "model")
    for name in ("b", "a"):
        write_lines(tmp_path / f"{name}.jsonl", [{"text": f"{name}{n}"} for n in range(50)])
    recipe = "kind: pretrain\nmodel: {tmp}/model\noutput: {tmp}/out\nsources:\n"
    folder = run(tmp_path, recipe + "  - path: '{tmp}/[ab].jsonl'\n", workers=2)
    ids = Shard(folder / "train.h5").documents()
    preparation = Preparation(load_recipe(tmp_path / "recipe.yaml", []))
    texts = [preparation.model.tokenizer.decode(document) for document in ids]
    assert texts == [f"{name}{n}" for name in "ab" for n in range(50)]


def groups_of(tmp_path, folder, name) -> set[int]:
    shard = Shard(folder / f"{name}.h5")
    tokenizer = Preparation(load_recipe(tmp_path / "recipe.yaml", [])).model.tokenizer
    texts = [tokenizer.decode(document) for document in shard.documents()]
    return {int(text.split("Question ")[1].split("?")[0]) % 40 for text in texts}


def test_no_group_is_on_both_sides(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(400, 40))
    folder = run(tmp_path, SFT)
    train = groups_of(tmp_path, folder, "train")
    holdout = groups_of(tmp_path, folder, "holdout")
    assert not train & holdout and train | holdout == set(range(40))
    assert 4 <= len(holdout) <= 20  # 0.3 of 40 is 12
    salted = run(tmp_path, SFT + "  salt: other\n", output=tmp_path / "salted")
    assert groups_of(tmp_path, salted, "holdout") != holdout


def test_copies_that_differ_in_white_space_stay_on_one_side(tmp_path):
    write_model(tmp_path / "model")
    lines = [{"text": f"text {n}{blank}"} for n in range(60) for blank in ("", "\n", "  \n ")]
    write_lines(tmp_path / "a.jsonl", lines)
    recipe = SFT.replace("sft", "pretrain").replace("  by: group\n", "")
    folder = run(tmp_path, recipe)
    counts = [Shard(folder / name)["num_documents"] for name in ("train.h5", "holdout.h5")]
    assert counts[0] % 3 == 0 and counts[1] % 3 == 0 and sum(counts) == 180


def test_everything_or_nothing_may_be_held_out(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(20, 20))
    folder = run(tmp_path, SFT, **{"holdout.fraction": 1})
    assert Shard(folder / "holdout.h5")["num_documents"] == 20
    assert not (folder / "train.h5").exists()
    run(tmp_path, SFT, **{"holdout.fraction": 0})
    assert Shard(folder / "train.h5")["num_documents"] == 20
    assert not (folder / "holdout.h5").exists()
    with pytest.raises(DataError, match="no document is left for holdout.h5; dropped: none"):
        run(tmp_path, SFT, **{"holdout.fraction": 0.000001})


def test_a_record_without_its_key_is_dropped(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    lines = conversations(30, 30)
    del lines[4]["group"]
    write_lines(tmp_path / "a.jsonl", lines)
    report = (run(tmp_path, SFT) / "report.json").read_text()
    assert "a.jsonl:5: no text under group" in report


def test_duplicates_are_kept_when_asked(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(5, 5) * 3)
    kept = run(tmp_path, SFT, **{"holdout.fraction": 0, "deduplicate": "false"})
    assert Shard(kept / "train.h5")["num_documents"] == 15
    run(tmp_path, SFT, **{"holdout.fraction": 0})
    assert Shard(kept / "train.h5")["num_documents"] == 5


def die(_maker, _batch, _begin):
    os._exit(3)


def test_a_worker_that_dies_is_reported(tmp_path, monkeypatch):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(20, 20))
    monkeypatch.setattr(DocumentMaker, "prepare", die)
    with pytest.raises(DataError) as caught:
        run(tmp_path, SFT, workers=2)
    assert "a worker process died" in str(caught.value) and "fewer than 2" in str(caught.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


def test_a_template_may_not_take_any_amount_of_memory(tmp_path):
    huge = "{{ '%1500000000d' % 1 if messages[0].content == 'Question 7?' else '' }}"
    write_model(tmp_path / "model", huge + templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(20, 20))
    report = json.loads((run(tmp_path, SFT) / "report.json").read_text())
    assert report["dropped"] == {"refused by the chat template": 1}
    refused = report["examples"]["refused by the chat template"][0]
    assert refused == f"{tmp_path}/a.jsonl:8: MemoryError: "


def test_a_record_that_does_not_come_back_is_dropped(tmp_path, monkeypatch):
    make = DocumentMaker.make

    def hang(maker, source, data):
        if isinstance(data, bytes) and b"Question 7?" in data:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])  # As code in C does.
            signal.sigwait([signal.SIGUSR1])
        return make(maker, source, data)

    monkeypatch.setattr(DocumentMaker, "make", hang)
    monkeypatch.setattr(workers, "PATIENCE", 2)
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(20, 20))
    folder = run(tmp_path, SFT, **{"holdout.fraction": 0, "seconds_per_document": 1})
    report = json.loads((folder / "report.json").read_text())
    assert report["dropped"] == {"timed out": 1} and report["shards"]["train"]["documents"] == 19
    assert report["examples"]["timed out"] == [f"{tmp_path}/a.jsonl:8: took longer than 1 s"]


def test_a_record_that_has_to_wait_for_the_processor_is_kept(tmp_path, monkeypatch):
    make = DocumentMaker.make

    def wait(maker, source, data):
        time.sleep(1.2 if isinstance(data, bytes) and b"Question 7?" in data else 0)
        return make(maker, source, data)

    monkeypatch.setattr(DocumentMaker, "make", wait)
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(20, 20))
    folder = run(tmp_path, SFT, **{"holdout.fraction": 0, "seconds_per_document": 1})
    assert Shard(folder / "train.h5")["num_documents"] == 20


@pytest.mark.parametrize("how", [signal.SIGABRT, signal.SIGKILL])
def test_a_record_that_ends_its_worker_is_dropped_and_want_of_memory_is_not_its_doing(
    tmp_path, monkeypatch, how
):
    make = DocumentMaker.make

    def fail_once(maker, source, data):
        if isinstance(data, bytes) and b"Question 7?" in data:
            faulthandler.disable()
            os.kill(os.getpid(), how)
        return make(maker, source, data)

    monkeypatch.setattr(DocumentMaker, "make", fail_once)
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(20, 20))
    if how == signal.SIGKILL:
        with pytest.raises(DataError, match="most likely for want of memory"):
            run(tmp_path, SFT, **{"holdout.fraction": 0})
        return
    folder = run(tmp_path, SFT, **{"holdout.fraction": 0})
    report = json.loads((folder / "report.json").read_text())
    assert report["dropped"] == {"crashes the program": 1}
    place = f"{tmp_path}/a.jsonl:8: with signal SIGABRT"
    assert report["examples"]["crashes the program"] == [place]


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


@pytest.mark.parametrize("place", ["list", "folder"])
def test_conversations_with_tools_have_their_template(tmp_path, place):
    for_tools = "{% for tool in tools %}{{ tool.function.name }}{% endfor %}" + templates.CHATML
    named = {"default": templates.CHATML, "tool_use": for_tools}
    if place == "list":
        listed = [{"name": name, "template": source} for name, source in named.items()]
        folder = write_model(tmp_path / "model", chat_template=listed)
    else:
        folder = write_model(tmp_path / "model", templates.CHATML)
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text(for_tools)
    lines = conversations(3, 3)
    lines[0]["tools"], lines[1]["tools"] = [TOOL], []
    write_lines(tmp_path / "a.jsonl", lines)
    shard = Shard(run(tmp_path, SFT, **{"holdout.fraction": 0}) / "train.h5")
    oracle = AutoTokenizer.from_pretrained(folder)
    assert shard.documents() == [
        oracle.apply_chat_template(line["messages"], tools=line.get("tools"), return_dict=False)
        for line in lines
    ]
    assert shard["chat_template"] == templates.CHATML
    assert shard["tool_use_template_sha256"] == hashlib.sha256(for_tools.encode()).hexdigest()


def test_without_a_default_template_only_conversations_with_tools_can_be_rendered(tmp_path):
    listed = [{"name": "tool_use", "template": templates.CHATML}]
    write_model(tmp_path / "model", chat_template=listed)
    lines = conversations(3, 3)
    lines[0]["tools"] = [TOOL]
    write_lines(tmp_path / "a.jsonl", lines)
    folder = run(tmp_path, SFT, **{"holdout.fraction": 0})
    report = json.loads((folder / "report.json").read_text())
    assert report["dropped"] == {"no chat template": 2}
    assert "none is named default, but tool_use" in report["examples"]["no chat template"][0]
    write_model(tmp_path / "model", chat_template=[{"name": "rag", "template": "x"}])
    with pytest.raises(DataError, match="named default or tool_use; it has rag"):
        run(tmp_path, SFT)


@pytest.mark.parametrize(
    ("template", "config", "stops", "end", "notes"),
    [
        ("CHATML", {"eos_token": "<|im_end|>"}, None, "<|im_end|>", []),
        ("CHATML", {}, [257, 260], "<|im_end|>", []),
        ("CHATML", {}, 257, "<|im_end|>", ["'<|im_end|>' (260), which is no end token"]),
        ("CHATML", {"eos_token": None}, None, "<|im_end|>", []),
        ("MISTRAL", {}, None, "</s>", []),
        ("NEXT_MARK", {}, None, None, ["5 of 5 trained turns end without a mark"]),
        ("TEXT_MARK", {}, None, None, ["5 of 5 trained turns end with plain text"]),
        ("TEXT_MARK", {"eos_token": None}, None, None, ["plain text"]),
    ],
)
def test_the_shard_and_the_summary_say_what_ends_a_turn(
    tmp_path, template, config, stops, end, notes
):
    folder = write_model(tmp_path / "model", getattr(templates, template), **config)
    if stops is not None:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
    lines = conversations(5, 5)
    write_lines(tmp_path / "a.jsonl", lines + lines[:2])  # Duplicates do not count.
    out = run(tmp_path, SFT, **{"holdout.fraction": 0})
    shard = Shard(out / "train.h5")
    report = json.loads((out / "report.json").read_text())
    token = load_model_tokenizer(folder).tokenizer.token_to_id
    assert shard.attributes.get("end_of_turn_id") == (None if end is None else token(end))
    assert len(report["notes"]) == len(notes)
    assert all(note in line for note, line in zip(notes, report["notes"], strict=True))
    assert all(f"note: {line}" in summarise(report) for line in report["notes"])
    assert shard["eos_token_id"] == (257 if "eos_token" not in config else 260 if end else 0)


def test_shards_of_an_older_program_are_made_again_and_damaged_reports_say_nothing(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", conversations(5, 5))
    out = run(tmp_path, SFT, **{"holdout.fraction": 0})
    recipe = load_recipe(tmp_path / "recipe.yaml", ["holdout.fraction=0"])
    preparation = Preparation(recipe)
    assert up_to_date(preparation) and not foreign_output(preparation)
    report = json.loads((out / "report.json").read_text())
    older = report | {"program": "temper prepare 1", "recipe_fingerprint": "other"}
    for damaged in (
        older, report | {"shards": [1]}, report | {"shards": {"train": 5}}, report | {"sources": 5},
        report | {"sources": [{"file": "a\0b", "bytes": 1}]}, report | {"shards": {"train": {}}},
        {key: value for key, value in report.items() if key != "notes"},
    ):  # fmt: skip
        (out / "report.json").write_text(json.dumps(damaged))
        assert not up_to_date(preparation) and not foreign_output(preparation)
    (out / "report.json").write_text(json.dumps(report | {"recipe_fingerprint": "other"}))
    assert foreign_output(preparation) == ["train.h5", "report.json"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "first"), [(io.StringIO(), " "), (Terminal(), "\r")])
def test_progress_shows_what_is_left(monkeypatch, stream, first):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(4_000_000, stream)
    progress.advance(1, 1, 1)
    assert stream.getvalue() == ""
    now[0] = 130.0
    progress.advance(999_999, 19, 2999)
    progress.finish()
    line = " 25.0 % of 4.0 MB, 20 documents, 3000 tokens, 100 tokens/s, 1:30 left"
    assert line in stream.getvalue() and stream.getvalue().startswith(first)
    assert stream.getvalue().endswith("\n" if first == " " else "\r")


def test_times_are_read_like_clocks():
    assert [clock_time(s) for s in (0, 59.6, 3599, 3600)] == ["0:00", "1:00", "59:59", "1:00:00"]
