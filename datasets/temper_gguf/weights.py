# SPDX-License-Identifier: Apache-2.0
"""Tensors of a folder of safetensors files as float32, one at a time."""

import json
import math
from pathlib import Path

import numpy as np
from temper_data.errors import DataError

STORED = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


class Weights:
    """What lies where; nothing is read before it is asked for."""

    def __init__(self, folder: Path, pattern: str = "*.safetensors"):
        """Raises DataError if there are no such files, or one is none."""
        self._places: dict[str, tuple[Path, int, dict]] = {}
        for path in sorted(folder.glob(pattern)):
            header, begin = read_header(path)
            for name, entry in header.items():
                if name != "__metadata__":
                    self._places[name] = path, begin, entry
        if not self._places:
            raise DataError(
                f"{folder} has no weights in {pattern}",
                "name a model or adapter folder, a checkpoint, or a run",
            )

    def names(self) -> list[str]:
        return list(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._places[name][2]["shape"])

    def floats(self, name: str) -> np.ndarray:
        """Raises DataError for a dtype that is no float, or a number that is not finite."""
        path, begin, entry = self._places[name]
        if entry["dtype"] not in STORED:
            raise DataError(
                f"{name} in {path} is {entry['dtype']}",
                "export a folder whose weights are float32, float16 or bfloat16: quantised ones "
                "are not quantised again",
            )
        shape = tuple(entry["shape"])
        stored = np.memmap(path, STORED[entry["dtype"]], "r", begin + entry["data_offsets"][0],
                           math.prod(shape))  # fmt: skip
        if entry["dtype"] == "BF16":
            values = (stored.astype(np.uint32) << 16).view(np.float32)
        else:
            values = stored.astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError(
                f"{name} in {path} has a number that is not finite",
                "export a checkpoint from before the training diverged",
            )
        return values.reshape(shape)


def read_header(path: Path) -> tuple[dict, int]:
    """The header, and where the data begin. Raises DataError."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > path.stat().st_size:
                raise ValueError
            return json.loads(file.read(size)), 8 + size
    except ValueError:
        raise DataError(f"{path} is no safetensors file", "export the folder again") from None
