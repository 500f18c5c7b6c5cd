# SPDX-License-Identifier: Apache-2.0
"""Readers of every kind of file: the same rows whatever holds them."""

import datetime
import decimal
import gzip
import hashlib
import json
import lzma
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, run_here, write_model
from shard_reader import Shard
from source_files import (
    LINES, PRETRAIN, ROWS, SFT, arrow, arrow_of, batches_of, parquet, parquet_of, rows_of, zstd,
)  # fmt: skip

from temper_data import records
from temper_data.errors import DataError

# Looks for members as templates do, so that a null member is not an absent one.
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n'}}"
    "{% if 'tool_calls' in message %}{{ message.tool_calls | tojson }}{% endif %}"
    "{{ message['content'] or '' }}{{ '<|im_end|>\\n' }}{% endfor %}"
)


def payload(folder: Path) -> dict:
    return {name: data.tobytes() for name, data in Shard(folder / "train.h5").payload.items()}


def test_the_same_rows_make_the_same_shard_from_every_kind_of_file(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BATCH_BYTES", 3000)
    write_model(tmp_path / "model", TEMPLATE)
    half = LINES.index(b"\n", len(LINES) // 2) + 1
    kinds = {
        "a.jsonl": LINES, "array.json": json.dumps(ROWS).encode(),
        "crlf.jsonl": LINES.replace(b"\n", b"\r\n"), "a.jsonl.gz": gzip.compress(LINES),
        "a.jsonl.xz": lzma.compress(LINES), "a.jsonl.zst": zstd(LINES),
        "two.gz": gzip.compress(LINES[:half]) + gzip.compress(LINES[half:]) + bytes(5),
        "two.xz": lzma.compress(LINES[:half]) + bytes(4) + lzma.compress(LINES[half:]),
        "two.zst": zstd(LINES[:half]) + zstd(b"") + zstd(LINES[half:]),
        "bom.jsonl": "\ufeff".encode() + LINES[:half] + "\ufeff".encode() + LINES[half:],
        "a.parquet": parquet(ROWS, row_group_size=9), "b.parquet": parquet(ROWS, version="1.0"),
        "c.parquet": parquet(ROWS, compression="zstd", data_page_version="2.0"),
        "liar.jsonl": parquet(ROWS), "a.arrow": arrow(ROWS), "liar.txt": arrow(ROWS),
        "file.arrow": arrow(ROWS, pa.ipc.new_file), "one.arrow": arrow(ROWS, size=10**6),
        "packed.arrow": arrow(ROWS, pa.ipc.new_file, compression="lz4"),
    }  # fmt: skip
    made = {}
    for name, data in kinds.items():
        (tmp_path / name).write_bytes(data)
        out = run_here(tmp_path, SFT + f"  - path: {{tmp}}/{name}\n", output=tmp_path / f"o.{name}")
        report = json.loads((out / "report.json").read_text())
        assert report["dropped"] == {}, name
        made[name] = payload(out)
        assert report["sources"][0]["bytes"] == len(data)
        assert report["sources"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    assert {name for name in made if made[name] != made["a.jsonl"]} == set()
    options = {"workers": 3, "output": tmp_path / "three"}
    again = run_here(tmp_path, SFT + "  - path: {tmp}/a.parquet\n", **options)
    assert payload(again) == made["a.jsonl"]


def test_lines_are_the_same_wherever_a_batch_ends(tmp_path, monkeypatch):
    """Against a plain reading of the rule, with lines about as long as they may be."""
    chance, path = random.Random(3), tmp_path / "a.jsonl"
    for _ in range(200):
        lines = [
            chance.choice([b"", b" \t", b"\r", b'"%s"' % (b"x" * chance.randrange(12))])
            for _ in range(chance.randrange(1, 12))
        ]
        path.write_bytes(data := b"\n".join([b'"1"', *lines]) + chance.choice([b"", b"\n"]))
        expected = [
            (number, "record too large" if len(line) > 9 else line.strip(b"\r"))
            for number, line in enumerate(data.split(b"\n"), 1)
            if len(line) > 9 or line.strip()
        ]
        monkeypatch.setattr(records, "BATCH_BYTES", chance.randrange(1, 30))
        batches = list(batches_of(path, max_bytes=9))
        assert expected == [
            (number, line.strip() if isinstance(line, bytes) else line.reason)
            for batch in batches
            for number, line in batch.records
        ]
        assert all(batch.records for batch in batches)


def test_values_of_columns_become_those_of_json(tmp_path):
    zone = datetime.timezone(datetime.timedelta(hours=2))
    when = datetime.datetime(2024, 2, 29, 12, 0, 0, 5)
    columns = {
        "text": pa.array(["a", None], pa.large_string()),
        "kind": pa.array(["x", "x"]).dictionary_encode(),
        "number": pa.array([1, None], pa.int64()),
        "weight": pa.array([0.5, 1.0], pa.float32()),
        "yes": pa.array([True, None]),
        "raw": pa.array(["é".encode(), b"\xff\xd8"]),
        "price": pa.array([decimal.Decimal("1.50"), None]),
        "day": pa.array([when.date(), None]),
        "at": pa.array([when, None], pa.timestamp("ns")),
        "zoned": pa.array([when.replace(tzinfo=zone), None], pa.timestamp("ns", "Europe/Berlin")),
        "took": pa.array([1500, None], pa.duration("ms")),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
        "deep": pa.array([[{"a": None, "content": None, "b": [{"c": 1}, {}]}], None]),
        "when": pa.array([[{"t": 1}], []], pa.list_(pa.struct([("t", pa.timestamp("ns"))]))),
        "pair": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        "pairs": pa.array([[[1], [2, 3]], [None, []]], pa.list_(pa.large_list(pa.int8()))),
        "none": pa.nulls(2),
    }
    expected = {
        "text": "a", "kind": "x", "number": 1, "weight": 0.5, "yes": True, "raw": "é",
        "price": "1.50", "day": "2024-02-29", "at": "2024-02-29T12:00:00.000005",
        "zoned": "2024-02-29T10:00:00.000005+00:00", "took": 1.5, "map": {"k": 1},
        "deep": [{"content": None, "b": [{"c": 1}, {}]}], "when": [{"t": "1970-01-01T00:00:00"}],
        "pair": [1, 2], "pairs": [[1], [2, 3]], "none": None,
    }  # fmt: skip
    second = dict.fromkeys(expected) | {"kind": "x", "weight": 1.0, "when": [], "raw": {"bytes": 2}}
    second["pairs"] = [None, []]
    table = pa.table(columns)
    (tmp_path / "a.arrow").write_bytes(arrow_of(table))
    assert rows_of(tmp_path / "a.arrow") == [(1, expected), (2, second)]
    (tmp_path / "a.parquet").write_bytes(parquet_of(table))
    assert rows_of(tmp_path / "a.parquet") == [(1, expected), (2, second)]


def test_a_bad_row_costs_itself_alone(tmp_path):
    texts = pa.array([b"one", b"half \xed\xa0\xbd", b"x" * 3000, b"last"]).view(pa.string())
    far = pa.array([0, 0, 0, 2**62], pa.timestamp("us"))
    pq.write_table(pa.table({"text": texts, "far": far}), tmp_path / "a.parquet")
    found = rows_of(tmp_path / "a.parquet", max_bytes=2000)
    assert found[0] == (1, {"text": "one", "far": "1970-01-01T00:00:00"})
    reasons = ["invalid UTF-8", "record too large", "unreadable row"]
    assert [(number, row[0]) for number, row in found[1:]] == list(enumerate(reasons, 2))
    write_model(tmp_path / "model")
    out = run_here(tmp_path, PRETRAIN + "  - path: {tmp}/a.parquet\n", max_record_bytes=2000)
    report = json.loads((out / "report.json").read_text())
    assert report["dropped"] == {reason: 1 for reason in reasons}
    assert report["examples"]["record too large"][0].startswith(f"{tmp_path}/a.parquet:row 3: more")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", [(1, "empty file")]),
        (b"\n \r\n", [(1, "empty file")]),
        (b'{"text": "x"}', [(1, "x")]),
        (b'\r\n{"text": "x\\r\\n"}\r\n', [(2, "x\r\n")]),
        ("\ufeff[".encode() + b'{"text": "x"}]\n\xef\xbb\xbf[{"text": "y"}]', [(1, "x"), (2, "y")]),
        (b'{"text": "a\\u0000\\ud83d"}\n', [(1, "a\0\ud83d")]),
        (b'{"text": null}\n', [(1, None)]),
    ],
)
def test_odd_files_of_json(tmp_path, content, expected):
    for name, pack in {"a.json": bytes, "a.json.gz": gzip.compress, "a.zst": zstd}.items():
        (tmp_path / name).write_bytes(pack(content))
        found = rows_of(tmp_path / name)
        shown = [(n, row["text"] if isinstance(row, dict) else row[0]) for n, row in found]
        assert shown == expected


NO_ROWS = pa.schema([("text", pa.string())])


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.parquet", b"", "empty file"),
        ("a.arrow", b"", "empty file"),
        ("a.parquet", lambda: parquet_of(NO_ROWS.empty_table()), "empty file"),
        ("a.parquet", lambda: parquet_of(pa.table({})), "empty file"),
        ("a.arrow", lambda: arrow_of(NO_ROWS.empty_table()), "empty file"),
        ("a.arrow", lambda: arrow_of(NO_ROWS.empty_table(), pa.ipc.new_file), "empty file"),
        ("a.arrow", lambda: arrow_of(pa.table({})), "empty file"),
        ("a.parquet", lambda: parquet([{"text": "x"}]), {"text": "x"}),
    ],
)
def test_odd_files_of_columns(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data())
    ((number, row),) = rows_of(tmp_path / name)
    assert number == 1 and (row if isinstance(expected, dict) else row[0]) == expected


