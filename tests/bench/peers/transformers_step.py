# SPDX-License-Identifier: Apache-2.0
"""The step in transformers, and in peft with an adapter, in one process: what Trainer does, without
its bookkeeping. The variant "compiled" has the model under torch.compile."""

import peer
import torch


def main() -> None:
    import transformers  # noqa: F401  (so that the idle figure has it)

    if (method := peer.read_job().method) != "full":
        import peft  # noqa: F401
    if method == "qlora":
        import bitsandbytes  # noqa: F401

    job = peer.read_job()
    torch.set_num_threads(job.threads)
    idle_kb = peer.memory_kb("VmRSS")
    batch = peer.read_batch(job)
    model = peer.load_model(job)
    if job.variant == "compiled":
        model.compile()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = peer.make_adamw(job, trained)
    is_mixed = job.torch_dtype != torch.float32

    def step() -> torch.Tensor:
        loss_sum = torch.zeros(())
        for row in batch.rows:
            with torch.autocast("cpu", job.torch_dtype, enabled=is_mixed):
                loss = model(**row, num_items_in_batch=batch.num_targets, use_cache=False).loss
            loss.backward()
            loss_sum += loss.detach()
        torch.nn.utils.clip_grad_norm_(trained, job.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss_sum

    peer.measure(job, idle_kb, step)


if __name__ == "__main__":
    main()
