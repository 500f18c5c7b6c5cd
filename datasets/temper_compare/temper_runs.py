# SPDX-License-Identifier: Apache-2.0
"""Runs verbs of temper, and measures them."""

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from temper_data.errors import DataError
from temper_data.temper_program import TEMPER, TemperProgram, weights_options

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


class MeasuredProgram(TemperProgram):
    """Keeps what its last run took."""

    def __init__(self, asking: Asking, weights: Weights, ranks: int):
        super().__init__(
            Path(weights.model), ranks, weights_options(weights.adapter, asking.dtype)
        )
        self.usage = Usage(0.0, 0.0, 0)

    def run(self, verb: str, *words) -> None:
        """Raises DataError."""
        _, self.usage = run_temper(self.ranks, [verb, self.model, *words, *self.options])


def generate(
    asking: Asking, weights: Weights, prompts: list[list[int]], most_tokens: int
) -> tuple[list[list[int]], Usage]:
    """The greedy answer to each prompt, as token ids without the one that ends it."""
    program = MeasuredProgram(asking, weights, ranks=1)
    requests = [{"prompt": prompt, "max_tokens": most_tokens} for prompt in prompts]
    lines = program.answer("generate", requests)
    return [line["answers"][0]["ids"] for line in lines], program.usage


def score(asking: Asking, weights: Weights, requests: list[tuple]) -> list[float]:
    """The mean log-probability a token, in nats, of each (context ids, continuation ids)."""
    asked = [
        {"context": list(context), "continuation": list(continuation)}
        for context, continuation in requests
    ]
    answers = MeasuredProgram(asking, weights, asking.ranks).answer("score", asked)
    return [answer["logprob"] / answer["tokens"] for answer in answers]
