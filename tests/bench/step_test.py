# SPDX-License-Identifier: Apache-2.0
"""Runs step, save and experts on tiny models: each system does the same step and is reported."""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "app"))

import tiny_run  # noqa: E402

KEYS = {
    "system", "ranks", "threads", "method", "dtype", "tokens_per_step", "tokens_per_second",
    "share_of_limit", "peak_rss_gb_per_rank",
}  # fmt: skip
LAYOUTS = {
    ("matrix products", 1, 2), ("matrix products", 2, 1), ("temper", 1, 2), ("temper", 2, 1),
    ("transformers", 1, 2), ("FSDP2", 2, 1),
}  # fmt: skip


def run_step(folder: Path, **changes: str) -> subprocess.CompletedProcess:
    options = {
        "model": folder / "model", "shard": folder / "train.h5", "output": folder / "step.json",
        "binary": os.environ["TEMPER_BINARY"], "rows": 2, "row-tokens": 32, "steps": 2,
        "rounds": 1, "systems": "limit,temper,transformers,fsdp2", **changes,
    }  # fmt: skip
    command = [ROOT / "tests/bench/step", *(f"--{key}={value}" for key, value in options.items())]
    return subprocess.run(command, capture_output=True, text=True)


def check_save(folder: Path) -> None:
    options = {
        "model": folder / "model", "shard": folder / "train.h5", "output": folder / "save.json",
        "binary": os.environ["TEMPER_BINARY"], "row-tokens": 32, "steps": 3, "rounds": 1,
        "dtype": "float32",
    }  # fmt: skip
    command = [ROOT / "tests/bench/save", *(f"--{key}={value}" for key, value in options.items())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    records = json.loads((folder / "save.json").read_text())
    assert [(record["ranks"], record["threads"]) for record in records] == [(1, 2), (2, 1)]
    weights = sum(math.prod(shape) for shape in tiny_run.weight_shapes().values())
    for record in records:
        assert record["bytes"] > 3 * 4 * weights, (record, weights)
        assert record["last_of_dd"] > 0 and record["beside_seconds"] > 0, record
        assert record["loss_of_speed"] < 1, record


def check_experts(folder: Path) -> None:
    options = {
        "model": folder / "model", "shard": folder / "train.h5", "output": folder / "experts.json",
        "binary": os.environ["TEMPER_BINARY"], "row-tokens": 32, "steps": 1, "rounds": 1,
        "dtype": "float32", "experts": 4, "chosen": 2, "width": 16, "hidden": 32, "layers": 1,
    }  # fmt: skip
    command = [ROOT / "tests/bench/experts", *(f"--{key}={one}" for key, one in options.items())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    records = json.loads((folder / "experts.json").read_text())
    systems = ["temper, dense", "temper, experts", "transformers, experts"]
    assert [record["system"] for record in records] == systems, records
    assert records[0]["times_first"] == 1 and len(records[1]["first_losses"]) == 2, records


def check_records(records: list[dict]) -> None:
    layouts = {(record["system"], record["ranks"], record["threads"]) for record in records}
    assert layouts == LAYOUTS, layouts
    for record in records:
        assert KEYS <= set(record), record
        assert record["tokens_per_step"] == 64 and record["dtype"] == "float32", record
        assert record["tokens_per_second"] > 0 and record["share_of_limit"] > 0, record
        assert 0 < record["peak_rss_gb_per_rank"] < 4, record


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_run.write_model(folder / "model")
        tiny_run.write_shard(folder / "train.h5")
        done = run_step(folder, dtype="float32")
        assert done.returncode == 0, done.stdout + done.stderr
        check_records(json.loads((folder / "step.json").read_text()))
        check_save(folder)
        check_experts(folder)
        missing = run_step(folder, systems="temper", binary=folder / "none")
        assert missing.returncode == 1, missing.stdout + missing.stderr


if __name__ == "__main__":
    main()
