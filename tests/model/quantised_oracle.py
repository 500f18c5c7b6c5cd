# SPDX-License-Identifier: Apache-2.0
"""Quantises and dequantises as bitsandbytes does on a CPU, compared bit for bit."""

import io
import itertools
import os
import subprocess
import sys

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # Its fallback for odd sizes would compile itself.

import numpy
import torch
from bitsandbytes import functional

KINDS = ("nf4", "fp4")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# One element, odd, under and over a block; 1, 256, 257 and many blocks with a part of one.
SIZES = (1, 7, 63, 64, 65, 96, 1000, 64 * 256, 64 * 257, 64 * 1500 + 48)
BLOCK_SIZES = (32, 128, 1024)  # Beside 64; bitsandbytes calls its own wrong from 2048 on.
NUMPY = {torch.float32: numpy.float32, torch.bfloat16: numpy.uint16, torch.float16: numpy.uint16}


def midpoints(size):
    """Blocks that hold every midpoint, exactly, and the numbers beside it."""
    values = functional.get_4bit_type("nf4", device="cpu").sort().values
    fp4 = functional.get_4bit_type("fp4", device="cpu").sort().values
    middle = torch.cat([(all[1:] + all[:-1]) / 2 for all in (values, fp4)])
    infinity = torch.tensor(torch.inf)
    some = torch.cat([middle, middle.nextafter(infinity), middle.nextafter(-infinity)])
    blocks = torch.ones(-(-size // 32), 32)
    for block, part in zip(blocks, itertools.cycle(some.split(31))):
        block[1:1 + len(part)] = part
    return blocks.view(-1)[:size]


def data(size):
    """Tensors in fp32, of every kind of number."""
    random = torch.randn(size)
    yield "random", random
    yield "wide", random * torch.exp(8 * torch.randn(size))
    yield "tiny", random * 1e-30
    yield "huge", random * 3e34
    yield "denormal", random * 1e-40
    yield "least", (random * 3).round() * 2.0**-149
    yield "constant", torch.full((size,), -0.37)
    yield "zeros", torch.zeros(size)
    yield "zeros in part", torch.where(torch.arange(size) // 64 % 3 == 1, 0.0, random)
    yield "midpoints", midpoints(size)


def cases():
    torch.manual_seed(1)
    for kind, dtype, size in itertools.product(KINDS, DTYPES, SIZES):
        for name, numbers in data(size):
            yield f"{kind} {name}", kind, 64, finite(numbers, dtype)
    for kind, block_size in itertools.product(KINDS, BLOCK_SIZES):
        yield f"{kind} blocks", kind, block_size, torch.randn(10001)
        yield f"{kind} blocks", kind, block_size, midpoints(10016)


def finite(numbers, dtype):
    limit = torch.finfo(dtype).max
    return numbers.clamp(-limit, limit).to(dtype)


def run_probe(probe, inputs):
    given = io.BytesIO()
    for _, kind, block_size, numbers in inputs:
        dtype = str(numbers.dtype).removeprefix("torch.")
        given.write(f"{kind} {block_size} {dtype} {len(numbers)}\n".encode())
        given.write(numbers.view(torch.uint8).numpy().tobytes())
    run = subprocess.run([probe], check=True, input=given.getvalue(), capture_output=True)
    return io.BytesIO(run.stdout)


def read(stream, count, dtype):
    numpy_dtype = {**NUMPY, torch.uint8: numpy.uint8}[dtype]
    taken = stream.read(count * numpy.dtype(numpy_dtype).itemsize)
    return torch.from_numpy(numpy.frombuffer(taken, numpy_dtype).copy()).view(dtype)


def same(ours, theirs):
    """Equal bits, or zeros of either sign: bitsandbytes' kernels differ in that of FP4's code 8.

    With AVX-512, its bf16 kernel takes denormals for zeros; ours need not.
    """
    equal = (ours == theirs) & (ours.signbit() == theirs.signbit()) | (ours == 0) & (theirs == 0)
    if ours.dtype == torch.bfloat16:
        equal |= (theirs == 0) & (ours.float().abs() < torch.finfo(torch.float32).tiny)
    return ours.shape == theirs.shape and bool(equal.all())


def dequantised(packed, state, absmax, dtype):
    """By bitsandbytes, in one row: with several, its AVX-512 kernel wants rows of whole blocks."""
    plain = functional.QuantState(absmax=absmax, shape=state.shape, code=state.code,
                                  blocksize=state.blocksize, quant_type=state.quant_type,
                                  dtype=dtype)
    return functional.dequantize_4bit(packed, plain).view(-1)


def check(stream, kind, block_size, numbers):
    """Yields what differs."""
    packed, plain = functional.quantize_4bit(numbers, blocksize=block_size, quant_type=kind)
    nested_packed, nested = functional.quantize_4bit(
        numbers, blocksize=block_size, quant_type=kind, compress_statistics=True)
    blocks = len(plain.absmax)
    theirs_again = functional.dequantize_blockwise(nested.absmax, nested.state2) + nested.offset

    def differs(theirs, dtype):
        ours = read(stream, theirs.numel(), dtype)
        if dtype == torch.uint8:
            return not torch.equal(ours, theirs.view(-1))
        return not same(ours, theirs.view(-1))

    if differs(packed, torch.uint8) or not torch.equal(packed, nested_packed):
        yield "codes"
    if differs(plain.absmax, torch.float32):
        yield "absmax"
    ours_codes = read(stream, blocks, torch.uint8)
    # The codes of a block of zeros have no meaning.
    meaning = nested.state2.absmax.repeat_interleave(256)[:blocks] != 0
    if not torch.equal(ours_codes[meaning], nested.absmax[meaning]):
        yield "codes of the absmax"
    if differs(nested.state2.absmax, torch.float32):
        yield "absmax of the absmax"
    if differs(nested.offset, torch.float32):
        yield "offset"
    if differs(theirs_again, torch.float32):
        yield "dequantised absmax"
    for absmax, dtype in itertools.product((plain.absmax, theirs_again),
                                           (torch.float32, torch.bfloat16)):
        if differs(dequantised(packed, plain, absmax, dtype), dtype):
            yield f"{dtype} of {'plain' if absmax is plain.absmax else 'quantised'} absmax"


def main():
    torch.set_num_threads(1)  # More may add in another order for the mean.
    inputs = list(cases())
    stream = run_probe(sys.argv[1], inputs)
    failed = 0
    for name, kind, block_size, numbers in inputs:
        for what in check(stream, kind, block_size, numbers):
            print(f"{name}, {numbers.dtype}, {len(numbers)} in {block_size}: other {what}")
            failed += 1
    failed += bool(stream.read())
    print(f"{len(inputs)} cases, {failed} differences")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
