# SPDX-License-Identifier: Apache-2.0
"""Runs generate on a tiny model: both systems must give the same answers and be reported."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "app"))

import tiny_run  # noqa: E402


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = {
            "model": tiny_run.write_model(folder / "model"), "output": folder / "generate.json",
            "binary": os.environ["TEMPER_BINARY"], "dtypes": "float32", "batches": "1,3",
            "prompt-tokens": 9, "new-tokens": 20, "threads": 1, "rounds": 1,
        }  # fmt: skip
        words = [f"--{key}={value}" for key, value in options.items()]
        done = subprocess.run(
            [ROOT / "tests/bench/generate", *words], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        records = json.loads((folder / "generate.json").read_text())
        found = [(record["system"], record["batch"]) for record in records]
        assert found == [(system, b) for b in (1, 3) for system in ("temper", "transformers")]
        for record in records:
            assert record["tokens_per_second"] > 0 and record["cpu_ms_per_token"] >= 0, record


if __name__ == "__main__":
    main()
