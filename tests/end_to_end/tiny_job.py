# SPDX-License-Identifier: Apache-2.0
"""Runs of the tiny model on several ranks: to be watched, signalled, killed and compared."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "app"))

import tiny_run  # noqa: E402

NUM_STEPS = 30
TIMEOUT_SECONDS = 120

# Paths are relative, so that a copy is the same run. Enough tokens that a step can be interrupted;
# six micro-batches for 1, 2 or 3 ranks.
CONFIG = """\
run: {{folder: run}}
model: {{path: model, dtype: float32}}
data:
  train: [{{path: train.h5}}]
  sequence_length: 32
  global_batch: 6
  micro_batch: 1
train: {{max_steps: {steps}, threads: 1}}
optimizer: {{learning_rate: 0.01}}
checkpoint: {{every_steps: 5, keep: 3}}
"""


# Each step is evaluated, on a few rows.
HOLDOUTS = "  holdout: [{name: first, path: held.h5}, {name: second, path: held.h5}]\n"


def write(folder: Path, evaluates: bool = False, has_experts: bool = False) -> Path:
    """Model, shards and configuration; returns the path of the latter."""
    tiny_run.write_model(folder / "model", has_experts)
    tiny_run.write_shard(folder / "train.h5")
    tiny_run.write_shard(folder / "held.h5", num_documents=4)
    config = folder / "run.yaml"
    text = CONFIG.format(steps=NUM_STEPS)
    if evaluates:
        text = text.replace("train: {", HOLDOUTS + "train: {evaluate_every_steps: 1, ")
    config.write_text(text)
    return config


class Job:
    """One mpirun with its ranks."""

    def __init__(self, ranks: int, config: Path, *overrides: str):
        self.ranks = ranks
        self.log = config.parent / "log"
        command = ["mpirun", "-n", str(ranks), os.environ["TEMPER_BINARY"], "train", str(config)]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*command, *overrides], stdout=log, stderr=log, cwd=config.parent
            )

    def children(self) -> list[int]:
        """The processes that mpirun has started here."""
        pid = self.process.pid
        try:
            return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def rank_pids(self) -> list[int]:
        """Those of ranks, in the order of ranks."""
        found = {rank_of(child): child for child in self.children()}
        return [found[rank] for rank in sorted(found) if rank >= 0]

    def wait(self) -> int:
        """The exit code of mpirun; a hang is an error."""
        try:
            return self.process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the job hangs: {self.log.read_text()}") from None

    def kill(self, which: slice = slice(None)) -> None:
        """SIGKILL to some ranks, or to all and mpirun; returns when none is left."""
        send(self.process.pid, signal.SIGSTOP)  # Nobody is started behind our back.
        pids = self.children()
        chosen = self.rank_pids()[which] if which != slice(None) else []
        for pid in chosen or [*pids, self.process.pid]:
            send(pid, signal.SIGKILL)
        send(self.process.pid, signal.SIGCONT)
        self.process.wait(TIMEOUT_SECONDS)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while any(is_alive(pid) for pid in pids):
            assert time.monotonic() < deadline, "a rank outlives its job"
            time.sleep(0.01)


def send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # It has ended by itself.


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def rank_of(pid: int) -> int:
    """Which rank a process is; -1 before it knows."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return -1
    ranks = [entry for entry in entries if entry.startswith(b"OMPI_COMM_WORLD_RANK=")]
    return int(ranks[0].split(b"=")[1]) if ranks else -1


def check(config: Path, *arguments) -> subprocess.CompletedProcess:
    """What `temper check` says about a run."""
    return tiny_run.temper("check", config, *arguments, cwd=config.parent)


def train(ranks: int, config: Path, *overrides: str) -> tuple[int, str]:
    """Exit code and log of a run that is left alone."""
    job = Job(ranks, config, *overrides)
    code = job.wait()
    return code, job.log.read_text()


def step_lines(config: Path) -> list[dict]:
    """The whole lines of steps in the run's metrics."""
    return steps_of(config.parent / "run")


def steps_of(run: Path) -> list[dict]:
    """The same for the folder of any run."""
    return [entry for entry in metrics_of(run) if entry["kind"] == "step"]


def losses_of(config: Path) -> list[float]:
    """Of the run's steps and evaluations."""
    metrics = metrics_of(config.parent / "run")
    return [entry["loss"] for entry in metrics if "loss" in entry]


def metrics_of(run: Path) -> list[dict]:
    """All whole lines."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def wait_for_step(job: Job, config: Path, step: int) -> None:
    """Returns when the step is done, or the job is."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while job.process.poll() is None and len(step_lines(config)) < step:
        if time.monotonic() > deadline:
            job.kill()
            raise AssertionError(f"step {step} does not come: {job.log.read_text()}")
        time.sleep(0.002)


def checkpoints(config: Path) -> list[Path]:
    """Those that are published, oldest first."""
    return sorted((config.parent / "run" / "checkpoints").glob("step-*[0-9]"))


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


TIMINGS = (
    "seconds", "data_seconds", "tokens_per_second", "limit_share", "forward_seconds",
    "backward_seconds", "exchange_seconds", "update_seconds", "save_seconds", "bytes_sent",
    "straggler_seconds", "slowest_rank", "cpu_joules",
)  # fmt: skip


def result(config: Path) -> tuple[list[dict], dict[str, str]]:
    """All that must not depend on how a run came to its end: what its metrics say of steps and
    evaluations, in their order, and final files."""
    run = config.parent / "run"
    told = [{k: v for k, v in entry.items() if k not in TIMINGS} for entry in metrics_of(run)]
    return told, file_digests(run / "final")


def copy(source: Path, destination: Path) -> Path:
    """The run of a configuration in another folder; returns its configuration."""
    return shutil.copytree(source.parent, destination, symlinks=True) / source.name
