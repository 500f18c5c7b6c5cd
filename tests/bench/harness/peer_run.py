# SPDX-License-Identifier: Apache-2.0
"""Runs one of the Python programs in tests/bench/peers, one process a rank."""

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from run import Result, Task, make_empty, run_together

PEERS = Path(__file__).resolve().parents[1] / "peers"


@dataclass(frozen=True)
class Peer:
    """A program that trains, or the one that multiplies matrices only."""

    name: str
    script: str
    python_variable: str  # environment variable with the path of its Python
    setup: str  # the command that installs it
    ranks: int
    threads: int
    variant: str = ""  # of what the program does

    def missing(self) -> str:
        """Why it cannot run; empty if it can."""
        python = os.environ[self.python_variable]
        return "" if os.access(python, os.X_OK) else f"not installed: run {self.setup}"

    def run(self, task: Task) -> Result:
        """Raises RunError."""
        program = "-".join(filter(None, (self.script, self.variant)))
        folder = make_empty(task.run_folder(program, self.ranks, self.threads))
        job = folder / "job.json"
        job.write_text(json.dumps(self._job(task)))
        command = [os.environ[self.python_variable], str(PEERS / f"{self.script}.py"), str(job)]
        environments = self._environments()
        cpu_seconds = run_together(
            [command] * self.ranks, environments, folder / "output.log", task.timeout_seconds
        )
        return read_result(folder, self.ranks, cpu_seconds)

    def _job(self, task: Task) -> dict:
        return {
            "model": str(task.model),
            "arrays": str(task.arrays),
            "variant": self.variant,
            "dtype": task.dtype,
            "method": task.method,
            "threads": self.threads,
            "num_steps": task.num_steps,
            "learning_rate": task.learning_rate,
            "beta1": task.beta1,
            "beta2": task.beta2,
            "epsilon": task.epsilon,
            "max_grad_norm": task.max_grad_norm,
            "rows": task.rows,
            "row_tokens": task.row_tokens,
        }

    def _environments(self) -> list[dict]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = {
            "WORLD_SIZE": str(self.ranks),
            "LOCAL_SIZE": str(self.ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
            "DS_ACCELERATOR": "cpu",
            "HF_HUB_OFFLINE": "1",
        }
        return [shared | {"RANK": str(r), "LOCAL_RANK": str(r)} for r in range(self.ranks)]


def read_result(folder: Path, ranks: int, cpu_seconds: float) -> Result:
    parts = [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(ranks)]
    return Result(
        seconds=parts[0]["seconds"],
        losses=parts[0]["losses"],
        peak_rss_bytes=[part["peak_rss_kb"] * 1024 for part in parts],
        idle_rss_bytes=max(part["idle_rss_kb"] for part in parts) * 1024,
        versions=parts[0]["versions"],
        tokens=parts[0].get("tokens", []),
        targets=parts[0].get("targets", []),
        cpu_seconds=cpu_seconds,
    )
