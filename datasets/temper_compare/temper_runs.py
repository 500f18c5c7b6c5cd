# SPDX-License-Identifier: Apache-2.0
"""Runs verbs of temper, and measures them."""

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from temper_data.errors import DataError

TEMPER = Path(__file__).resolve().parents[2] / "launch" / "temper"
LOG_LINES = 12  # of a run that failed, that are shown


@dataclass(frozen=True)
class Weights:
    """What answers: a model folder, and an adapter on it if there is one."""

    model: str
    adapter: str = ""


@dataclass(frozen=True)
class Asking:
    """How answers are computed."""

    ranks: int  # of scoring; one process generates
    dtype: str

    def words(self, verb: str, weights: Weights) -> list[str]:
        adapter = ["--adapter", weights.adapter] if weights.adapter else []
        return [verb, weights.model, *adapter, "--dtype", self.dtype]


@dataclass(frozen=True)
class Usage:
    """What a run took."""

    seconds: float  # by the clock
    cpu_seconds: float  # of all ranks together
    peak_bytes: int  # of the largest process


def run_temper(ranks: int, words: list, log: Path | None = None) -> tuple[str, Usage]:
    """What a verb prints, or "" if that goes to `log`, and what it took.

    Raises DataError with the end of what it says if it fails.
    """
    command = list(map(str, (TEMPER, "-n", ranks, *words)))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as told:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=told)
        _, status, taken = os.wait4(process.pid, 0)  # With the ranks, which mpirun waits for.
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begin
        printed, said = (file.seek(0) or file.read() for file in (out, told))
    if log is not None:
        with open(log, "a", encoding="utf-8") as file:
            file.write(printed + said)
    if process.returncode != 0:
        last = "\n".join((printed + said).splitlines()[-LOG_LINES:])
        raise DataError(
            f"{' '.join(command[3:5])} ended with code {process.returncode}:\n{last}",
            "mend that, and start the comparison again: it goes on where it was",
        )
    cpu_seconds = taken.ru_utime + taken.ru_stime
    return printed, Usage(seconds, cpu_seconds, taken.ru_maxrss * 1024)


def generate(
    asking: Asking, weights: Weights, prompts: list[list[int]], most_tokens: int
) -> tuple[list[list[int]], Usage]:
    """The greedy answer to each prompt, as token ids without the one that ends it."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(",".join(map(str, prompt)) + "\n" for prompt in prompts))
        file.flush()
        words = [*asking.words("generate", weights), "--prompts", file.name]
        printed, usage = run_temper(1, [*words, "--max-new-tokens", most_tokens])
    lines = printed.split("\n")[:-1]
    return [[int(word) for word in line.split(",") if word] for line in lines], usage


def score(asking: Asking, weights: Weights, requests: list[tuple]) -> list[float]:
    """The mean log-probability a token, in nats, of each (context ids, continuation ids)."""
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "requests.jsonl", Path(folder) / "answers.jsonl"
        with path.open("w") as file:
            for context, continuation in requests:
                request = {"context": list(context), "continuation": list(continuation)}
                file.write(json.dumps(request) + "\n")
        words = [*asking.words("score", weights), "--requests", path, "--output", output]
        run_temper(asking.ranks, words)
        answers = [json.loads(line) for line in output.read_text().splitlines()]
    return [answer["logprob"] / answer["tokens"] for answer in answers]
