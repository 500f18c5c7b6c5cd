# SPDX-License-Identifier: Apache-2.0
"""RMSNorm in bf16 has the bits of transformers' Llama: rounded before the weight, not after it.

Bit for bit where the sum of squares is exact, and nearly always where it is rounded.

usage: norm_oracle.py <norm_probe>
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

EPSILON = 1e-5
NUM_ROWS = 400
# Of the elements. PyTorch's sum of squares, and ours, may each be off by its last bit; PyTorch's is
# another one for each width of the processor's vectors.
SUM_BOUND = 1e-4
WIDTHS = (8, 63, 64, 576, 1000, 4096)  # Heads, and hidden states that vectors do not divide.


def make_weight(width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(width)
    return (1.0 + 0.3 * torch.randn(width, generator=generator)).bfloat16()


def make_small_integers(width: int) -> torch.Tensor:
    """Times a power of two: the sum of their squares is exact in fp32, in any order."""
    generator = torch.Generator().manual_seed(width + 1)
    integers = torch.randint(-15, 16, (NUM_ROWS, width), generator=generator)
    return (integers * 2.0 ** torch.arange(NUM_ROWS).remainder(40).sub(20)[:, None]).bfloat16()


def make_any_numbers(width: int) -> torch.Tensor:
    """Rows of sizes from 1e-6 to 1e6, some with one feature above all others."""
    generator = torch.Generator().manual_seed(width + 2)
    scale = 10.0 ** torch.linspace(-6, 6, NUM_ROWS)[:, None]
    rows = torch.randn(NUM_ROWS, width, generator=generator) * scale
    rows[::7, 1] *= 300.0
    return rows.bfloat16()


def run_probe(probe: str, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        numbers = Path(folder) / "numbers"
        numbers.write_bytes(torch.cat([weight[None], rows]).float().numpy().tobytes())
        command = [probe, numbers, str(len(weight)), str(EPSILON)]
        done = subprocess.run(command, check=True, capture_output=True)
    normed = torch.from_numpy(numpy.frombuffer(done.stdout, numpy.float32).copy())
    return normed.view(rows.shape).bfloat16()


def run_reference(norm_class, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    norm = norm_class(len(weight), EPSILON).bfloat16()
    with torch.no_grad():
        # Gemma's weight is what is added to one.
        norm.weight.copy_(weight - 1 if norm_class is GemmaRMSNorm else weight)
        return norm(rows)


def share_that_differs(norm_class, weight: torch.Tensor, rows: torch.Tensor) -> float:
    found = run_probe(sys.argv[1], weight, rows)
    assert found.isfinite().all()
    return (found != run_reference(norm_class, weight, rows)).double().mean().item()


def main() -> None:
    for width in WIDTHS:
        weight, integers = make_weight(width), make_small_integers(width)
        exact = share_that_differs(LlamaRMSNorm, weight, integers)
        summed = share_that_differs(LlamaRMSNorm, weight, make_any_numbers(width))
        other = share_that_differs(GemmaRMSNorm, weight, integers)
        print(f"width {width}: {exact:.1e}, {summed:.1e} differ from Llama, {other:.2f} from Gemma")
        assert exact == 0.0
        assert summed <= SUM_BOUND
        assert other > 0.1, "the two orders cannot be told apart here"


if __name__ == "__main__":
    main()
