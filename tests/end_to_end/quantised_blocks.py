# SPDX-License-Identifier: Apache-2.0
"""What bitsandbytes makes of the matrices that temper keeps in four bits."""

import torch
from bitsandbytes import functional


def quantise_blocks(model: torch.nn.Module, quantisation) -> None:
    """Replaces the blocks' matrices by what bitsandbytes makes of them."""
    if quantisation is None:
        return
    for name, parameter in model.named_parameters():
        is_router = name.endswith((".mlp.gate.weight", ".router.weight"))
        is_bias = name.endswith("_bias")  # Of all experts.
        is_in_block = ".layers." in name or ".h." in name
        if is_in_block and parameter.ndim >= 2 and not is_router and not is_bias:
            for matrix in matrices_of(name, parameter.data):
                quantise(matrix, *quantisation)


def matrices_of(name: str, tensor: torch.Tensor) -> list[torch.Tensor]:
    """As files have them: each expert's are matrices of their own, gate and up apart."""
    if tensor.ndim == 2:
        return [tensor]
    return [part for one in tensor for part in (one.chunk(2) if "gate_up" in name else [one])]


def quantise(matrix: torch.Tensor, kind: str, is_double: bool) -> None:
    # Flat: on CPUs bitsandbytes 0.50 dequantises blocks that cross rows wrongly.
    quantised = functional.quantize_4bit(
        matrix.flatten(), blocksize=64, quant_type=kind, compress_statistics=is_double
    )
    matrix.copy_(functional.dequantize_4bit(*quantised).view(matrix.shape))