@pytest.mark.parametrize(("levels", "is_read"), [(90, True), (120, False)])
def test_a_file_of_too_many_levels_is_not_called_damaged(tmp_path, levels, is_read):
    kind, value = pa.string(), "x"
    for _ in range(levels):
        kind, value = pa.struct([("a", kind)]), {"a": value}
    table = pa.table({"text": ["t"], "deep": pa.array([value], kind)})
    (tmp_path / "a.parquet").write_bytes(parquet_of(table))
    if is_read:
        assert rows_of(tmp_path / "a.parquet")[0][1]["text"] == "t"
        return
    with pytest.raises(DataError, match="(?s)beyond what pyarrow reads.*fewer levels") as found:
        rows_of(tmp_path / "a.parquet")
    assert "damaged" not in str(found.value)


PEAKS = """
import sys
from pathlib import Path
from temper_data import column_reader, file_kind
for path in map(Path, sys.argv[1:]):
    reader = column_reader.ColumnReader(1 << 24, 1 << 19)
    for _ in reader.read(path, file_kind.recognise(path, "jsonl").columns, []):
        status = Path(f"/proc/{reader._child.process.pid}/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) >> 10)
    reader.close()
"""


def peaks_of(paths: list[Path]) -> list[int]:
    """The most MiB that the reader of each file held, mapped pages included."""
    command = [sys.executable, "-c", PEAKS, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT / "datasets", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Also where all rows are in one row group or record batch."""
    chance, peaks = random.Random(1), {}
    for count in (1_000, 20_000):
        rows = [{"text": chance.randbytes(500).hex()} for _ in range(count)]
        made = {
            "one": parquet(rows, row_group_size=10**6), "many": parquet(rows, row_group_size=500),
            "stream": arrow(rows, size=500), "file": arrow(rows, pa.ipc.new_file, size=10**6),
        }  # fmt: skip
        for name, data in made.items():
            (tmp_path / name).write_bytes(data)
        peaks[count] = peaks_of([tmp_path / name for name in made])
    small, large = peaks.values()
    assert max(many - few for few, many in zip(small, large, strict=True)) < 16, peaks
