# SPDX-License-Identifier: Apache-2.0
"""Compares the learning-rate schedules with those of transformers at every step.

A warm-up of theirs begins at zero, which wastes a step. Ours is one step ahead: during the warm-up
a step has the rate of their next one, and after it the rate of theirs.
"""

import math
import subprocess
import sys

import torch
from transformers import optimization


def transformers_rates(shape, warmup, floor, decay_ratio, num_steps):
    """The multipliers for steps 0 to num_steps."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    if shape == "constant":
        schedule = optimization.get_constant_schedule_with_warmup(optimizer, warmup)
    elif shape == "linear":
        assert floor == 0.0
        schedule = optimization.get_linear_schedule_with_warmup(optimizer, warmup, num_steps)
    elif shape == "cosine":
        schedule = optimization.get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, warmup, num_steps, min_lr_rate=floor
        )
    else:
        schedule = optimization.get_wsd_schedule(
            optimizer,
            warmup,
            math.ceil(num_steps * decay_ratio),
            num_training_steps=num_steps,
            min_lr_ratio=floor,
        )
    rates = []
    for _ in range(num_steps + 1):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def main():
    probe = sys.argv[1]
    failures = 0
    cases = [
        (shape, warmup, floor, decay_ratio, num_steps)
        for shape in ("constant", "linear", "cosine", "wsd")
        for warmup in (0, 1, 7)
        for floor in ((0.0,) if shape == "linear" else (0.0, 0.1))
        for decay_ratio in (0.0, 0.1, 0.25)
        for num_steps in (10, 101)
        if shape == "wsd" or decay_ratio == 0.1
    ]
    given = "".join(" ".join(map(str, case)) + "\n" for case in cases)
    command = [probe, "schedule"]
    printed = subprocess.run(command, check=True, input=given, capture_output=True, text=True)
    for case, line in zip(cases, printed.stdout.splitlines(), strict=True):
        ours = [float(word) for word in line.split()]
        theirs = transformers_rates(*case)
        warmup = case[1]
        theirs[:warmup] = theirs[1 : warmup + 1]
        for step, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            if abs(our - their) <= 1e-14:
                continue
            print(f"{case}: step {step} has {our}, transformers {their}")
            failures += 1
            break
    print(f"{len(cases)} schedules, {failures} of them differ")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
