# SPDX-License-Identifier: Apache-2.0
"""The machine's limit: the step's matrix products and nothing else.

Every linear layer of the decoder (q, k, v in one, gate and up in one) and the head at every
position, forward and both backward products. Each rank takes its share of the step's tokens in one
piece; all ranks multiply at once.
"""

import json
from pathlib import Path

import peer
import torch
import torch.distributed as dist


def shapes(model: str) -> list[tuple[int, int]]:
    """[out, in] of every weight that is multiplied with."""
    config = json.loads((Path(model) / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    heads = config["num_attention_heads"] * head_dim
    kv_heads = config.get("num_key_value_heads", config["num_attention_heads"]) * head_dim
    block = [(heads + 2 * kv_heads, hidden), (hidden, heads), (2 * inner, hidden), (hidden, inner)]
    return block * config["num_hidden_layers"] + [(config["vocab_size"], hidden)]


def main() -> None:
    job = peer.read_job()
    torch.set_num_threads(job.threads)
    if peer.world_size() > 1:
        dist.init_process_group("gloo")
    idle_kb = peer.memory_kb("VmRSS")
    tokens = job.tokens_per_step // peer.world_size()
    weights = [torch.randn(shape, dtype=job.torch_dtype) for shape in shapes(job.model)]
    sizes = {size for weight in weights for size in weight.shape}
    inputs = {size: torch.randn((tokens, size), dtype=job.torch_dtype) for size in sizes}
    outputs = {size: torch.empty_like(matrix) for size, matrix in inputs.items()}
    gradients = {weight.shape: torch.empty_like(weight) for weight in weights}

    def step() -> None:
        for weight in weights:
            num_out, num_in = weight.shape
            x, dy = inputs[num_in], inputs[num_out]
            torch.mm(x, weight.t(), out=outputs[num_out])
            torch.mm(dy, weight, out=outputs[num_in])
            torch.mm(dy.t(), x, out=gradients[weight.shape])

    peer.measure(job, idle_kb, step)
    if peer.world_size() > 1:
        peer.end_together()


if __name__ == "__main__":
    main()
