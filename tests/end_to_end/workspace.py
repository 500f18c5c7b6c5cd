# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: the real model, a small shard of real text, and temper runs."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ["TEMPER_BINARY"]
FOLDER = Path(os.environ["TEMPER_BUILD_DIR"]) / "end_to_end"
SEQUENCE_LENGTH = 96
NUM_STEPS = 6

CONFIG = """\
run:
  folder: {folder}
model:
  path: {model}
  dtype: float32
data:
  train:
    - path: {shard}
  sequence_length: {sequence_length}
  global_batch: {rows}
  micro_batch: 1
  seed: 7
train:
  max_steps: {num_steps}
  max_grad_norm: 1.0
optimizer:
  learning_rate: 1.0e-4
  weight_decay: 0.01
schedule:
  name: cosine
  warmup_steps: 2
parallel:
  stage: 3
checkpoint:
  every_steps: 2
  keep: 1
"""


def python(script: str, *arguments: str) -> None:
    """Runs one of the project's own scripts."""
    subprocess.run([sys.executable, str(ROOT / script), *arguments], check=True)


def prepare() -> tuple[Path, Path]:
    """The real model as a Hugging Face folder, and a shard of the project's own documents."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = FOLDER / "model"
    python("datasets/fetch_model.py", str(model))
    recipe = FOLDER / "recipe.yaml"
    recipe.write_text(
        f"kind: pretrain\nmodel: {model}\noutput: {FOLDER / 'shards'}\n"
        f"sources:\n  - path: {ROOT / 'LICENSE'}\n  - path: {ROOT / 'CONTRIBUTING.md'}\n"
    )
    python("datasets/prepare.py", str(recipe))
    return model, FOLDER / "shards" / "train.h5"


def write_config(
    name: str, model: Path, shard: Path, length: int = SEQUENCE_LENGTH, rows: int = 6
) -> Path:
    """A configuration whose run folder is fresh, for rows of so many tokens, so many a step."""
    run_folder = FOLDER / name
    shutil.rmtree(run_folder, ignore_errors=True)
    path = FOLDER / f"{name}.yaml"
    path.write_text(
        CONFIG.format(
            folder=run_folder,
            model=model,
            shard=shard,
            sequence_length=length,
            rows=rows,
            num_steps=NUM_STEPS,
        )
    )
    return path


def start(ranks: int, verb: str, config: Path, *overrides: str) -> subprocess.Popen:
    """Starts temper in a process group of its own, so that all of it can be killed at once."""
    command = ["mpirun", "-n", str(ranks), BINARY, verb, str(config), *overrides]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True)


def run(ranks: int, verb: str, config: Path, *overrides: str) -> None:
    """Runs temper to its end. Raises RuntimeError unless it ends well."""
    code = start(ranks, verb, config, *overrides).wait(timeout=600)
    if code != 0:
        raise RuntimeError(f"temper {verb} {config} ended with {code}")


def output(ranks: int, verb: str, *arguments) -> str:
    """What temper prints. Raises CalledProcessError unless it ends well."""
    command = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    return subprocess.run(
        [*command, BINARY, verb, *map(str, arguments)],
        stdout=subprocess.PIPE, check=True, text=True, timeout=600,
    ).stdout  # fmt: skip


def run_folder(config: Path) -> Path:
    """Where the run of `<name>.yaml` puts its results: `<name>` beside it."""
    return config.with_suffix("")


def step_lines(config: Path) -> list[dict]:
    """The steps in the run's metrics, in the order of the file."""
    path = run_folder(config) / "metrics.jsonl"
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return [line for line in lines if line["kind"] == "step"]


def wait_for_checkpoint(config: Path, step: int) -> None:
    """Returns as soon as the checkpoint of `step` is published."""
    folder = run_folder(config) / "checkpoints" / f"step-{step:08d}"
    deadline = time.monotonic() + 300
    while not (folder / "MANIFEST.json").exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {folder} after 300 s")
        time.sleep(0.01)
