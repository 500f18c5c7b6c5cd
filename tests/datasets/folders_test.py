# SPDX-License-Identifier: Apache-2.0
"""Folders as sources: what in them is data, what is left out and said, and what is refused."""

import gzip
import json
import os
from pathlib import Path

import conftest
import pytest
from conftest import run_here, write_model
from source_files import PRETRAIN, arrow, parquet, zstd

from temper_data.errors import DataError


def dataset(folder: Path, rows: list[dict], **more) -> Path:
    """A folder as datasets.save_to_disk makes it, in two files."""
    folder.mkdir(parents=True)
    half = len(rows) // 2
    files = {"data-00000-of-00002.arrow": rows[:half], "data-00001-of-00002.arrow": rows[half:]}
    for name, part in files.items():
        (folder / name).write_bytes(arrow(part))
    state = {"_data_files": [{"filename": name} for name in files], "_split": "train"} | more
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text('{"splits": {"train": {}, "test": {}}}')
    return folder


def texts_of(tmp_path, path: str, **overrides) -> tuple[list[str], list[str]]:
    """What is learnt of a source, and the notes on it."""
    out = run_here(tmp_path, PRETRAIN + f"  - path: '{path}'\n", **overrides)
    return conftest.texts_of(tmp_path, out, "train"), conftest.report_of(out)["notes"]


def test_a_folder_of_mixed_files_is_one_source(tmp_path):
    write_model(tmp_path / "model")
    folder = tmp_path / "stuff"
    dataset(folder / "saved", [{"text": "s1"}, {"text": "s2"}, {"text": "s3"}])
    (folder / "saved" / "cache-1234.arrow").write_bytes(arrow([{"text": "derived"}]))
    files = {
        "README.md": b"about", "b/README.md": b"real", "b/a.TXT.gz": gzip.compress(b"text"),
        "c.parquet": parquet([{"text": "c1"}]), "b/b.jsonl.zst": zstd(b'{"text": "b1"}\n'),
        "b/table.csv": b"a,b", ".git/x.txt": b"hidden", "_logs/x.txt": b"hidden", "b/.x.txt": b"x",
        "cache/dataset_info.json": b"{}", "cache/d-train.arrow": arrow([{"text": "d"}]),
        "cache/cache-12.arrow": arrow([{"text": "derived"}]),
    }  # fmt: skip
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    os.symlink(folder, folder / "b" / "round")
    found, notes = texts_of(tmp_path, f"{folder}/", deduplicate="false")
    assert found == ["real", "text", "b1", "c1", "d", "s1", "s2", "s3"]
    left_out = "README.md, b/table.csv, cache/cache-12.arrow, saved/cache-1234.arrow"
    assert notes == [f"left out of {folder}/, by their names: {left_out}"]
    (folder / "b" / "round").unlink()
    text, _ = texts_of(tmp_path, f"{folder}/b'\n    format: 'text", output=tmp_path / "t")
    assert text == ["real", "text"]
    rows, _ = texts_of(tmp_path, f"{folder}/b'\n    format: 'jsonl", output=tmp_path / "r")
    assert rows == ["b1"]
    globbed, _ = texts_of(tmp_path, f"{folder}/saved/[ds]*", output=tmp_path / "g")
    assert globbed == ["s1", "s2", "s3"]


def test_a_dataset_of_several_splits_is_not_mixed(tmp_path):
    write_model(tmp_path / "model")
    folder = tmp_path / "set"
    for split in ("train", "test"):
        dataset(folder / split, [{"text": split}] * 2)
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match="several splits: train, test\n  try: .*set/train"):
        texts_of(tmp_path, folder)
    assert texts_of(tmp_path, folder / "train")[0] == ["train"]
    (folder / "train" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match="lacks data-00001-of-00002.arrow, which its state.json"):
        texts_of(tmp_path, folder / "train")
    (folder / "train" / "state.json").unlink()
    with pytest.raises(DataError, match=r"several splits: train, test\n  try: .*train/\*-train\*"):
        texts_of(tmp_path, folder / "train")
    (tmp_path / "lake" / "_delta_log").mkdir(parents=True)
    with pytest.raises(DataError, match="is a Delta table"):
        texts_of(tmp_path, tmp_path / "lake")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none holds no data file"):
        texts_of(tmp_path, tmp_path / "none")
