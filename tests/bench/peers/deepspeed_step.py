# SPDX-License-Identifier: Apache-2.0
"""The step in transformers under DeepSpeed ZeRO-3 over gloo, with torch's fused AdamW."""

import deepspeed
import peer
import torch


def settings(job: peer.Job, num_rows: int) -> dict:
    """DeepSpeed's defaults but for what the job fixes."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": num_rows,
        "gradient_clipping": job.max_grad_norm,
        "zero_optimization": {"stage": 3},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": job.torch_dtype == torch.bfloat16},
    }


def main() -> None:
    import transformers  # noqa: F401  (so that the idle figure has it)

    job = peer.read_job()
    torch.set_num_threads(job.threads)
    # Compiled at start otherwise; only inference would call it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
    idle_kb = peer.memory_kb("VmRSS")
    batch = peer.read_batch(job)
    model = peer.load_model(job)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=peer.make_adamw(job, model.parameters()),
        config=settings(job, len(batch.rows)),
    )
    # DeepSpeed takes the mean over ranks and micro-batches; we want the sum.
    scale = peer.world_size() * len(batch.rows)

    def step() -> torch.Tensor:
        loss_sum = torch.zeros(())
        for row in batch.rows:
            loss = engine(**row, num_items_in_batch=batch.num_targets, use_cache=False).loss
            engine.backward(loss * scale)
            engine.step()  # Updates after the last row only.
            loss_sum += loss.detach()
        return loss_sum

    peer.measure(job, idle_kb, step)
    peer.end_together()


if __name__ == "__main__":
    main()
