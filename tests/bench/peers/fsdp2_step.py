# SPDX-License-Identifier: Apache-2.0
"""The step in transformers under PyTorch FSDP2 over gloo, each decoder layer a unit of its own."""

import peer
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard


def shard(model: torch.nn.Module, dtype: torch.dtype) -> None:
    mesh = init_device_mesh("cpu", (peer.world_size(),))
    policy = MixedPrecisionPolicy()
    if dtype != torch.float32:
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def main() -> None:
    import transformers  # noqa: F401  (so that the idle figure has it)

    job = peer.read_job()
    torch.set_num_threads(job.threads)
    dist.init_process_group("gloo")
    idle_kb = peer.memory_kb("VmRSS")
    batch = peer.read_batch(job)
    model = peer.load_model(job)
    shard(model, job.torch_dtype)
    optimizer = peer.make_adamw(job, model.parameters())

    def step() -> torch.Tensor:
        loss_sum = torch.zeros(())
        for row in batch.rows:
            loss = model(**row, num_items_in_batch=batch.num_targets, use_cache=False).loss
            # FSDP takes the mean over ranks; we want the sum.
            (loss * peer.world_size()).backward()
            loss_sum += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), job.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss_sum

    peer.measure(job, idle_kb, step)
    peer.end_together()


if __name__ == "__main__":
    main()
