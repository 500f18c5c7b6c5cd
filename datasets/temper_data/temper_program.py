# SPDX-License-Identifier: Apache-2.0
"""The program `temper`, which computes with a model: files of requests in, answers out."""

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

TEMPER = Path(__file__).resolve().parents[2] / "launch" / "temper"


class TemperFailed(Exception):
    """A verb of temper ended with an error, which it has told itself."""


class TemperProgram:
    """A model folder, with further `options` such as `--adapter FOLDER`, on ranks of this
    machine."""

    def __init__(self, model: Path, ranks: int = 1, options: Sequence[str] = ()):
        self.model, self.ranks, self.options = model, ranks, list(options)

    def command(self, verb: str, *words) -> list[str]:
        line = (TEMPER, "-n", self.ranks, verb, self.model, *words, *self.options)
        return list(map(str, line))

    def answer(self, verb: str, requests: Iterable[dict | None], folder: Path) -> list[dict]:
        """The answers of `temper score` or `generate`, in the order of the requests; None is an
        empty line, which counts among the lines that messages name.

        What a killed run of the same left in `folder` is gone on from. Raises TemperFailed.
        """
        path, output = folder / "requests.jsonl", folder / "answers.jsonl"
        lines = ("" if request is None else json.dumps(request) for request in requests)
        path.write_text("".join(line + "\n" for line in lines))
        if not output.exists():
            command = self.command(verb, "--requests", path, "--output", output)
            code = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
            if code != 0:
                raise TemperFailed(f"temper {verb} ended with code {code}")
        return [json.loads(line) for line in output.read_text().splitlines()]


def max_length(model: Path, adapter: str) -> int:
    """Tokens that a text may have: the model's positions, less those that an adapter's folder takes
    before each text."""
    config = json.loads((model / "config.json").read_text())
    taken = 0
    if adapter:
        path = Path(adapter) / "adapter_config.json"
        taken = json.loads(path.read_text()).get("num_virtual_tokens") or 0
    return config["max_position_embeddings"] - taken
