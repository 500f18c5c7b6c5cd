# SPDX-License-Identifier: Apache-2.0
"""Runs temper's own step under mpirun, from a configuration made for the batch."""

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from run import Result, RunError, Task, make_empty, run_together

RANK_MEMORY = Path(__file__).with_name("rank_memory.py")

CONFIG = """\
run:
  folder: "{folder}/run"
model:
  path: "{task.model}"
  dtype: {task.dtype}
method: {task.method}
data:
  train:
    - path: "{task.shard}"
  sequence_length: {task.row_tokens}
  global_batch: {task.rows}
  micro_batch: 1
train:
  {length}
  max_grad_norm: {task.max_grad_norm}
  recompute: {recompute}
  threads: {threads}
optimizer:
  learning_rate: {task.learning_rate:.1e}
  beta1: {task.beta1}
  beta2: {task.beta2}
  epsilon: {task.epsilon:.1e}
  weight_decay: 0.0
schedule:
  name: constant
parallel:
  stage: 3
"""

# Root in a container, and as many threads a rank as it is told to use.
MPI_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
}


@dataclass(frozen=True)
class Temper:
    """temper at ZeRO stage 3."""

    binary: Path
    ranks: int
    threads: int
    name: str = "temper"
    overrides: tuple[str, ...] = ()  # further words of the command line

    def missing(self) -> str:
        """Why it cannot run; empty if it can."""
        if not os.access(self.binary, os.X_OK):
            return f"no {self.binary}: run launch/build"
        return "" if shutil.which("mpirun") else "not installed: run launch/setup (mpirun)"

    def folder_of(self, task: Task) -> Path:
        """Where its last run of the task is."""
        return task.run_folder("temper", self.ranks, self.threads)

    def run(self, task: Task) -> Result:
        """Raises RunError."""
        folder = make_empty(self.folder_of(task))
        config = folder / "config.yaml"
        length = f"max_steps: {task.num_steps}" if task.num_steps else "epochs: 1.0"
        config.write_text(
            CONFIG.format(
                task=task,
                folder=folder,
                length=length,
                threads=self.threads,
                recompute=str(task.recomputes).lower(),
            )
        )
        mpirun = ["mpirun", "-n", str(self.ranks), sys.executable, str(RANK_MEMORY), str(folder)]
        command = [*mpirun, str(self.binary), "train", str(config), *self.overrides]
        cpu_seconds = self._run(command, folder / "output.log", task)
        steps = read_steps(folder / "run" / "metrics.jsonl", task.num_steps)
        return Result(
            seconds=[step["seconds"] for step in steps],
            losses=[step["loss"] for step in steps],
            peak_rss_bytes=[int((folder / f"peak-{r}").read_text()) for r in range(self.ranks)],
            idle_rss_bytes=self._idle_bytes(folder, task),
            tokens=[round(step["tokens_per_second"] * step["seconds"]) for step in steps],
            targets=[step["num_targets"] for step in steps],
            expected_bytes=read_expected_bytes(folder / "output.log"),
            cpu_seconds=cpu_seconds,
        )

    def _run(self, command: list[str], log: Path, task: Task) -> float:
        environment = MPI_ENVIRONMENT | {"OMP_NUM_THREADS": str(self.threads)}
        return run_together([command], [environment], log, task.timeout_seconds)

    def _idle_bytes(self, folder: Path, task: Task) -> int:
        """The same program with nothing to do."""
        (idle := folder / "idle").mkdir()
        command = [sys.executable, str(RANK_MEMORY), str(idle), str(self.binary), "--help"]
        self._run(command, folder / "help.log", task)
        return int((idle / "peak-0").read_text())


def read_expected_bytes(log: Path) -> int:
    """What a rank is expected to take, as the start of a run says. Raises RunError."""
    found = re.search(r"memory_per_rank=([0-9.]+) ([kMGT])B", log.read_text())
    if not found:
        raise RunError(f"{log} does not tell the memory that is expected")
    return round(float(found[1]) * 1000 ** ("kMGT".index(found[2]) + 1))


def read_steps(path: Path, num_steps: int | None) -> list[dict]:
    """The lines of the steps. Raises RunError unless every step is there, with an update."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step" and line["updated"]]
    wanted = num_steps or max((line["step"] for line in lines), default=0)
    if not wanted or [step["step"] for step in steps] != list(range(1, wanted + 1)):
        raise RunError(f"{path} does not have the steps 1 to {wanted}, each with an update")
    return steps
