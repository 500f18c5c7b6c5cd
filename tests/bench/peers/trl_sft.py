# SPDX-License-Identifier: Apache-2.0
"""One pass of TRL's SFTTrainer, its defaults as they are but for what the job fixes.

`variant` is "padded", a step of 8 conversations, or "packed", a step of packed rows.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import peer
import torch

CONVERSATIONS_PER_STEP = 8
NO_TARGET = -100


def read_conversations(job: peer.Job) -> list[dict[str, list[int]]]:
    """Tokenised, with labels, which SFTTrainer leaves as they are."""
    arrays = np.load(job.arrays)
    labels = np.where(arrays["target_mask"] == 1, arrays["tokens"], NO_TARGET)
    return [
        {"input_ids": arrays["tokens"][begin:end].tolist(), "labels": labels[begin:end].tolist()}
        for begin, end in zip(arrays["offsets"], arrays["offsets"][1:])
    ]


def settings(job: peer.Job) -> dict:
    """Arguments of SFTConfig that are not its defaults."""
    is_packed = job.variant == "packed"
    return {
        "output_dir": str(Path(sys.argv[1]).with_name("trl")),
        "use_cpu": True,
        "bf16": job.torch_dtype == torch.bfloat16,
        "per_device_train_batch_size": job.rows if is_packed else CONVERSATIONS_PER_STEP,
        "packing": is_packed,
        "max_length": job.row_tokens,
        "num_train_epochs": 1,
        "gradient_checkpointing": False,  # temper keeps its activations, too.
        "learning_rate": job.learning_rate,
        "lr_scheduler_type": "constant",
        "adam_beta1": job.beta1,
        "adam_beta2": job.beta2,
        "adam_epsilon": job.epsilon,
        "max_grad_norm": job.max_grad_norm,
        "save_strategy": "no",
        "report_to": "none",
    }


class Record:
    """Every step's figures in order, as a part of the trainer and as one of its callbacks."""

    def __init__(self):
        self.seconds, self.losses, self.tokens, self.targets = [], [], [], []
        self._start = 0.0

    def add_step(self, inputs: dict[str, torch.Tensor], loss: torch.Tensor) -> None:
        padding = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])) == 0
        self.tokens.append(int((~padding).sum()))
        self.targets.append(int((inputs["labels"][:, 1:] != NO_TARGET).sum()))
        self.losses.append(float(loss))

    def start(self) -> None:
        self._start = time.perf_counter()

    def stop(self) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def make_trainer(job: peer.Job, record: Record):
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            record.start()

        def on_step_end(self, *_, **__):
            record.stop()

    class Trainer(SFTTrainer):
        def training_step(self, model, inputs, *arguments, **options):
            seen = dict(inputs)
            loss = super().training_step(model, inputs, *arguments, **options)
            record.add_step(seen, loss)
            return loss

    is_full = job.method == "full"
    return Trainer(
        model=peer.load_model(job) if is_full else peer.load_frozen(job),
        args=SFTConfig(**settings(job)),
        train_dataset=Dataset.from_list(read_conversations(job)),
        processing_class=AutoTokenizer.from_pretrained(job.model),
        peft_config=None if is_full else peer.make_adapter(),
        callbacks=[Clock()],
    )


def main() -> None:
    # As `python train.py` would start it: with these, accelerate would make a group of processes.
    for name in ("LOCAL_RANK", "LOCAL_SIZE", "WORLD_SIZE"):
        os.environ.pop(name)
    job = peer.read_job()
    torch.set_num_threads(job.threads)
    from trl import SFTTrainer  # noqa: F401  (so that the idle figure has it)

    if job.method != "full":
        import peft  # noqa: F401
    if job.method == "qlora":
        import bitsandbytes  # noqa: F401

    idle_kb = peer.memory_kb("VmRSS")
    record = Record()
    make_trainer(job, record).train()
    peer.write_result(
        idle_kb,
        seconds=record.seconds,
        losses=record.losses,
        tokens=record.tokens,
        targets=record.targets,
    )


if __name__ == "__main__":
    main()
