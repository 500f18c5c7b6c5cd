# SPDX-License-Identifier: Apache-2.0
"""The shard of one split, in one file or cut into several, and the names of such files."""

import re
from collections import Counter
from pathlib import Path

import numpy as np

from .atomic_file import Publication
from .errors import DataError
from .shard_writer import ShardIdentity, ShardWriter

SHARD_NAME = re.compile(r"(train|holdout)(-\d{5}-of-\d{5})?\.h5")
MAX_PARTS = 99999  # what five digits can say


class ShardSet:
    """Takes the documents of a split in their order, then publishes its files.

    Use as a context manager: leaving it removes the temporary files. Where a part ends depends on
    the lengths of the documents alone.
    """

    def __init__(self, folder: Path, name: str, identity: ShardIdentity, most_tokens: int):
        self.folder, self.name, self.identity = folder, name, identity
        self.most_tokens = most_tokens  # of a part, unless one document has more; 0: one file
        self.parts: list[ShardWriter] = []

    def __enter__(self) -> "ShardSet":
        self._begin_part()
        return self

    def __exit__(self, *_) -> None:
        for part in self.parts:
            part.remove()

    @property
    def num_documents(self) -> int:
        return sum(part.num_documents for part in self.parts)

    def append(self, tokens: np.ndarray, lengths: np.ndarray, mask: np.ndarray | None) -> None:
        """Adds documents that lie end to end. Shapes: as ShardWriter.append."""
        ends = np.cumsum(lengths, dtype=np.int64)
        first = begin = 0
        while first < len(lengths):
            last = first + self._fitting(ends[first:] - begin)
            end = int(ends[last - 1])
            part = None if mask is None else mask[begin:end]
            self.parts[-1].append(tokens[begin:end], lengths[first:last], part)
            first, begin = last, end

    def _fitting(self, ends: np.ndarray) -> int:
        """How many of the next documents the last part takes, after a new one has begun if none.

        Shapes: ends [documents], of which there is at least one.
        """
        if not self.most_tokens:
            return len(ends)
        room = self.most_tokens - self.parts[-1].num_tokens
        fitting = int(np.searchsorted(ends, room, "right"))
        if not fitting and self.parts[-1].num_documents:
            self.parts[-1].finish()
            self._begin_part()
            fitting = int(np.searchsorted(ends, self.most_tokens, "right"))
        return max(1, fitting)

    def _begin_part(self) -> None:
        if len(self.parts) == MAX_PARTS:
            problem = f"{self.name} would have more than {MAX_PARTS} files"
            raise DataError(problem, "raise shard_tokens")
        name = f"{self.name}-{len(self.parts):05}" if self.most_tokens else self.name
        self.parts.append(ShardWriter(self.folder / f"{name}.h5", self.identity))

    def length_counts(self) -> Counter[int]:
        """Documents by how many tokens they have."""
        return sum((part.length_counts for part in self.parts), Counter())

    def file_names(self) -> list[str]:
        """The names under which the parts are published."""
        if not self.most_tokens:
            return [f"{self.name}.h5"]
        count = len(self.parts)
        return [f"{self.name}-{number:05}-of-{count:05}.h5" for number in range(count)]

    def write(self, publication: Publication, origin: str, turn_end: int | None) -> list[dict]:
        """Writes the files, to be published with others, and says what each one holds."""
        written = []
        for part, name in zip(self.parts, self.file_names(), strict=True):
            temporary = publication.add(self.folder / name)
            entry = {
                "file": name,
                "fingerprint": part.write(temporary, origin, turn_end),
                "bytes": temporary.stat().st_size,
                "documents": part.num_documents,
                "tokens": part.num_tokens,
                "targets": part.num_targets,
            }
            written.append(entry)
            part.remove()  # So that the disk needs room for one part twice, not for all of them.
        return written


def existing_shards(folder: Path) -> list[str]:
    """Names of all shards in an output folder, whoever made them."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(filter(SHARD_NAME.fullmatch, names), reverse=True)


def describe_set(files: list[dict], is_cut: bool) -> dict:
    """What the report says of a split's files; `file` of several is the pattern to read them by."""
    if not is_cut:
        return files[0]
    sums = {key: sum(f[key] for f in files) for key in ("bytes", "documents", "tokens", "targets")}
    return {"file": files[0]["file"].split("-")[0] + "-*.h5", **sums, "parts": files}


def files_of(shard: dict) -> list[dict]:
    """The entries of a split's files, from what the report says of the split."""
    return shard["parts"] if "parts" in shard else [shard]
