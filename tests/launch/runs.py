# SPDX-License-Identifier: Apache-2.0
"""Folders of runs as the program leaves them, written by hand, and the launch scripts on them."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in ("launch", "datasets", "tests/datasets", "tests/app"):
    sys.path.insert(0, str(ROOT / folder))

CONFIG = """\
run:
  folder: "{folder}"
method: full
data:
  train:
  - path: "train.h5"
    epochs: 1
  holdout:
  - name: "answers"
    role: task
  - name: "general"
    role: general
train:
  max_steps: {steps}
  max_grad_norm: 1
optimizer:
  learning_rate: {rate}
checkpoint:
  every_steps: 10
"""


SOURCES = ["books.h5", "code/*.h5"]


def loss_at(step: int) -> float:
    return 3.0 / (1.0 + 0.1 * step) + (0.3 if step % 2 else 0.0)


def step_line(step: int, **others) -> dict:
    line = {
        "kind": "step", "step": step, "loss": loss_at(step), "grad_norm": 1.0 + 100.0 / step,
        "learning_rate": 1e-4 / step, "num_targets": 1000 + step, "updated": True, "seconds": 0.5,
        "data_seconds": 0.001, "tokens_per_second": 2048.0, "limit_share": 0.6,
        "source_losses": [loss_at(step) + 0.5, None if step == 3 else loss_at(step) - 0.5],
        "source_targets": [600, 400 + step], "document_lengths": [0, 3, 5],
    }  # fmt: skip
    return line | others


def evaluation_line(step: int, name: str, loss: float, **others) -> dict:
    return {"kind": "evaluation", "step": step, "name": name, "loss": loss, "perplexity": 2.0,
            "num_targets": 100} | others  # fmt: skip


def samples_line(step: int, ids: list[int]) -> dict:
    sample = {"id": "greeting", "prompt": [1, 22], "answers": [{"ids": ids, "end": "stop"}]}
    return {"kind": "samples", "step": step, "samples": [sample]}


def write_run(folder: Path, steps: int = 40, rate: str = "1e-04", last: int | None = None) -> Path:
    """A run of so many steps, of which `last` are done, with a checkpoint of the newest tenth."""
    done = steps if last is None else last
    lines = [{"kind": "run", "step": 0, "max_steps": steps, "sources": SOURCES}]
    lines += [evaluation_line(0, "answers", 3.5), evaluation_line(0, "general", 2.0)]
    lines += [samples_line(0, [5, 6]), samples_line(done, [7])]
    lines += [step_line(step) for step in range(1, done + 1)]
    if done == steps:
        lines += [evaluation_line(steps, "answers", 2.5),
                  evaluation_line(steps, "general", 2.25, forgetting=0.25)]  # fmt: skip
        (folder / "final").mkdir(parents=True)
    write_lines(folder / "metrics.jsonl", lines)
    if done >= 10:
        write_checkpoint(folder, done // 10 * 10, steps, rate)
    return folder


def write_checkpoint(folder: Path, step: int, steps: int, rate: str) -> None:
    """What tells of the run in it."""
    checkpoint = folder / "checkpoints" / f"step-{step:08}"
    checkpoint.mkdir(parents=True)
    decided = f"model={'ab' * 32}\nmodel.dtype=float32\ndata.train[0]={'cd' * 32}\nsteps={steps}\n"
    state = {"step": step, "trajectory": "ef" * 32, "decided_by": decided,
             "config_yaml": CONFIG.format(folder=folder, steps=steps, rate=rate)}  # fmt: skip
    (checkpoint / "state.json").write_text(json.dumps(state))
    shard = {"path": "train.h5", "kind": "sft", "fingerprint": "cd" * 32, "num_documents": 7,
             "num_tokens": 70, "num_targets": 35}  # fmt: skip
    manifest = {"step": step, "world_size": 2, "model_dtype": "BF16", "data": {"shards": [shard]}}
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))


def write_lines(path: Path, lines: list) -> None:
    """Objects as JSON, texts as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(text + "\n" for text in texts))


def launch(name: str, *arguments, **options) -> subprocess.CompletedProcess:
    """A script of launch/, as a person runs it."""
    command = [ROOT / "launch" / name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def environment(**changed: str) -> dict[str, str]:
    return os.environ | changed
