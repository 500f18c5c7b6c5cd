# SPDX-License-Identifier: Apache-2.0
"""Torn, cut and changing files: each is refused in words that name the place."""

import errno
import gzip
import io
import json
import lzma
import os
import random

import pyarrow as pa
import pytest
from conftest import run_here, write_model
from source_files import PRETRAIN, ROWS, arrow, batches_of, parquet, parquet_of, rows_of, zstd

from temper_data import column_reader, source_file
from temper_data.compression import PACKINGS, Unpacker
from temper_data.errors import DataError

PARTS = [b"abc" * 40, b"", "".join(map(str, range(999))).encode()]
PACK = {"gzip": gzip.compress, "xz": lzma.compress, "zstd": zstd}


def unpack(name: str, data: bytes) -> bytes:
    return io.BufferedReader(Unpacker(io.BytesIO(data), PACKINGS[name], "f")).read()


@pytest.mark.parametrize("name", PACK)
def test_packed_files_are_read_whole_or_refused(name):
    packed = [PACK[name](part) for part in PARTS]
    whole = b"".join(packed)
    assert unpack(name, whole) == b"".join(PARTS)
    borders = {sum(map(len, packed[:n])): b"".join(PARTS[:n]) for n in range(4)}
    chance = random.Random(1)
    for cut in range(1, len(whole) + 1):
        if cut in borders:
            assert unpack(name, whole[:cut]) == borders[cut]
            continue
        with pytest.raises(DataError, match=f"f is a damaged {name} file: it ends inside"):
            unpack(name, whole[:cut])
    unnoticed = 0
    for _ in range(300):
        torn = bytearray(whole)
        torn[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        try:
            assert unpack(name, bytes(torn)) == b"".join(PARTS)
            unnoticed += 1  # Such as the time in the header of gzip.
        except DataError as error:
            assert "\n  try: " in f"{error}"
    assert unnoticed < 30
    for rest in (b"garbage", b"\0\0\0x", b"\x1f", b"\0" * (3 if name != "gzip" else 0) + b"PK"):
        with pytest.raises(DataError, match=f"(behind|inside) {PACKINGS[name].part} [34]; before"):
            unpack(name, whole + rest)


@pytest.mark.parametrize("name", PACK)
def test_a_line_of_100_mb_in_a_packed_file_costs_no_memory(tmp_path, name):
    piece, count = b"y" * (1 << 20), 100
    path = tmp_path / "a.jsonl.packed"
    if name == "zstd":
        path.write_bytes(zstd(piece * count + b'\n{"a": 1}\n'))
    else:
        opened = lzma.open(path, "wb", preset=0) if name == "xz" else gzip.open(path, "wb", 1)
        with opened as file:
            file.writelines([piece] * count + [b'\n{"a": 1}\n'])
    first, second = rows_of(path)
    assert first[1][0] == "record too large" and second == (2, {"a": 1})


TEXTS = [{"text": f"text {number} " * 20} for number in range(30)]
CHECKED = {"row_group_size": 10, "write_page_checksum": True, "compression": "none"}


def torn_page() -> bytes:
    data = bytearray(parquet(TEXTS, **CHECKED))
    data[data.index(b"text 15 ")] ^= 1
    return bytes(data)


def torn_footer() -> bytes:
    data = parquet(TEXTS)
    return data[:-60] + bytes(20) + data[-40:]


def torn_stream() -> bytes:
    data = bytearray(arrow(TEXTS, size=10))
    third = [n for n in range(len(data)) if data.startswith(b"\xff\xff\xff\xff", n)][3]
    return bytes(data[:third] + data[third + 400 :])


def double_name() -> bytes:
    return parquet_of(pa.Table.from_arrays([pa.array(["x"])] * 2, names=["text", "text"]))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (torn_page, "row group 2 of 3, behind row 10 is damaged: .*[Cc]hecksum|CRC"),
        (torn_footer, "its footer is damaged"),
        (lambda: parquet(TEXTS)[:-9] + b"PAR1", "its footer is damaged"),
        (lambda: parquet(TEXTS)[:-1], "is a Parquet file without its end: it was cut off"),
        (torn_stream, "record batch 3, behind row 20 is damaged"),
        (lambda: arrow(TEXTS)[:-8], "is an Arrow stream without its end: it was cut off"),
        (lambda: arrow(TEXTS) + arrow(TEXTS), "bytes stand behind the end of its stream"),
        (lambda: arrow(TEXTS, pa.ipc.new_file)[:-1], "is an Arrow file without its end"),
        (double_name, "has several columns named text"),
    ],
)
def test_a_torn_file_of_columns_is_named_with_its_place(tmp_path, data, says):
    write_model(tmp_path / "model")
    (tmp_path / "a.bin").write_bytes(data())
    with pytest.raises(DataError, match=says) as caught:
        run_here(tmp_path, PRETRAIN + "  - path: {tmp}/a.bin\n")
    assert f"{tmp_path}/a.bin" in f"{caught.value}" and "\n  try: " in f"{caught.value}"
    assert not list((tmp_path / "out").glob("*.h5"))


