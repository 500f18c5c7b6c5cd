# SPDX-License-Identifier: Apache-2.0
"""Moments in fewer bits: bitsandbytes' block-wise 8 bits, and a bfloat16 that is rounded by chance.

The codes have the bits of the published algorithm on bitsandbytes' maps, but for two changes that
zero/eight_bit.h tells. bitsandbytes' own library for CPUs rounds to 1 in 65536 before it searches:
it serves as a bound for the error, and for what an optimizer of it makes of the same gradients.
"""

import subprocess
import sys

import numpy
import torch
from bitsandbytes import functional

SIZE = 40 * 256 + 100
STEPS = 20
BLOCK = 256
SIGNED = functional.create_dynamic_map(signed=True).numpy()
UNSIGNED = functional.create_dynamic_map(signed=False).numpy()
failures = []


def expect(holds, what):
    print(("ok   " if holds else "FAIL ") + what)
    if not holds:
        failures.append(what)


def call(probe, arguments, *arrays):
    given = b"".join(array.astype(numpy.float32).tobytes() for array in arrays)
    run = subprocess.run(
        [probe, *map(str, arguments)], check=True, input=given, capture_output=True
    )
    return run.stdout


def quantise(numbers, is_signed):
    """Codes [n] and scales [blocks]; the last block may be shorter."""
    values = SIGNED.copy() if is_signed else UNSIGNED
    if is_signed:
        values[0] = -1
    bounds = (values[1:] + values[:-1]) / numpy.float32(2)
    padded = numpy.zeros(-(-len(numbers) // BLOCK) * BLOCK, numpy.float32)
    padded[: len(numbers)] = numbers
    blocks = padded.reshape(-1, BLOCK)
    scales = numpy.abs(blocks).max(1)
    scales[scales < 2.0**-100] = 0
    inverse = numpy.divide(
        numpy.float32(1), scales, out=numpy.zeros_like(scales), where=scales > 0
    )
    scaled = (blocks * inverse[:, None]).clip(-1, 1)
    codes = numpy.searchsorted(bounds, scaled, side="left").astype(numpy.uint8)
    if not is_signed:
        codes = numpy.where((scaled > 0) & (codes == 0), 1, codes)
    return codes.reshape(-1)[: len(numbers)], scales, values


def dequantise(codes, scales, values):
    return values[codes] * numpy.repeat(scales, BLOCK)[: len(codes)]


def samples(is_signed):
    generator = numpy.random.default_rng(1)
    normal = generator.standard_normal(SIZE).astype(numpy.float32)
    wide = normal * numpy.exp(6 * generator.standard_normal(SIZE)).astype(numpy.float32)
    values = quantise(normal, is_signed)[2]
    bounds = (values[1:] + values[:-1]) / numpy.float32(2)
    beside = numpy.concatenate([numpy.nextafter(bounds, numpy.float32(k)) for k in (-2, 2)])
    all_bounds = numpy.resize(numpy.concatenate([bounds, beside]), SIZE).astype(numpy.float32)
    all_bounds[::BLOCK] = 1
    for name, numbers in {
        "normal": normal, "wide": wide, "tiny": normal * numpy.float32(1e-29),
        "least": normal * numpy.float32(1e-40), "huge": normal * numpy.float32(3e36),
        "sparse": numpy.where(numpy.arange(SIZE) % 300 == 0, normal, 0), "zeros": normal * 0,
        "at the bounds": all_bounds,
    }.items():  # fmt: skip
        yield name, numbers if is_signed else numpy.abs(numbers)


def check_codes(probe):
    for is_signed in (True, False):
        kind = "signed" if is_signed else "unsigned"
        for name, numbers in samples(is_signed):
            written = call(probe, ["encode", kind, SIZE], numbers)
            codes = numpy.frombuffer(written[:SIZE], numpy.uint8)
            scales = numpy.frombuffer(written[SIZE:], numpy.float32)
            wanted = quantise(numbers, is_signed)
            same = (codes == wanted[0]).all() and (scales == wanted[1]).all()
            expect(same, f"{kind} {name}: codes and scales of the published algorithm")
            if name not in ("normal", "wide"):
                continue
            ours = numpy.abs(dequantise(codes, scales, wanted[2]) - numbers)
            their_map = torch.from_numpy(SIGNED if is_signed else UNSIGNED)
            given, state = functional.quantize_blockwise(
                torch.from_numpy(numbers), code=their_map, blocksize=BLOCK
            )
            theirs = functional.dequantize_blockwise(given, state, blocksize=BLOCK).numpy()
            slack = numpy.repeat(scales, BLOCK)[:SIZE] * numpy.float32(1e-6)
            worse = ours > numpy.abs(theirs - numbers) + slack
            worse &= numbers > SIGNED[1] * slack * 1e6  # Where the maps are the same.
            expect(not worse.any(), f"{kind} {name}: no number is further off than by bitsandbytes")


def adamw(parameters, gradient, first, second, step, options):
    """In the order of temper's loop, each operation rounded to fp32."""
    rate, beta1, beta2, epsilon, decay = options
    f = numpy.float32
    first = first + f(1 - beta1) * (gradient - first)
    second = second * f(beta2) + f(1 - beta2) * gradient * gradient
    root = numpy.sqrt(second) / f(numpy.sqrt(1 - beta2**step)) + f(epsilon)
    change = f(rate / (1 - beta1**step)) * first / root
    return parameters * f(1 - rate * decay) - change, first, second


def philox(key, counters, upper):
    """Words [n, 4] of the counters' numbers, by Salmon et al., 2011."""
    mask = numpy.uint64(0xFFFFFFFF)
    shift = numpy.uint64(32)
    counters = counters.astype(numpy.uint64)
    words = [counters & mask, counters >> shift] + [
        numpy.full_like(counters, part) for part in upper
    ]
    key0, key1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        product0 = numpy.uint64(0xD2511F53) * words[0]
        product1 = numpy.uint64(0xCD9E8D57) * words[2]
        words = [
            (product1 >> shift) ^ words[1] ^ numpy.uint64(key0), product1 & mask,
            (product0 >> shift) ^ words[3] ^ numpy.uint64(key1), product0 & mask,
        ]  # fmt: skip
        key0 = (key0 + 0x9E3779B9) & 0xFFFFFFFF
        key1 = (key1 + 0xBB67AE85) & 0xFFFFFFFF
    return numpy.stack(words, 1).astype(numpy.uint32)


def round_by_chance(numbers, key, step, which):
    words = philox(key, numpy.arange(-(-len(numbers) // 8)), (step, which))
    bits = words.view(numpy.uint16).reshape(-1)[: len(numbers)].astype(numpy.uint32)
    carried = numbers.astype(numpy.float32).view(numpy.uint32) + bits
    return (carried & numpy.uint32(0xFFFF0000)).view(numpy.float32)


def probe_steps(probe, dtype, key, parameters, gradients, options):
    """[step, (parameters, first, second), element]"""
    written = call(
        probe, ["adamw", dtype, SIZE, STEPS, key, *options], parameters, *gradients
    )
    return numpy.frombuffer(written, numpy.float32).reshape(STEPS, 3, SIZE)


def check_bfloat16(probe, parameters, gradients, options):
    key = 0x123456789ABCDEF
    ours = probe_steps(probe, "bfloat16", key, parameters, gradients, options)
    p, m, v = parameters, numpy.zeros_like(parameters), numpy.zeros_like(parameters)
    same = True
    for step, gradient in enumerate(gradients, 1):
        p, m, v = adamw(p, gradient, m, v, step, options)
        m, v = (round_by_chance(moment, key, step, i) for i, moment in enumerate((m, v)))
        same &= all((a == b).all() for a, b in zip(ours[step - 1], (p, m, v)))
    expect(same, f"bfloat16 {options}: all bits of {STEPS} steps")


def check_int8(probe, parameters, gradients, options):
    ours = probe_steps(probe, "int8", 0, parameters, gradients, options)
    p, m, v = parameters, numpy.zeros_like(parameters), numpy.zeros_like(parameters)
    same = True
    for step, gradient in enumerate(gradients, 1):
        p, m, v = adamw(p, gradient, m, v, step, options)
        m, v = (dequantise(*quantise(x, k == 0)) for k, x in enumerate((m, v)))
        same &= all((a == b).all() for a, b in zip(ours[step - 1], (p, m, v)))
    expect(same, f"int8 {options}: all bits of {STEPS} steps")
    exact = torch_steps(torch.optim.AdamW, parameters, gradients, options, fused=False)
    theirs = bitsandbytes_steps(parameters, gradients, options)
    ours_off, theirs_off = (numpy.abs(x - exact).mean() for x in (ours[-1, 0], theirs))
    moved = numpy.abs(exact - parameters).mean()
    print(f"     of a mean way of {moved:.2e}, off fp32 by {ours_off:.1e}, theirs {theirs_off:.1e}")
    expect(ours_off < 0.05 * moved, f"int8 {options}: within 5 % of the way of fp32")
    expect(ours_off < 1.1 * theirs_off, f"int8 {options}: as near to fp32 as bitsandbytes")


def torch_steps(make, parameters, gradients, options, **more):
    rate, beta1, beta2, epsilon, decay = options
    parameter = torch.nn.Parameter(torch.from_numpy(parameters.copy()))
    optimizer = make(
        [parameter], lr=rate, betas=(beta1, beta2), eps=epsilon, weight_decay=decay, **more
    )
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
    return parameter.detach().numpy()


def bitsandbytes_steps(parameters, gradients, options):
    """What bitsandbytes' operator for CPUs, which its optimizers call, makes of the same."""
    rate, beta1, beta2, epsilon, decay = options
    p = torch.from_numpy(parameters.copy())
    codes = [torch.zeros(SIZE, dtype=torch.uint8) for _ in range(2)]
    scales = [torch.zeros(-(-SIZE // BLOCK)) for _ in range(2)]
    maps = torch.from_numpy(SIGNED.copy()), torch.from_numpy(UNSIGNED.copy())
    for step, gradient in enumerate(gradients, 1):
        functional.optimizer_update_8bit_blockwise(
            "adam", torch.from_numpy(gradient.copy()), p, *codes, beta1, beta2, 0.0, 0.0, epsilon,
            step, rate, *maps, *scales, weight_decay=decay,
        )  # fmt: skip
    return p.numpy()


def main():
    probe = sys.argv[1]
    generator = numpy.random.default_rng(2)
    parameters = generator.standard_normal(SIZE).astype(numpy.float32)
    sizes = numpy.exp(generator.standard_normal(SIZE))
    gradients = (generator.standard_normal((STEPS, SIZE)) * sizes).astype(numpy.float32)
    check_codes(probe)
    for options in ((1e-3, 0.9, 0.95, 1e-8, 0.1), (2e-2, 0.9, 0.999, 1e-6, 0.0)):
        check_bfloat16(probe, parameters, gradients, options)
        check_int8(probe, parameters, gradients, options)
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
