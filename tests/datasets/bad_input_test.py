# SPDX-License-Identifier: Apache-2.0
"""Bad records in every kind of file: each is counted by the same name, and costs itself alone."""

import gzip
import json
import lzma

import pyarrow as pa
import pytest
import templates
from conftest import report_of, run_here, texts_of, write_model
from source_files import arrow, arrow_of, parquet, parquet_of, zstd

REFUSING = (
    "{% if messages[0]['content'] == 'raise' %}{{ raise_exception('not this') }}{% endif %}"
    "{% if messages[0]['content'] == 'fail' %}{{ messages[9]['content'] + 1 }}{% endif %}"
)


def lines(rows: list) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def crlf(rows: list) -> bytes:
    return lines(rows).replace(b"\n", b"\r\n")


READERS = {
    "a.jsonl": lines, "crlf.jsonl": crlf, "a.json": lambda rows: json.dumps(rows).encode(),
    "wide.json": lambda rows: json.dumps(rows, indent=2).encode(),
    "a.jsonl.gz": lambda rows: gzip.compress(lines(rows)),
    "a.json.xz": lambda rows: lzma.compress(json.dumps(rows).encode()),
    "a.jsonl.zst": lambda rows: zstd(lines(rows)),
    "a.parquet": parquet, "a.arrow": arrow,
    "file.arrow": lambda rows: arrow(rows, pa.ipc.new_file),
}  # fmt: skip


def turns(*pairs) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


USER, GOOD = ("user", "Q"), ("assistant", "A")
# The row, and what it is dropped as; None: it is kept.
ODD = {
    "null answer": (turns(USER, ("assistant", None)), "empty answer"),
    "null question": (turns(("user", None), GOOD), "refused by the chat template"),
    "null messages": ({"messages": None}, "malformed record"),
    "no message": ({"messages": []}, "malformed record"),
    "unknown role": (turns(("robot", "Q"), GOOD), None),
    "null role": (turns((None, "Q"), GOOD), "malformed record"),
    "empty role": (turns(("", "Q"), GOOD), "malformed record"),
    "roles that repeat": (turns(USER, USER, GOOD, GOOD), None),
    "answer first": (turns(GOOD, USER), None),
    "template that raises": (turns(("user", "raise"), GOOD), "refused by the chat template"),
    "template that fails": (turns(("user", "fail"), GOOD), "refused by the chat template"),
    "too large": (turns(("user", "x" * 20000), GOOD), "record too large"),
    "NUL": (turns(("user", "a\0b"), GOOD), None),
    "byte order mark": (turns(("user", "a\ufeffb"), GOOD), None),
    "CRLF": (turns(("user", "a\r\nb\r"), GOOD), None),
}


@pytest.mark.parametrize("name", READERS)
def test_a_bad_row_is_counted_alike_in_every_file(tmp_path, name):
    write_model(tmp_path / "model", REFUSING + templates.CHATML)
    first, last = turns(("user", "first"), GOOD), turns(("user", "last"), GOOD)
    found = {}
    for case, (row, _) in ODD.items():
        (tmp_path / name).write_bytes(READERS[name]([first, row, last]))
        recipe = "kind: sft\nmodel: {tmp}/model\noutput: {tmp}/out\nworkers: 1\nsources:\n"
        recipe += f"  - {{path: '{{tmp}}/{name}', format: messages}}\nmax_record_bytes: 9000\n"
        report = report_of(run_here(tmp_path, recipe))
        others = report["filters"]["found"].get("messages of other roles", {})
        assert others.get("texts", 0) == (case == "unknown role")
        texts = texts_of(tmp_path, tmp_path / "out", "train")
        assert "first" in texts[0] and "last" in texts[-1], case
        found[case] = next(iter(report["dropped"]), None)
        assert len(texts) == 3 - sum(report["dropped"].values()), case
        places = [line for listed in report["examples"].values() for line in listed]
        assert all(line.startswith(f"{tmp_path}/{name}:") for line in places)
    assert found == {case: reason for case, (_, reason) in ODD.items()}


