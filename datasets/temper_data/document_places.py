# SPDX-License-Identifier: Apache-2.0
"""Where each document begins, kept on the disk until it is known of which ones that is shown."""

from bisect import bisect_right
from pathlib import Path

import numpy as np

from .atomic_file import temporary_path
from .document_spool import Column
from .documents import Prepared

PLACE = np.dtype([("digest", "<u8"), ("line", "<u8")])
AT_ONCE = 1 << 18  # documents that are looked through in one go: 4 MiB


class DocumentPlaces:
    """Takes all documents in their order, then finds some by their digests.

    Disk: 16 bytes per document. Memory: an entry for each file, and that of AT_ONCE.
    """

    def __init__(self, folder: Path):
        self._column = Column(temporary_path(folder / "train.h5", "places"), PLACE)
        self._files: list[str] = []
        self._begins: list[int] = []  # number of each file's first document
        self._count = 0

    def remove(self) -> None:
        self._column.remove()

    def add(self, prepared: Prepared, chosen: np.ndarray) -> None:
        """Shapes: chosen bool [documents]."""
        rows = np.zeros(int(chosen.sum()), PLACE)
        rows["digest"] = np.array(prepared.digests, np.uint64)[chosen]
        rows["line"] = prepared.lines[chosen]
        if not self._files or self._files[-1] != prepared.file:
            self._files.append(prepared.file)
            self._begins.append(self._count)
        self._column.append(rows)
        self._count += len(rows)

    def find(self, digests: list[int]) -> dict[int, str]:
        """The place of the first document with each of these digests. No document comes after."""
        self._column.finish()
        found: dict[int, str] = {}
        wanted, begin = np.array(digests, np.uint64), 0
        for piece in self._column.pieces(AT_ONCE) if len(wanted) else ():
            for number in np.flatnonzero(np.isin(piece["digest"], wanted)).tolist():
                file = self._files[bisect_right(self._begins, begin + number) - 1]
                found.setdefault(int(piece["digest"][number]), f"{file}{piece['line'][number]}")
            begin += len(piece)
        return found