def test_any_damage_is_refused_in_words_or_costs_rows(tmp_path):
    """Arrow has no checksums: where offsets point must be looked at before they are followed."""
    kinds = [arrow(ROWS, size=20), arrow(ROWS, pa.ipc.new_file), parquet(ROWS, compression="none")]
    chance, outcomes = random.Random(3), {"refused": 0, "read": 0}
    for number in range(60):
        data = bytearray(chance.choice(kinds))
        for _ in range(chance.choice([1, 3])):
            data[chance.randrange(8, len(data) - 8)] = chance.choice([0, 0x7F, 0xFF, 1])
        path = tmp_path / f"{number}"
        path.write_bytes(data)
        try:
            rows_of(path)
            outcomes["read"] += 1
        except DataError as error:
            assert str(path) in f"{error}" and "Error:" not in error.problem, f"{number}: {error}"
            outcomes["refused"] += 1
        path.unlink()
    assert min(outcomes.values()) > 8, outcomes


class FailingFile(io.FileIO):
    """A file on a disk that fails behind its first 20 kB."""

    def read(self, size=-1):
        self.check()
        return super().read(size)

    def readinto(self, buffer):
        self.check()
        return super().readinto(buffer)

    def check(self) -> None:
        if self.tell() > 20_000 and self.tell() < os.fstat(self.fileno()).st_size - 70_000:
            raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_disk_that_fails_is_named(tmp_path, monkeypatch, name):
    lines = "".join(json.dumps({"text": os.urandom(500).hex()}) + "\n" for _ in range(3000))
    rows = [json.loads(line) for line in lines.splitlines()]
    (tmp_path / name).write_bytes(lines.encode() if name == "a.jsonl" else parquet(rows))
    assert len(rows_of(tmp_path / name)) == 3000
    for module in (column_reader, source_file):
        monkeypatch.setattr(module, "open", lambda path, *_, **__: FailingFile(path), raising=False)
    with pytest.raises(DataError, match=f"{name}.*Input/output error"):
        rows_of(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow"])
def test_files_that_change_meanwhile_are_noticed(tmp_path, name):
    rows = [{"text": f"{number} " * 100} for number in range(9000)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    data = {"a.jsonl": lines, "a.parquet": parquet(rows), "a.arrow": arrow(rows, size=1000)}[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=f"{name} changed while it was read"):
        for number, _ in enumerate(batches_of(tmp_path / name)):
            if number == 0:
                with open(tmp_path / name, "r+b") as file:
                    file.write(data[:4])  # Neither size nor content differ, as far as is known.
    if name == "a.arrow":
        with pytest.raises(DataError, match="the process that reads .*a.arrow.* ended by .*SIGBUS"):
            for _ in batches_of(tmp_path / name):
                os.truncate(tmp_path / name, 5000)
