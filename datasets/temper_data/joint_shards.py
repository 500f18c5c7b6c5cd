# SPDX-License-Identifier: Apache-2.0
"""One or more shards that are looked at as one, whose documents are numbered through."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from .errors import DataError
from .shard_file import ShardFile

SHARED = ("kind", "vocab_size", "tokenizer_sha256", "chat_template_sha256")


class JointShards:
    """Shards in the order given. One is open at a time, so that any number will do."""

    def __init__(self, paths: list[Path]):
        self.paths = paths
        self.headers: list[dict] = []
        for path in paths:
            with ShardFile(path) as shard:
                self.headers.append(shard.attributes)
        for path, header in zip(paths, self.headers, strict=True):
            for name in SHARED:
                if header[name] != self.headers[0][name]:
                    raise DataError(
                        f"{path} and {paths[0]} do not belong together: their {name} differs",
                        "name the shards of one preparation, or each alone",
                    )
        self._ends = list(accumulate(header["num_documents"] for header in self.headers))
        self._open: ShardFile | None = None

    def __enter__(self) -> "JointShards":
        return self

    def __exit__(self, *_) -> None:
        if self._open:
            self._open.close()

    @property
    def header(self) -> dict:
        """What all shards have in common."""
        return self.headers[0]

    @property
    def num_documents(self) -> int:
        return self._ends[-1]

    def total(self, name: str) -> int:
        """The sum of an attribute."""
        return sum(header[name] for header in self.headers)

    def shards(self) -> Iterator[ShardFile]:
        for place in range(len(self.paths)):
            yield self._shard(place)

    def document(self, number: int, first: int = 0, most: int | None = None) -> tuple:
        """Ids and mask of a document's tokens from `first` on, and how many it has altogether."""
        place = bisect_right(self._ends, number)
        begin = self._ends[place - 1] if place else 0
        return self._shard(place).document(number - begin, first, most)

    def _shard(self, place: int) -> ShardFile:
        if not self._open or self._open.path != self.paths[place]:
            if self._open:
                self._open.close()
            self._open = ShardFile(self.paths[place])
        return self._open
