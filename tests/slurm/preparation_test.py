# SPDX-License-Identifier: Apache-2.0
"""Data preparation as an array job and its join, by the commands that users read."""

import json
import os
import random
import re
import subprocess
from pathlib import Path

import pytest
from slurm_job import ENDED, PARTITION, ROOT, end_all_jobs, slurm, wait_until
from tokenizers import Tokenizer, models, pre_tokenizers

TASKS, WORDS = 4, 500
RECIPE = """\
kind: pretrain
model: {folder}/model
output: {folder}/shards
eos_token: w0
workers: 1
shard_tokens: 20000
sources:
  - {{path: '{folder}/texts', balance: {{by: topic}}}}
near_duplicates: {{action: drop}}
holdout: {{fraction: 0.1}}
"""
# What of the commands is the reader's own.
OWN = {"--array=0-7": f"--array=0-{TASKS - 1}", "--cpus-per-task=16": "--cpus-per-task=1"}


def commands(recipe: Path) -> str:
    """As datasets/README.md has them."""
    text = (ROOT / "datasets" / "README.md").read_text()
    (found,) = re.findall(r"```\n(parts=\$\(sbatch.*?)```", text, re.DOTALL)
    for theirs, ours in {**OWN, "RECIPE": str(recipe)}.items():
        assert theirs in found, found
        found = found.replace(theirs, ours)
    return found


def write_inputs(folder: Path) -> Path:
    """A tokenizer of words, files of which one is shared by several tasks, and the recipe."""
    words = {f"w{number}": number for number in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words | {"?": WORDS}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    for name in ("model", "texts"):
        (folder / name).mkdir()
    tokenizer.save(str(folder / "model" / "tokenizer.json"))
    (folder / "model" / "tokenizer_config.json").write_text("{}")
    chance = random.Random(4)
    for name, count in (("a.jsonl", 500), ("b.jsonl", 30000)):
        with open(folder / "texts" / name, "w") as file:
            for number in range(count):
                text = " ".join(chance.choices(list(words)[1:], k=chance.randint(5, 40)))
                row = {"text": text, "topic": f"topic {min(number % 9, 3)}"}
                file.write(json.dumps(row) + "\n")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(folder=folder))
    return recipe


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def no_job_stays():
    yield
    end_all_jobs()


def test_an_array_job_and_its_join_make_the_bytes_of_one_process(tmp_path):
    recipe = write_inputs(tmp_path)
    path = f"{Path(os.environ['TEMPER_DATA_PYTHON']).parent}:{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": path, "SBATCH_PARTITION": PARTITION, "SBATCH_OUTPUT": f"{tmp_path}/job-%A-%a.log",
    }  # fmt: skip
    said = slurm("bash", "-c", commands(recipe), cwd=ROOT, env=environment)
    join = re.fullmatch(r"Submitted batch job (\d+)", said)[1]

    def logs() -> str:
        return "\n".join(log.read_text() for log in sorted(tmp_path.glob("job-*.log")))

    def state() -> str:
        return slurm("squeue", "-h", "-t", "all", "-j", join, "-o", "%T")

    wait_until(lambda: state() in ENDED, lambda: f"the join's end ({state()}): {logs()}")
    assert state() == "COMPLETED", logs()
    parts = [f"part {number} of {TASKS} made in " for number in range(TASKS)]
    assert all(logs().count(part) == 1 for part in parts), logs()
    assert not (tmp_path / "shards" / "parts").exists()
    alone = [ROOT / "datasets" / "prepare.py", recipe, f"output={tmp_path}/alone"]
    done = subprocess.run(alone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done
    made = content(tmp_path / "shards")
    assert made == content(tmp_path / "alone")
    assert len([name for name in made if name.startswith("train-")]) > 1
