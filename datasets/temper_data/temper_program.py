# SPDX-License-Identifier: Apache-2.0
"""The program `temper`, which computes with a model: files of requests in, answers out."""

import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from .errors import DataError

TEMPER = Path(__file__).resolve().parents[2] / "launch" / "temper"


class TemperFailed(Exception):
    """A verb of temper ended with an error, which it has told itself."""


class TemperProgram:
    """A model folder, with further `options`, on ranks of this machine."""

    def __init__(self, model: Path, ranks: int = 1, options: Sequence[str] = ()):
        self.model, self.ranks, self.options = model, ranks, list(options)

    def command(self, verb: str, *words) -> list[str]:
        line = (TEMPER, "-n", self.ranks, verb, self.model, *words, *self.options)
        return list(map(str, line))

    def run(self, verb: str, *words) -> None:
        """Raises TemperFailed."""
        code = subprocess.run(self.command(verb, *words), stdin=subprocess.DEVNULL).returncode
        if code != 0:
            raise TemperFailed(f"temper {verb} ended with code {code}")

    def answer(
        self, verb: str, requests: Iterable[dict | None], folder: Path | None = None
    ) -> list[dict]:
        """The answers of `temper score` or `generate`, in the order of the requests; None is an
        empty line, which counts among the lines that messages name.

        What a killed run of the same left in `folder` is gone on from. Raises TemperFailed.
        """
        if folder is None:
            with tempfile.TemporaryDirectory() as own:
                return self.answer(verb, requests, Path(own))
        path, output = folder / "requests.jsonl", folder / "answers.jsonl"
        lines = ("" if request is None else json.dumps(request) for request in requests)
        path.write_text("".join(line + "\n" for line in lines))
        if not output.exists():
            self.run(verb, "--requests", path, "--output", output)
        return [json.loads(line) for line in output.read_text().splitlines()]


def weights_options(adapter: str, dtype: str) -> list[str]:
    """What says which weights compute, and how. `adapter`: a folder, or nothing."""
    return ["--dtype", dtype, *(["--adapter", adapter] if adapter else [])]


def max_length(model: Path, adapter: str) -> int:
    """Tokens that a text may have: the model's positions, less those that an adapter's folder takes
    before each text. Raises DataError."""
    config = _object_in(model / "config.json", "name a Hugging Face model folder")
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        raise DataError(
            f"{model / 'config.json'} has no max_position_embeddings",
            "name a Hugging Face model folder",
        )
    if not adapter:
        return positions
    path = Path(adapter) / "adapter_config.json"
    return positions - (_object_in(path, "name an adapter's folder").get("num_virtual_tokens") or 0)


def _object_in(path: Path, remedy: str) -> dict:
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", remedy) from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}", remedy) from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is no JSON object", remedy)
    return found
