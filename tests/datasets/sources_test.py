# SPDX-License-Identifier: Apache-2.0
"""Kinds of source files and rows: each is read as its writers mean it, or refused in words."""

import gzip
import json
import os

import pytest
import templates
from conftest import run_here, write_lines, write_model
from shard_reader import Shard

from temper_data.documents import UNREADABLE
from temper_data.errors import DataError, RecordRefusal
from temper_data.json_values import JsonCutter
from temper_data.model_tokenizer import load_model_tokenizer

PRETRAIN = "kind: pretrain\nmodel: {tmp}/model\noutput: {tmp}/out\nworkers: 1\nsources:\n"
SFT = PRETRAIN.replace("pretrain", "sft")


def made(tmp_path, recipe: str, **overrides) -> tuple[Shard, dict]:
    """The training shard and the report."""
    folder = run_here(tmp_path, recipe, **overrides)
    return Shard(folder / "train.h5"), json.loads((folder / "report.json").read_text())


def texts(tmp_path, shard) -> list[str]:
    tokenizer = load_model_tokenizer(tmp_path / "model").tokenizer
    return [tokenizer.decode(ids, skip_special_tokens=False) for ids in shard.documents()]


def targets(tmp_path, shard) -> list[str]:
    tokenizer = load_model_tokenizer(tmp_path / "model").tokenizer
    pairs = zip(shard.documents(), shard.masks(), strict=True)
    chosen = [[t for t, m in zip(ids, mask, strict=True) if m] for ids, mask in pairs]
    return [tokenizer.decode(ids, skip_special_tokens=False) for ids in chosen]


def refusal(tmp_path, recipe: str, **overrides) -> str:
    with pytest.raises(DataError) as caught:
        run_here(tmp_path, recipe, **overrides)
    return str(caught.value)


ROWS = [{"text": "First {\"é\\text\"}\n"}, {"text": "Second"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
ARRAY = json.dumps(ROWS, ensure_ascii=False)
PRETTY = json.dumps(ROWS, indent=2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES), ("a.json", LINES), ("a.ndjson", LINES), ("a.jsonlines", LINES),
        ("a.JSONL", LINES), ("a.Json.GZ", LINES), ("a.jsonl.gz", LINES), ("a.json", ARRAY),
        ("a.json", PRETTY), ("a.jsonl", PRETTY), ("a.json.gz", PRETTY),
        ("a.json", "\ufeff" + ARRAY), ("a.json", "\ufeff" + LINES),
        ("a.jsonl", "\n".join(json.dumps(r, indent=1) for r in ROWS)),
    ],
)  # fmt: skip
def test_rows_are_found_whatever_the_file_is_called(tmp_path, name, content):
    write_model(tmp_path / "model")
    data = content.encode()
    compressed = name.lower().endswith("gz")
    (tmp_path / name).write_bytes(gzip.compress(data) if compressed else data)
    shard, report = made(tmp_path, PRETRAIN + f"  - path: {{tmp}}/{name}\n")
    assert texts(tmp_path, shard) == [row["text"] + "</s>" for row in ROWS]
    assert report["dropped"] == {}
    assert report["sources"][0]["bytes"] == (tmp_path / name).stat().st_size


ELF = b"\x7fELF" + bytes(100)


