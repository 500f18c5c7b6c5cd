# SPDX-License-Identifier: Apache-2.0
"""What the measured processes share: the job they are given, the batch, the clock, the result.

The harness starts one process a rank with torch's usual variables (RANK, WORLD_SIZE, ...) and the
path of a job file; each rank leaves result-<rank>.json beside it.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Job:
    """One measurement, as harness/peer_run.py writes it."""

    model: str  # Hugging Face folder
    batch: str  # .npz with tokens, labels and positions, each [rows, row_tokens]
    dtype: str  # of the matrix products; trained weights and moments stay float32
    method: str  # "full", or what peft adds to a frozen model
    threads: int
    num_steps: int  # the first one warms up
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    max_grad_norm: float
    tokens_per_step: int

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)


@dataclass(frozen=True)
class RankBatch:
    """The rows of one rank, as keyword arguments of the model."""

    rows: list[dict[str, torch.Tensor]]
    num_targets: int  # of all ranks


def rank() -> int:
    return int(os.environ["RANK"])


def world_size() -> int:
    return int(os.environ["WORLD_SIZE"])


def read_job() -> Job:
    return Job(**json.loads(Path(sys.argv[1]).read_text()))


def read_batch(job: Job) -> RankBatch:
    """Row i goes to rank i mod world size. Labels are shifted by the model, as usual there."""
    arrays = np.load(job.batch)
    tokens, labels, positions = (
        torch.from_numpy(arrays[name]) for name in ("tokens", "labels", "positions")
    )
    rows = []
    for row in range(rank(), len(tokens), world_size()):
        arguments = {"input_ids": tokens[row : row + 1], "labels": labels[row : row + 1]}
        if (positions[row, 1:] == 0).any():  # transformers keeps packed documents apart by these.
            arguments["position_ids"] = positions[row : row + 1]
        rows.append(arguments)
    return RankBatch(rows, int((labels[:, 1:] != -100).sum()))


def memory_kb(field: str) -> int:
    """A line of /proc/self/status: VmHWM is the peak of the resident set, VmRSS its size now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


def load_model(job: Job) -> torch.nn.Module:
    """float32 weights, whatever the matrix products use; attention as transformers chooses it.

    What peft leaves frozen has the dtype of the matrix products, or four bits.
    """
    from transformers import AutoModelForCausalLM

    if job.method == "full":
        model = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)
    else:
        model = load_frozen(job)
    model.train()
    return model


def load_frozen(job: Job) -> torch.nn.Module:
    """The model with an adapter of peft, with the options that temper has by default."""
    import peft
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=job.torch_dtype,
    )
    base = AutoModelForCausalLM.from_pretrained(
        job.model,
        dtype=job.torch_dtype,
        quantization_config=quantisation if job.method == "qlora" else None,
    )
    lora = dict(r=16, lora_alpha=32, target_modules="all-linear")
    return peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **lora))


def make_adamw(job: Job, parameters) -> torch.optim.AdamW:
    """Fused, as transformers' Trainer chooses it."""
    return torch.optim.AdamW(
        parameters,
        lr=job.learning_rate,
        betas=(job.beta1, job.beta2),
        eps=job.epsilon,
        weight_decay=0.0,
        fused=True,
    )


def sum_over_ranks(value: torch.Tensor) -> float:
    value = value.detach().to(torch.float64).reshape(1)
    if world_size() > 1:
        dist.all_reduce(value)
    return float(value)


def measure(job: Job, idle_kb: int, step: Callable[[], torch.Tensor | None]) -> None:
    """Runs the steps and writes the result. `step` returns this rank's part of the loss, or None.

    A rank begins a step when all have ended the one before, so rank 0's clock is everyone's.
    """
    seconds, losses = [], []
    for _ in range(job.num_steps):
        if world_size() > 1:
            dist.barrier()
        start = time.perf_counter()
        loss = step()
        if world_size() > 1:
            dist.barrier()
        seconds.append(time.perf_counter() - start)
        if loss is not None:
            losses.append(sum_over_ranks(loss))
    result = {
        "seconds": seconds,
        "losses": losses,
        "peak_rss_kb": memory_kb("VmHWM"),
        "idle_rss_kb": idle_kb,
        "versions": versions(),
    }
    path = Path(sys.argv[1]).with_name(f"result-{rank()}.json")
    path.write_text(json.dumps(result))


def versions() -> dict[str, str]:
    names = ("torch", "transformers", "peft", "bitsandbytes", "deepspeed")
    return {name: sys.modules[name].__version__ for name in names if name in sys.modules}
