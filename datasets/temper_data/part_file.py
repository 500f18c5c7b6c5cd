# SPDX-License-Identifier: Apache-2.0
"""Prepared batches in a file, for another process to go on with.

A file is a sequence of entries: the length of a JSON text in 8 bytes, its SHA-256, the text, and
the arrays that it describes, with their SHA-256. The last entry has no batch.
"""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .documents import Prepared
from .errors import DataError
from .filters.findings import Findings
from .traces import Traces

LENGTH_BYTES = 8
CLASSES = {kind.__name__: kind for kind in (Prepared, Findings, Traces)}


class PartWriter:
    """Appends entries to an open file."""

    def __init__(self, file: BinaryIO, head: dict):
        self._file = file
        self._write(head, [])

    def add(self, prepared: Prepared) -> None:
        arrays: list[np.ndarray] = []
        self._write(encode(prepared, arrays), arrays)

    def finish(self, sources: list[dict]) -> None:
        self._write({"sources": sources}, [])

    def _write(self, value, arrays: list[np.ndarray]) -> None:
        payload = b"".join(array.tobytes() for array in arrays)
        shapes = [(array.dtype.str, array.shape) for array in arrays]
        digest = hashlib.sha256(payload).hexdigest()
        head = json.dumps({"value": value, "arrays": shapes, "sha256": digest}).encode("ascii")
        length = len(head).to_bytes(LENGTH_BYTES, "little")
        for data in (length, hashlib.sha256(head).digest(), head, payload):
            self._file.write(data)


class PartReader:
    """Reads what PartWriter wrote. Raises DataError for a file that is no longer so."""

    def __init__(self, path: Path):
        self.path = path
        self.sources: list[dict] = []  # the files that were read to their end; known at the end
        with open(path, "rb") as file:
            self.head = self._entry(file)[0]

    def batches(self) -> Iterator[Prepared]:
        with open(self.path, "rb") as file:
            self._entry(file)
            while True:
                value, arrays = self._entry(file)
                if "sources" in value:
                    break
                yield decode(value, arrays)
            if file.read(1):
                raise self._damaged()
        self.sources = value["sources"]

    def _entry(self, file: BinaryIO) -> tuple[dict, list[np.ndarray]]:
        """What an entry says, and its arrays. Nothing is believed before its hash is compared."""
        length = int.from_bytes(self._read(file, LENGTH_BYTES), "little")
        digest = self._read(file, hashlib.sha256().digest_size)
        head = self._read(file, length)
        if hashlib.sha256(head).digest() != digest:
            raise self._damaged()
        entry = json.loads(head)
        arrays, payload = [], hashlib.sha256()
        for dtype, shape in entry["arrays"]:
            data = self._read(file, np.dtype(dtype).itemsize * math.prod(shape))
            payload.update(data)
            arrays.append(np.frombuffer(data, dtype).reshape(shape))
        if payload.hexdigest() != entry["sha256"]:
            raise self._damaged()
        return entry["value"], arrays

    def _read(self, file: BinaryIO, count: int) -> bytes:
        if count > os.fstat(file.fileno()).st_size - file.tell():
            raise self._damaged()
        return file.read(count)

    def _damaged(self) -> DataError:
        return DataError(f"{self.path} is damaged", "remove it, and run this part again")


def encode(value, arrays: list[np.ndarray]):
    """As JSON values, of which all but texts, numbers and None say what they are.

    Arrays are put into `arrays`.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if is_dataclass(value) and type(value).__name__ in CLASSES:
        items = {f.name: encode(getattr(value, f.name), arrays) for f in fields(value)}
        return {"object": type(value).__name__, "fields": items}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [encode(item, arrays) for item in value]}
    if isinstance(value, dict):
        pairs = [[encode(key, arrays), encode(item, arrays)] for key, item in value.items()]
        return {"counter" if isinstance(value, Counter) else "dict": pairs}
    raise TypeError(f"a part cannot hold a {type(value).__name__}")


def decode(value, arrays: list[np.ndarray]):
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "object" in value:
        items = {name: decode(item, arrays) for name, item in value["fields"].items()}
        return CLASSES[value["object"]](**items)
    for kind, sequence in (("list", list), ("tuple", tuple)):
        if kind in value:
            return sequence(decode(item, arrays) for item in value[kind])
    kind, pairs = next(iter(value.items()))
    found = {decode(key, arrays): decode(item, arrays) for key, item in pairs}
    return Counter(found) if kind == "counter" else found