PACKED = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}
# What a file of text holds, its documents, and what is dropped; with `---` between documents.
BYTES = {
    "one": (b"one", ["one"], {}),
    "crlf": (b"\r\none\r\ntwo\r\n", ["\r\none\r\ntwo\r\n"], {}),
    "first mark": (b"\xef\xbb\xbfone", ["one"], {}),
    "mark within": (b"one\xef\xbb\xbf two", ["one two"], {}),  # The filters take it out.
    "half a pair": (b"one \xed\xa0\xbd", [], {"invalid UTF-8": 1}),
    "not UTF-8": (b"caf\xe9", [], {"invalid UTF-8": 1}),
    "blank": (b" \n\t\r\n", [], {"empty": 1}),
    "too large": (b"x" * 9001, [], {"record too large": 1}),
    "unended line": (b"one\ntwo", ["one\ntwo"], {}),
}


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_odd_bytes_in_files_of_text(tmp_path, name, ending):
    """In a file that is one document, and between two others of a file with many."""
    write_model(tmp_path / "model")
    recipe = "kind: pretrain\nmodel: {tmp}/model\noutput: {tmp}/out\nmax_record_bytes: 9000\n"
    recipe += f"workers: 1\nsources:\n  - path: {{tmp}}/{name}{ending}\n"
    parted, good = recipe + "    separator: '---'\n", recipe + "  - path: {tmp}/good.txt\n"
    (tmp_path / "good.txt").write_text("good")
    for case, (data, documents, dropped) in BYTES.items():
        for text, whole, rest in (
            (good, data, ["good"]), (parted, b"a\n---\n" + data + b"\n---\nb", ["b"])
        ):  # fmt: skip
            (tmp_path / (name + ending)).write_bytes(PACKED[ending](whole))
            report = report_of(run_here(tmp_path, text))
            found = texts_of(tmp_path, tmp_path / "out", "train")
            found = [document.removesuffix("</s>") for document in found]
            kept = [document.rstrip("\r\n") for document in found if document.rstrip() != "a"]
            assert kept == [document.rstrip("\r\n") for document in documents + rest], case
            assert report["dropped"] == dropped, case


def test_odd_values_in_columns(tmp_path):
    """Half pairs, depth, several types in one column; each row costs itself alone."""
    write_model(tmp_path / "model")
    deep = pa.array(["x", "y", "z"])
    for _ in range(40):
        deep = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), deep)
    texts = pa.array([b"one", b"half \xed\xa0\xbd", b"three"]).view(pa.string())
    types = pa.UnionArray.from_sparse(
        pa.array([0, 1, 0], pa.int8()), [pa.array(["first", "", "last"]), pa.array([1, 2, 3])]
    )
    tables = {
        "half.parquet": (pa.table({"text": texts}), ["one", "three"], {"invalid UTF-8": 1}),
        "half.arrow": (pa.table({"text": texts}), ["one", "three"], {"invalid UTF-8": 1}),
        "deep.parquet": (pa.table({"text": deep}), None, {"malformed record": 3}),
        "deep.arrow": (pa.table({"text": deep}), None, {"malformed record": 3}),
        "mixed.arrow": (pa.table({"text": types}), ["first", "last"], {"malformed record": 1}),
        "nulls.parquet": (pa.table({"text": ["a", None]}), ["a"], {"malformed record": 1}),
        "nulls.arrow": (pa.table({"text": pa.nulls(2)}), None, {"malformed record": 2}),
    }
    (tmp_path / "good.txt").write_text("good")
    for name, (table, documents, dropped) in tables.items():
        data = parquet_of(table) if name.endswith("parquet") else arrow_of(table)
        (tmp_path / name).write_bytes(data)
        recipe = "kind: pretrain\nmodel: {tmp}/model\noutput: {tmp}/out\nworkers: 1\nsources:\n"
        out = run_here(tmp_path, recipe + f"  - path: {{tmp}}/{name}\n  - path: {{tmp}}/good.txt\n")
        found = [text.removesuffix("</s>") for text in texts_of(tmp_path, out, "train")]
        assert (found, report_of(out)["dropped"]) == ([*(documents or []), "good"], dropped), name


@pytest.mark.parametrize("name", ["a.json", "a.txt", "parted.txt", "a.parquet", "a.arrow"])
def test_a_record_of_100_mb_is_dropped_by_name(tmp_path, name):
    write_model(tmp_path / "model")
    large, parted = "x" * 100_000_000, name == "parted.txt"
    data = {
        "a.json": lambda: json.dumps([{"text": large}, {"text": "good"}]).encode(),
        "a.txt": large.encode, "parted.txt": lambda: f"{large}\n---\ngood".encode(),
        "a.parquet": lambda: parquet([{"text": large}, {"text": "good"}]),
        "a.arrow": lambda: arrow([{"text": large}, {"text": "good"}]),
    }  # fmt: skip
    (tmp_path / name).write_bytes(data[name]())
    (tmp_path / "good.txt").write_text("good")
    recipe = "kind: pretrain\nmodel: {tmp}/model\noutput: {tmp}/out\nworkers: 1\nsources:\n"
    recipe += f"  - path: {{tmp}}/{name}\n" + "    separator: '---'\n" * parted
    out = run_here(tmp_path, recipe + "  - path: {tmp}/good.txt\n" * (name == "a.txt"))
    assert report_of(out)["dropped"] == {"record too large": 1}
    assert texts_of(tmp_path, out, "train") == ["good"]
