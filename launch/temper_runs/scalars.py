# SPDX-License-Identifier: Apache-2.0
"""A run as named curves, with the names that Hugging Face's Trainer gives them.

Its callbacks write `train/` before what a step logs and `eval/` before what an evaluation does
(transformers.integrations.integration_utils.rewrite_logs); tokens so far are its
`num_input_tokens_seen`.
"""

import math
import re
from dataclasses import dataclass

from .metrics import number_of
from .run_folder import Run

# Characters that TensorBoard's tags may have; others become _.
FOREIGN = re.compile(r"[^-A-Za-z0-9_./]")
UNIT_TAGS = {"unit_grad_norms": "grad_norm", "unit_update_ratios": "update_ratio"}
SOURCE_TAGS = {"source_losses": "loss", "source_targets": "num_targets"}
NO_NUMBERS = {"kind", "step", "name", "updated"}


@dataclass(frozen=True)
class Scalar:
    """One value. NaN was not finite."""

    tag: str
    step: int
    value: float
    seconds: float  # since 1970


def scalars_of(run: Run) -> list[Scalar]:
    """All values by step. When a step was, only the newest one's is known: that of the file; the
    others' follow from how long each took, so that pauses between jobs are left out."""
    metrics = run.metrics
    ends = step_times(run)
    made = []
    for entry in metrics.steps:
        made += values_of(entry, "train/", ends[entry["step"]])
        for field, tag in UNIT_TAGS.items():
            by_unit = entry.get(field)
            if isinstance(by_unit, dict):
                parts = {"step": entry["step"], **by_unit}
                made += values_of(parts, f"train/{tag}/", ends[entry["step"]])
    for place, name in enumerate(metrics.sources()):
        for field, tag in SOURCE_TAGS.items():
            tag = FOREIGN.sub("_", f"train/{tag}/{name.strip('/')}")
            made += [Scalar(tag, step, value, ends[step])
                     for step, value in metrics.source_points(place, field)]  # fmt: skip
    made += [
        Scalar("train/num_input_tokens_seen", step, total, ends[step])
        for step, total in metrics.tokens()
    ]
    first = min(ends.values(), default=end_of(run))
    for entry in metrics.evaluations:
        made += values_of(entry, f"eval/{entry['name']}/", ends.get(entry["step"], first))
    return sorted(made, key=lambda scalar: scalar.step)


def values_of(entry: dict, prefix: str, seconds: float) -> list[Scalar]:
    found = []
    for name, value in entry.items():
        is_number = value is None or math.isfinite(number_of(value))
        if name not in NO_NUMBERS and is_number:
            tag = FOREIGN.sub("_", prefix + name)
            found.append(Scalar(tag, entry["step"], number_of(value), seconds))
    return found


def end_of(run: Run) -> float:
    return (run.folder / "metrics.jsonl").stat().st_mtime


def step_times(run: Run) -> dict[int, float]:
    """When each step ended, in seconds since 1970."""
    end, times = end_of(run), {}
    for entry in reversed(run.metrics.steps):
        times[entry["step"]] = end
        took = number_of(entry.get("seconds"))
        end -= took if math.isfinite(took) else 0.0
    return times
