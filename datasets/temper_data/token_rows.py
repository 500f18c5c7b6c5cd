# SPDX-License-Identifier: Apache-2.0
"""Rows of new tokens in the matrices of a safetensors file; every other byte stays as it is."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from .errors import DataError
from .gguf_weights import to_bfloat16

STORED = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
CHUNK_ROWS = 4096  # read at once; arbitrary
CHUNK_BYTES = 1 << 24  # copied at once; arbitrary


@dataclass(frozen=True)
class Growth:
    """Which rows a matrix gets, the same for the embedding and a head of its own."""

    start: int  # the first row that is written
    total: int  # rows afterwards, no fewer than before
    pieces: dict[int, list[int]]  # the rows whose mean each new token's row becomes, by its id


def read_header(path: Path) -> tuple[dict, int]:
    """What a safetensors file says of its tensors, and where their bytes begin.

    Raises DataError where the file is damaged.
    """
    try:
        with safe_open(path, "numpy"):  # Looks for holes, overlaps and a missing end.
            pass
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return json.loads(file.read(size)), 8 + size
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{path}: {error}", "copy the model folder again") from error


def read_entry(path: Path, name: str) -> dict:
    """What the file says of one matrix: dtype, shape, data_offsets. Raises DataError."""
    entry = read_header(path)[0].get(name)
    if not entry or not entry["shape"]:
        raise DataError(f"{path} has no matrix {name}", "copy the model folder again")
    return entry


def to_float32(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def mean_of_all(matrix: np.ndarray, dtype: str) -> np.ndarray:
    """The mean of all rows, added up in fp64. Shapes: matrix [rows, width], result [width]."""
    total = np.zeros(matrix.shape[1])
    for begin in range(0, len(matrix), CHUNK_ROWS):
        total += to_float32(matrix[begin : begin + CHUNK_ROWS], dtype).sum(0, dtype=np.float64)
    return (total / len(matrix)).astype(np.float32)


def new_rows(path: Path, name: str, growth: Growth) -> np.ndarray:
    """Rows [growth.start, the last that is written) as they are stored.

    A new token has the mean of its pieces' rows, in fp32, rounded once; any other the mean of all.
    Raises DataError.
    """
    header, begin = read_header(path)
    dtype, shape = header[name]["dtype"], header[name]["shape"]
    if dtype not in STORED:
        raise DataError(
            f"{path}: {name} is stored as {dtype}; wanted {', '.join(STORED)}",
            "name a folder whose weights are not quantised",
        )
    rows = (shape[0], math.prod(shape[1:]))
    offset = begin + header[name]["data_offsets"][0]
    matrix = np.memmap(path, STORED[dtype], "r", offset, rows)
    end = growth.total if growth.total > rows[0] else max(growth.pieces) + 1
    values = np.empty((end - growth.start, rows[1]), np.float32)
    if len(values) > len(growth.pieces):
        values[:] = mean_of_all(matrix, dtype)
    for index, pieces in growth.pieces.items():
        values[index - growth.start] = to_float32(matrix[pieces], dtype).mean(0)
    if not np.isfinite(values).all():
        raise DataError(
            f"{path}: {name} has NaN or Inf in rows that new tokens begin from",
            "copy the model folder again, or take a checkpoint from before it diverged",
        )
    return to_bfloat16(values) if dtype == "BF16" else values.astype(STORED[dtype])


def copy_bytes(source, destination, begin: int, end: int) -> None:
    source.seek(begin)
    while begin < end:
        data = source.read(min(CHUNK_BYTES, end - begin))
        if not data:
            raise DataError(f"{source.name} became shorter meanwhile", "run it again")
        destination.write(data)
        begin += len(data)


def write_with_rows(source: Path, destination: Path, names: set[str], growth: Growth) -> None:
    """Writes `source` with the new rows of matrices `names`. Raises DataError and OSError."""
    header, data = read_header(source)
    metadata = {key: header.pop(key) for key in ("__metadata__",) if key in header}
    order = sorted(header, key=lambda name: header[name]["data_offsets"])
    written, position = metadata, 0
    for name in order:
        entry = header[name]
        size = entry["data_offsets"][1] - entry["data_offsets"][0]
        if name in names:
            rows, *rest = entry["shape"]
            size = size // rows * growth.total
            entry = entry | {"shape": [growth.total, *rest]}
        written[name] = entry | {"data_offsets": [position, position + size]}
        position += size
    text = json.dumps(written, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # So that tensors are aligned, as the library has them.
    with open(source, "rb") as old, open(destination, "xb") as new:
        new.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            begin, end = (data + offset for offset in header[name]["data_offsets"])
            if name in names:
                values = new_rows(source, name, growth).tobytes()
                kept = begin + (end - begin) // header[name]["shape"][0] * growth.start
                copy_bytes(old, new, begin, kept)
                new.write(values)
                begin = kept + len(values)
            copy_bytes(old, new, begin, end)