@pytest.mark.parametrize(
    ("name", "data", "source", "says"),
    [
        ("a.csv", b"a,b\n1,2\n", "", "is a table by its name"),
        ("a.tsv.gz", gzip.compress(b"a\tb\n"), "", "is a table by its name"),
        ("a.csv", b"a,b\n", "    format: jsonl\n", "is a table by its name"),
        ("a.bin", ELF, "", "is a binary file, not text"),
        ("a.txt", ELF, "    format: text\n", "is a binary file, not text"),
        ("a.txt", LINES.encode(), "", "holds JSON, but its name says text"),
        ("a.dat", ARRAY.encode(), "", "holds JSON, but its name says text"),
        ("a.json", b'{\n  "setting": 1\n}\n', "", "is one JSON object"),
        ("a.parquet", b"PAR1" + bytes(9), "", "is a Parquet file without its end"),
        ("a.jsonl", b"PAR1" + bytes(9), "", "is a Parquet file without its end"),
        ("a.arrow", b"\xff\xff\xff\xff" + bytes(9), "", "is an Arrow stream without its end"),
        ("a.arrow", b"ARROW1\0\0" + bytes(9), "", "is an Arrow file without its end"),
        ("a.txt", b"PAR1PAR1", "    format: text\n", "is a Parquet file, not text"),
        ("a.parquet", b"PAR1PAR1", "", "its footer is damaged"),
        ("a.parquet", LINES.encode(), "", "begins otherwise than a parquet file does"),
        ("a.parquet", b"PARE" + bytes(9), "", "is an encrypted Parquet file"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "", "a Git LFS pointer"),
        ("a.parquet.gz", gzip.compress(b"PAR1PAR1"), "", "a Parquet file compressed with gzip"),
        ("a.jsonl.gz", gzip.compress(gzip.compress(b"{}")), "", "is compressed twice"),
        ("a.jsonl.bz2", b"BZh9" + bytes(9), "", "is compressed with bzip2"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd" + bytes(9), "", "is a damaged zstd file"),
        ("a.jsonl.gz", b"\x1f\x8bdamaged", "", "is a damaged gzip file"),
        ("a.jsonl.gz", gzip.compress(LINES.encode())[:-9], "", "is a damaged gzip file"),
        ("a.txt", "\ufeffText".encode("utf-16-le"), "", "is in UTF-16"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path, name, data, source, says):
    write_model(tmp_path / "model")
    (tmp_path / name).write_bytes(data)
    found = refusal(tmp_path, PRETRAIN + f"  - path: {{tmp}}/{name}\n" + source)
    assert says in found and str(tmp_path / name) in found and "\n  try: " in found
    assert not list((tmp_path / "out").glob("*.h5")) if (tmp_path / "out").exists() else True


def test_what_looks_like_json_may_be_text_when_asked(tmp_path):
    write_model(tmp_path / "model")
    (tmp_path / "a.json").write_text(LINES)
    shard, _ = made(tmp_path, PRETRAIN + "  - {path: '{tmp}/a.json', format: text}\n")
    assert texts(tmp_path, shard) == [LINES + "</s>"]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_json_values_are_cut_at_any_place_of_the_file(step):
    content = (
        ' [ {"a": "}\\\\"},\n {"b": [1, {"c": "\\"]"}]}\n, [2], {"long": "xxxxxxxxxxxxxxxxxxx"}]\n'
        '{"d": "é"}\ufeff stray {"e"\n: {}}\ufeff{'
    ).encode()
    cutter = JsonCutter(25, RecordRefusal("record too large"))
    found = []
    for begin in range(0, len(content), step):
        found += cutter.cut(content[begin : begin + step])
    found += cutter.finish()
    shown = [(n, d.reason if isinstance(d, RecordRefusal) else json.loads(d)) for n, d in found]
    assert shown == [
        (1, {"a": "}\\"}), (2, {"b": [1, {"c": '"]'}]}), (3, [2]), (3, "record too large"),
        (4, {"d": "é"}), (4, {"e": {}}), (5, "invalid JSON"), (4, "invalid JSON"),
    ]  # fmt: skip


def test_an_array_that_breaks_off_is_noticed(tmp_path):
    write_model(tmp_path / "model")
    (tmp_path / "a.json").write_text(ARRAY[:-1])
    _, report = made(tmp_path, PRETRAIN + "  - path: {tmp}/a.json\n")
    assert "the file ends inside its array" in report["examples"]["invalid JSON"][0]
    (tmp_path / "a.json").write_text(ARRAY[:-9])
    _, report = made(tmp_path, PRETRAIN + "  - path: {tmp}/a.json\n")
    assert "the file ends inside a record" in report["examples"]["invalid JSON"][0]


def test_an_empty_file_is_named(tmp_path):
    write_model(tmp_path / "model")
    recipe = PRETRAIN + "  - path: '{tmp}/*.jsonl'\n"
    (tmp_path / "a.jsonl").write_text("\n\n")
    assert f"dropped: 1 empty file\n  {tmp_path}/a.jsonl:1" in refusal(tmp_path, recipe)
    write_lines(tmp_path / "b.jsonl", ROWS)
    assert made(tmp_path, recipe)[1]["dropped"] == {"empty file": 1}


def test_names_that_are_no_text_and_names_like_patterns(tmp_path):
    write_model(tmp_path / "model")
    folder = tmp_path / "run[2]"
    folder.mkdir()
    write_lines(folder / "a.jsonl", ROWS)
    shard, _ = made(tmp_path, PRETRAIN + "  - path: '{tmp}/run[2]/a.jsonl'\n")
    assert shard["num_documents"] == 2
    os.rename(folder / "a.jsonl", os.fsencode(folder) + b"/caf\xe9.jsonl")
    write_lines(folder / "b.jsonl", [{"text": "third \ud83d"}, {"text": "fourth", "n": "\ud83d"}])
    recipe = PRETRAIN + "  - path: '{tmp}/run[[]2]/*.jsonl'\nholdout: {fraction: 0, by: n}\n"
    refused = refusal(tmp_path, recipe)
    assert "2 invalid Unicode" in refused and "2 no hold-out key" in refused
    assert "caf\\udce9.jsonl:1" in refused
    shard, report = made(tmp_path, recipe.replace("by: n", "by: document"))
    assert shard["num_documents"] == 3 and report["dropped"] == {"invalid Unicode": 1}
    assert os.path.exists(report["sources"][1]["file"])  # The name is kept as it is.
    shard, _ = made(tmp_path, PRETRAIN + f"  - path: '{folder}'\n")
    assert shard["num_documents"] == 3


Q, A = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
BAD, GOOD = {"role": "assistant", "content": "Bad"}, {"role": "assistant", "content": "Good"}


def conversation(first: dict, second: dict | None = None) -> dict:
    return {"messages": [Q, BAD | first, Q, GOOD | (second or {})]}


def chatml(*turns) -> str:
    return "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in turns)


@pytest.mark.parametrize(
    "flags",
    [
        ({"weight": 0}, {"weight": 1}), ({"weight": 0.0}, {"weight": None}), ({"train": False}, {}),
        ({"training": False}, {"training": True}), ({"loss": False}, {}), ({"masked": True}, {}),
        ({"trainable": 0}, {"masked": False, "loss": 1}),
    ],
)  # fmt: skip
def test_a_turn_flagged_as_context_is_rendered_and_not_learnt(tmp_path, flags):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", [conversation(*flags)])
    shard, report = made(tmp_path, SFT + "  - path: {tmp}/a.jsonl\n")
    whole = chatml(("user", "Q"), ("assistant", "Bad"), ("user", "Q"), ("assistant", "Good"))
    assert texts(tmp_path, shard) == [whole]
    assert targets(tmp_path, shard) == ["Good<|im_end|>"]


def test_flags_work_in_sharegpt_too(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    says = [("human", "Q", {}), ("gpt", "Bad", {"weight": 0}), ("human", "Q", {}), ("gpt", "A", {})]
    turns = [{"from": who, "value": what} | flags for who, what, flags in says]
    write_lines(tmp_path / "a.jsonl", [{"conversations": turns}])
    shard, _ = made(tmp_path, SFT + "  - {path: '{tmp}/a.jsonl', format: sharegpt}\n")
    assert targets(tmp_path, shard) == ["A<|im_end|>"]


DETAIL = [{"begin_offset": 0, "end_offset": 1, "train": False}]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (conversation({"weight": 0.5}), "message 1 has weight: 0.5"),
        (conversation({"weight": "0"}), "message 1 has weight: '0'"),
        (conversation({"train_detail": DETAIL}), "message 1 has train_detail"),
        (conversation({"loss_scale": 1}), "message 1 has loss_scale: 1"),
        (conversation({"weight": 0, "train": True}), "message 1: weight and train disagree"),
        (conversation({"role": "user", "train": True}), "of role 'user' asks to be trained"),
        (conversation({}) | {"weight": 0}, "flagged as not to be trained"),
        (conversation({}) | {"loss_mask": [0, 1]}, "the row has loss_mask"),
        (conversation({"weight": 0}, {"weight": 0}), "no assistant turn is left"),
        ({"chosen": [Q, A], "rejected": [Q, A]}, "set format: preference"),
        ({"question": "Q", "answer": "A"}, "set format: question_answer"),
        ({"prompt": "Q", "completion": "A"}, "set format: prompt_completion"),
        ({"conversations": []}, "set format: sharegpt"),
        (conversation({}) | {"tools": ["f"]}, "tools holds something that is no object"),
        (conversation({}) | {"tools": "[" * 9999}, "tools is no JSON"),
        (conversation({}) | {"functions": [{}]}, "the row has functions: use tools"),
        (conversation({"function_call": {}}), "has function_call: use tool_calls"),
        (conversation({}) | {"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ],
)
def test_rows_that_would_be_trained_wrong_are_refused(tmp_path, row, says):
    write_model(tmp_path / "model", templates.CHATML)
    write_lines(tmp_path / "a.jsonl", [row])
    recipe = SFT + "  - {path: '{tmp}/a.jsonl', format: messages}\n"
    assert says in refusal(tmp_path, recipe)


def test_prompts_with_completions_teach_the_completion(tmp_path):
    write_model(tmp_path / "model", templates.CHATML)
    rows = [
        {"prompt": "Q", "completion": "A"},
        {"prompt": [Q, BAD, Q], "completion": [A]},
        {"prompt": [Q, BAD | {"weight": 1}, Q], "completion": [GOOD, Q, A], "label": True},
        {"prompt": "Q", "completion": "B", "label": False},
        {"prompt": "Q", "completion": [A]},
        {"prompt": [Q, A], "completion": [A]},
    ]
    write_lines(tmp_path / "a.jsonl", rows)
    shard, report = made(
        tmp_path, SFT + "  - {path: '{tmp}/a.jsonl', format: prompt_completion}\n"
    )
    assert targets(tmp_path, shard) == ["A<|im_end|>"] * 2 + ["Good<|im_end|>A<|im_end|>"]
    assert texts(tmp_path, shard)[0] == chatml(("user", "Q"), ("assistant", "A"))
    assert report["dropped"] == {"malformed record": 2, "flagged as not to be trained": 1}


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        ("instruction", {"instruction": "Q", "output": "A", "history": 0.5}),
        ("instruction", {"instruction": "Q", "output": "A", "history": [["Q", 5]]}),
        ("instruction", {"instruction": "Q", "output": "A", "system": ["S"]}),
        ("sharegpt", {"conversations": [{"from": ["human"], "value": "Q"}]}),
        ("sharegpt", {"conversations": [{"from": {}, "value": "Q"}]}),
        ("messages", {"messages": [{"role": ["user"], "content": "Q"}, A]}),
        ("messages", {"messages": {"role": "user"}}),
        ("messages", '{"messages": ' + "[" * 800 + "]" * 800 + "}"),
        ("messages", json.dumps({"messages": [Q, A]})[:-1] + ', "x": ' + "[" * 99999),
        ("messages", {"messages": [Q, A | {"deep": json.loads("[" * 900 + "]" * 900)}]}),
    ],
)
def test_an_odd_row_costs_itself_alone(tmp_path, layout, row):
    write_model(tmp_path / "model", templates.CHATML)
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    good = {
        "instruction": {"instruction": "Q", "output": "A"},
        "sharegpt": {"conversations": turns},
        "messages": {"messages": [Q, A]},
    }
    write_lines(tmp_path / "a.jsonl", [row, good[layout]])
    shard, report = made(tmp_path, SFT + f"  - {{path: '{{tmp}}/a.jsonl', format: {layout}}}\n")
    assert texts(tmp_path, shard) == [chatml(("user", "Q"), ("assistant", "A"))]
    assert sum(report["dropped"].values()) == 1 and UNREADABLE not in report["dropped"]


def test_a_rows_own_variables_reach_the_template(tmp_path):
    write_model(tmp_path / "model", "{{ 'no ' if thinking is false else '' }}" + templates.CHATML)
    row = {"messages": [Q, A], "chat_template_kwargs": {"thinking": False}}
    write_lines(tmp_path / "a.jsonl", [{"messages": [Q, A]}, row])
    shard, _ = made(tmp_path, SFT + "  - path: {tmp}/a.jsonl\n")
    plain = chatml(("user", "Q"), ("assistant", "A"))
    assert texts(tmp_path, shard) == [plain, "no " + plain]
    assert targets(tmp_path, shard) == ["A<|im_end|>"] * 2
