# SPDX-License-Identifier: Apache-2.0
"""Drops near copies from a file of texts with datatrove's MinHash, on this node.

    minhash.py <file> <processes> <output>

The four steps with datatrove's own numbers (14 buckets of 8 hashes, runs of 5 words). Words are
what white space parts, which costs less than spaCy, its default for English. Prints a line of JSON:
seconds without imports, by the clock and of all processors, and how many texts are left.
"""

import json
import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature,
)  # fmt: skip
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.logging import logger
from datatrove.utils.word_tokenizers import WordTokenizer

from stopwatch import Stopwatch

file, processes, output = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
CONFIG = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)


class Spaces(WordTokenizer):
    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


def share_out(parts: Path) -> None:
    """A file for each process, since each reads whole files."""
    parts.mkdir(parents=True)
    lines = file.read_bytes().splitlines(keepends=True)
    for number in range(processes):
        (parts / f"{number:03}.jsonl").write_bytes(b"".join(lines[number::processes]))


def run(tasks: int, *pipeline) -> None:
    workers = min(tasks, processes)
    LocalPipelineExecutor(list(pipeline), tasks, workers, str(output / "logs"), start_method="fork",
                          skip_completed=False).run()  # fmt: skip


def main() -> None:
    logger.remove()
    share_out(output / "parts")
    reader = JsonlReader(str(output / "parts"), text_key="text")
    signatures, buckets, remove, kept = (
        str(output / name) for name in ("signatures", "buckets", "remove", "kept")
    )
    watch = Stopwatch()
    run(processes, reader, MinhashDedupSignature(signatures, CONFIG, Spaces()))
    run(CONFIG.num_buckets, MinhashDedupBuckets(signatures, buckets, config=CONFIG))
    run(1, MinhashDedupCluster(buckets, remove, config=CONFIG))
    run(processes, reader, MinhashDedupFilter(remove), JsonlWriter(kept, compression=None))
    times = watch.read()
    left = sum(path.read_bytes().count(b"\n") for path in Path(kept).glob("*.jsonl"))
    print(json.dumps(times | {"documents": left}))


if __name__ == "__main__":
    main()
