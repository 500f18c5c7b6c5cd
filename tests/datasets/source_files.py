# SPDX-License-Identifier: Apache-2.0
"""Source files of every kind from the same rows, and what the readers find in them."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from temper_data.file_kind import recognise
from temper_data.recipe import InputFile, Source
from temper_data.records import Batch, read_batches

# Of different members, which one column holds only with nulls in between.
CALLS = [
    {"type": "function", "function": {"name": "f", "arguments": arguments}}
    for arguments in ({"city": "Köln"}, {"day": 5, "hours": [1, 2]})
]
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"Question {number}? \r\n\0 한국어 \ufeff 中文"},
            {"role": "assistant", "content": None, "tool_calls": [CALLS[number % 2]]},
            {"role": "tool", "content": "x"},
            {"role": "assistant", "content": f"Answer {number} " * (number % 7 + 1)},
        ],
        "group": number % 5,
    }
    for number in range(60)
]
SFT = "kind: sft\nmodel: {tmp}/model\noutput: {tmp}/out\nworkers: 1\nsources:\n"
PRETRAIN = SFT.replace("sft", "pretrain")
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet(rows: list[dict], **options) -> bytes:
    return parquet_of(pa.Table.from_pylist(rows), **options)


def arrow(rows: list[dict], make=pa.ipc.new_stream, size: int = 7, **options) -> bytes:
    return arrow_of(pa.Table.from_pylist(rows), make, size, **options)


def arrow_of(table: pa.Table, make=pa.ipc.new_stream, size: int = 7, **options) -> bytes:
    sink = io.BytesIO()
    with make(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, size)
    return sink.getvalue()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def parquet_of(table: pa.Table, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def batches_of(path: Path, layout: str = "jsonl", max_bytes: int = 1 << 20) -> Iterator[Batch]:
    """The batches of one file, and what it was."""
    source = Source(str(path), layout, "text", None)
    described: list[dict] = []
    given = InputFile(source, path, recognise(path, layout))
    yield from read_batches([given], max_bytes, described)
    assert len(described) == 1


def rows_of(path: Path, layout: str = "jsonl", max_bytes: int = 1 << 20) -> list:
    """Number and record, or reason and detail, of each row."""
    return [
        (number, json.loads(data) if isinstance(data, bytes) else (data.reason, data.detail))
        for batch in batches_of(path, layout, max_bytes)
        for number, data in batch.records
    ]
