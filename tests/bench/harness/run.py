# SPDX-License-Identifier: Apache-2.0
"""One run of one system: what it is asked for, and what came of it."""

import os
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """What all systems are asked to do alike. The update is AdamW without decay."""

    model: Path
    folder: Path  # runs work in folders below it
    shard: Path  # what temper reads
    arrays: Path  # the same for the peers, .npz
    rows: int  # in a step
    row_tokens: int
    dtype: str  # of the matrix products: "float32" or "bfloat16"
    timeout_seconds: int
    method: str = "full"  # of temper's, with its default options
    recomputes: bool = False  # temper computes activations again
    num_steps: int | None = None  # the first one warms up; None: as many as a pass has
    learning_rate: float = 1e-5
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0

    @property
    def tokens_per_step(self) -> int:
        return self.rows * self.row_tokens

    def run_folder(self, system: str, ranks: int, threads: int) -> Path:
        again = "-recomputed" if self.recomputes else ""
        return self.folder / f"{system}-{self.method}{again}-{ranks}x{threads}-{self.dtype}"


@dataclass(frozen=True)
class Result:
    """One run: every step's figures in order, memory rank by rank."""

    seconds: list[float]
    losses: list[float]  # means over the targets; empty where nothing is trained
    peak_rss_bytes: list[int]  # [rank]
    idle_rss_bytes: int  # the largest rank's, before it has a model
    versions: dict[str, str] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)  # without padding; not told by every system
    targets: list[int] = field(default_factory=list)
    expected_bytes: int = 0  # of a rank, as the system itself expects; 0 where it does not
    cpu_seconds: float = 0.0  # of all ranks, from start to end


def make_empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class RunError(Exception):
    """A run that came to no result; the text says why in one line."""


def run_together(
    commands: list[list[str]], environments: list[dict], log: Path, limit: int
) -> float:
    """Runs the commands at once, their output in `log`; returns the time of the processor that they
    took. Raises RunError if one fails or is late.

    Each gets a process group of its own, so that all of it can be ended.
    """
    before = cpu_seconds_of_children()
    with open(log, "w") as output:
        processes = [
            subprocess.Popen(
                command,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for command, environment in zip(commands, environments)
        ]
        deadline = time.monotonic() + limit
        try:
            while any(process.poll() is None for process in processes):
                if any(process.poll() for process in processes):
                    break
                if time.monotonic() > deadline:
                    raise RunError(f"no end after {limit} s, see {log}")
                time.sleep(0.1)
        finally:
            for process in processes:
                end(process)
    codes = [process.returncode for process in processes]
    if any(codes):
        raise RunError(f"ended with {codes}, see {log}: {last_line(log)}")
    return cpu_seconds_of_children() - before


def cpu_seconds_of_children() -> float:
    """Of those that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def end(process: subprocess.Popen) -> None:
    """Ends a process and its group unless it has ended. mpirun needs a moment to end its ranks."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "(no output)"
