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
    arrays: str  # .npz: of a batch, tokens, labels and positions, each [rows, row_tokens]
    variant: str  # of what the program does
    dtype: str  # of the matrix products; trained weights and moments stay float32
    method: str  # "full", or what peft adds to a frozen model
    threads: int
    num_steps: int | None  # the first one warms up; None: as many as a pass has
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    max_grad_norm: float
    rows: int  # in a step
    row_tokens: int

    @property
    def tokens_per_step(self) -> int:
        return self.rows * self.row_tokens

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
    arrays = np.load(job.arrays)
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
        import peft

        model = peft.get_peft_model(load_frozen(job), make_adapter())
    model.train()
    return model


def load_frozen(job: Job) -> torch.nn.Module:
    """What an adapter leaves as it is."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=job.torch_dtype,
    )
    return AutoModelForCausalLM.from_pretrained(
        job.model,
        dtype=job.torch_dtype,
        quantization_config=quantisation if job.method == "qlora" else None,
    )


def make_adapter():
    """peft's configuration with the options that temper has by default."""
    import peft

    lora = dict(r=16, lora_alpha=32, target_modules="all-linear")
    return peft.LoraConfig(task_type="CAUSAL_LM", **lora)


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
    write_result(idle_kb, seconds=seconds, losses=losses)


def end_together() -> None:
    """Ends the process of each rank. gloo's threads may outlive what they use while an interpreter
    ends, and abort a rank that has measured all."""
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)


def write_result(idle_kb: int, **steps: list) -> None:
    """This rank's result: what it needed until now, and what was measured step by step."""
    memory = {"peak_rss_kb": memory_kb("VmHWM"), "idle_rss_kb": idle_kb}
    path = Path(sys.argv[1]).with_name(f"result-{rank()}.json")
    path.write_text(json.dumps(steps | memory | {"versions": versions()}))


def versions() -> dict[str, str]:
    names = ("torch", "transformers", "peft", "bitsandbytes", "deepspeed", "trl", "datasets")
    return {name: sys.modules[name].__version__ for name in names if name in sys.modules}
