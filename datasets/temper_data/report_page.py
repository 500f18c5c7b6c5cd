# SPDX-License-Identifier: Apache-2.0
"""Writes the page of a preparation beside its shards, from these and report.json alone."""

from pathlib import Path

from .atomic_file import write_text
from .joint_shards import JointShards
from .model_tokenizer import ModelTokenizer
from .page.collect import collect
from .page.document import make_page
from .shard_set import files_of
from .token_pieces import TokenBytes

PAGE = "report.html"
NUM_SAMPLES = {"train": 24, "holdout": 8}


def settle_page(folder: Path, report: dict, model: ModelTokenizer, wanted: bool) -> None:
    """Leaves a page in the folder if one is wanted. One that is there is of this very report,
    since each run removes it first."""
    if not wanted:
        (folder / PAGE).unlink(missing_ok=True)
    elif not (folder / PAGE).is_file():
        write_page(folder, report, model)


def write_page(folder: Path, report: dict, model: ModelTokenizer) -> None:
    """Raises DataError if a shard is not as the report says."""
    vocabulary = TokenBytes(model)
    splits = []
    for name in sorted(report["shards"], reverse=True):  # The training side first.
        paths = [folder / file["file"] for file in files_of(report["shards"][name])]
        with JointShards(paths) as shards:
            splits.append(collect(name, shards, vocabulary, NUM_SAMPLES.get(name, 8)))
    write_text(folder / PAGE, make_page(splits, report))
