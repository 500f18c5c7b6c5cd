# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmark on a tiny model, of which nearly all memory is the program's own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "app"))

import tiny_run  # noqa: E402


def run_memory(folder: Path) -> list[dict]:
    options = {
        "model": folder / "model", "shard": folder / "train.h5", "output": folder / "memory.json",
        "binary": os.environ["TEMPER_BINARY"], "methods": "qlora", "lengths": "32",
        "dtype": "float32",
    }  # fmt: skip
    command = [ROOT / "tests/bench/memory", *(f"--{key}={value}" for key, value in options.items())]
    done = subprocess.run([*command, "--recompute"], capture_output=True, text=True)
    assert (folder / "memory.json").exists(), done.stdout + done.stderr
    return json.loads((folder / "memory.json").read_text())


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_run.write_model(folder / "model")
        tiny_run.write_shard(folder / "train.h5")
        records = run_memory(folder)
    keys = ("method", "row_tokens", "recomputes", "ranks", "threads")
    assert len({tuple(record[key] for key in keys) for record in records}) == 6, records
    for record in records:
        assert record["problem"] is None, record
        assert 0.8 < record["expected_to_peak"] < 1.3, record


if __name__ == "__main__":
    main()
