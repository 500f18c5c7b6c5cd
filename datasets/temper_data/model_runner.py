# SPDX-License-Identifier: Apache-2.0
"""Verbs of temper on one model folder, on ranks of this machine."""

import json
import subprocess
import tempfile
from pathlib import Path

from .errors import DataError

TEMPER = Path(__file__).resolve().parents[2] / "launch" / "temper"


class TemperFailed(Exception):
    """A verb of temper ended with an error, which it has told itself."""


class ModelRunner:
    """A model folder, and an adapter on it if one is named."""

    def __init__(self, path: Path, adapter: str = "", ranks: int = 1, dtype: str = "auto"):
        self.path, self.ranks = path, ranks
        self.options = ["--dtype", dtype, *(["--adapter", adapter] if adapter else [])]
        self.max_length = positions_of(path) - virtual_tokens(adapter)

    def run(self, verb: str, *options) -> str:
        """What a verb prints. Raises TemperFailed."""
        words = (TEMPER, "-n", self.ranks, verb, self.path, *options, *self.options)
        done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise TemperFailed(f"temper {verb} ended with code {done.returncode}")
        return done.stdout

    def score(self, requests: list[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """Of each (context, continuation): its log-probability, and whether it is greedy."""
        with tempfile.TemporaryDirectory() as folder:
            path, output = Path(folder) / "requests.jsonl", Path(folder) / "answers.jsonl"
            with path.open("w") as file:
                for context, continuation in requests:
                    request = {"context": context, "continuation": continuation}
                    file.write(json.dumps(request) + "\n")
            self.run("score", "--requests", path, "--output", output)
            lines = map(json.loads, output.read_text().splitlines())
            return [(line["logprob"], line["greedy"]) for line in lines]

    def generate(self, prompts: list[list[int]], count: int, *options) -> list[list[int]]:
        """Up to `count` new tokens for each prompt."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("".join(",".join(map(str, prompt)) + "\n" for prompt in prompts))
            file.flush()
            words = ["--prompts", file.name, "--max-new-tokens", count, *options]
            lines = self.run("generate", *words).split("\n")[:-1]
        return [[int(word) for word in line.split(",") if word] for line in lines]


def positions_of(model: Path) -> int:
    """How many positions a model folder's model knows. Raises DataError."""
    path = model / "config.json"
    remedy = "name a Hugging Face model folder"
    try:
        count = json.loads(path.read_text()).get("max_position_embeddings")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", remedy) from error
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} is no JSON object: {error}", remedy) from error
    if not isinstance(count, int):
        raise DataError(f"{path} has no max_position_embeddings", remedy)
    return count


def virtual_tokens(adapter: str) -> int:
    """How many positions an adapter takes before each text. Raises DataError."""
    if not adapter:
        return 0
    path = Path(adapter) / "adapter_config.json"
    try:
        return json.loads(path.read_text()).get("num_virtual_tokens") or 0
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "name an adapter's folder") from error
