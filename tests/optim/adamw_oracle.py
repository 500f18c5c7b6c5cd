# SPDX-License-Identifier: Apache-2.0
"""Compares 20 AdamW steps with torch.optim.AdamW, element by element."""

import subprocess
import sys

import numpy
import torch

SIZE = 10007
STEPS = 20


def torch_steps(parameters, gradients, rate, beta1, beta2, epsilon, decay):
    """Parameters after each step: [step, element]."""
    parameter = torch.nn.Parameter(parameters.clone())
    optimizer = torch.optim.AdamW(
        [parameter],
        lr=rate,
        betas=(beta1, beta2),
        eps=epsilon,
        weight_decay=decay,
        foreach=False,
        fused=False,
    )
    after = []
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        after.append(parameter.detach().clone())
    return torch.stack(after)


def probe_steps(probe, parameters, gradients, *options):
    command = [probe, "adamw", str(SIZE), str(STEPS), *map(str, options)]
    given = parameters.numpy().tobytes() + gradients.numpy().tobytes()
    written = subprocess.run(command, check=True, input=given, capture_output=True).stdout
    return torch.from_numpy(numpy.frombuffer(written, numpy.float32).copy()).view(STEPS, SIZE)


def main():
    probe = sys.argv[1]
    torch.manual_seed(1)
    parameters = torch.randn(SIZE)
    gradients = torch.randn(STEPS, SIZE) * torch.exp(3 * torch.randn(SIZE))
    failed = False
    for options in ((1e-3, 0.9, 0.95, 1e-8, 0.1), (2e-2, 0.9, 0.999, 1e-6, 0.0)):
        ours = probe_steps(probe, parameters, gradients, *options)
        theirs = torch_steps(parameters, gradients, *options)
        # A step changes a parameter by about the rate; all rounding is small against that and
        # against the parameter.
        bound = theirs.abs() * 2**-22 + options[0] * STEPS * 1e-6
        worst = ((ours - theirs).abs() / bound).max().item()
        print(f"{options}: {worst:.2f} of the bound")
        failed |= not worst <= 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
