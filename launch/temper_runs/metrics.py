# SPDX-License-Identifier: Apache-2.0
"""metrics.jsonl of a run: its steps and evaluations, as numbers that can be drawn."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from .json_lines import read_json_lines

# Of a step's line, beside "kind" and "step": numbers, and what is true or false.
STEP_FIELDS = (
    "loss", "grad_norm", "learning_rate", "num_targets", "num_tokens", "updated", "seconds",
    "data_seconds", "tokens_per_second", "limit_share", "forward_seconds", "backward_seconds",
    "exchange_seconds", "update_seconds", "save_seconds", "bytes_sent", "num_padding",
    "straggler_seconds", "slowest_rank", "cpu_joules",
)  # fmt: skip
# Of a step's line: lists by source, in the order of the run's line, and by powers of two.
LIST_FIELDS = ("source_losses", "source_targets", "document_lengths")
# Of a step's line every so many steps: numbers by the names of the model's units.
UNIT_FIELDS = ("unit_grad_norms", "unit_update_ratios")
EVALUATION_FIELDS = ("name", "loss", "perplexity", "num_targets", "forgetting")
MAX_STEP = 10**15  # what is more is no step; arbitrary

Points = list[tuple[int, float]]  # (step, value), by step


def number_of(value) -> float:
    """NaN for null, which stands for a number that was not finite, and for what is no number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        return float(value) if is_number else math.nan
    except OverflowError:
        return math.nan


@dataclass
class Metrics:
    """The lines of both kinds by step, and in words what was left out."""

    steps: list[dict] = field(default_factory=list)
    evaluations: list[dict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    run: dict = field(default_factory=dict)  # what holds for all steps; of the last job
    samples: list[dict] = field(default_factory=list)  # answers to train.sample_prompts, by step

    @property
    def last_step(self) -> int:
        return max((entry["step"] for entry in (*self.steps, *self.evaluations)), default=0)

    def points(self, name: str) -> Points:
        """One field of the steps, where it is finite."""
        return finite((entry["step"], number_of(entry.get(name))) for entry in self.steps)

    def holdouts(self) -> list[str]:
        """Names, in the order of the file."""
        return list(dict.fromkeys(entry["name"] for entry in self.evaluations))

    def holdout_points(self, name: str, field_name: str) -> Points:
        chosen = (entry for entry in self.evaluations if entry["name"] == name)
        return finite((entry["step"], number_of(entry.get(field_name))) for entry in chosen)

    def forgetting(self, name: str) -> Points:
        """Of a general hold-out: nothing at its first evaluation, whose line does not say so."""
        told = self.holdout_points(name, "forgetting")
        begin = [(step, 0.0) for step, _ in self.holdout_points(name, "loss")[:1]]
        return sorted({**dict(begin), **dict(told)}.items()) if told else []

    def by_unit(self, field_name: str) -> dict[str, Points]:
        """One of UNIT_FIELDS by the units' names, where it was logged."""
        found: dict[str, Points] = {}
        for entry in self.steps:
            norms = entry.get(field_name)
            for name, value in norms.items() if isinstance(norms, dict) else ():
                found.setdefault(name, []).append((entry["step"], number_of(value)))
        return {name: finite(points) for name, points in found.items()}

    def sources(self) -> list[str]:
        """What losses are told apart by; empty where there is one source."""
        names = self.run.get("sources")
        names = [str(name) for name in names] if isinstance(names, list) else []
        return names if len(names) > 1 else []

    def source_points(self, place: int, field_name: str) -> Points:
        """Of one source, where a step has targets of it."""
        return finite((entry["step"], value_at(entry.get(field_name), place))
                      for entry in self.steps)  # fmt: skip

    def document_lengths(self) -> list[int]:
        """[k]: documents of 2^k tokens or more, but less than 2^(k + 1), in all steps."""
        sums: list[int] = []
        for entry in self.steps:
            counts = entry.get("document_lengths")
            for place, count in enumerate(counts[:64] if isinstance(counts, list) else ()):
                sums += [0] * (place + 1 - len(sums))
                sums[place] += int(number_of(count)) if math.isfinite(number_of(count)) else 0
        return sums

    def other_fields(self) -> list[str]:
        """Numbers of the steps that a newer program, or another one, wrote beside ours."""
        names = dict.fromkeys(name for entry in self.steps for name in entry)
        known = {"kind", "step", *STEP_FIELDS}
        return [name for name in names if name not in known and self.points(name)]

    def tokens(self) -> Points:
        """How many tokens had been trained on after each step."""
        total, made = 0.0, []
        for entry in self.steps:
            tokens = number_of(entry.get("tokens_per_second")) * number_of(entry.get("seconds"))
            total += round(tokens) if math.isfinite(tokens) else 0
            made.append((entry["step"], total))
        return made

    def skipped(self) -> list[int]:
        """Steps without an update."""
        return [entry["step"] for entry in self.steps if entry.get("updated") is False]


def value_at(values, place: int) -> float:
    has_it = isinstance(values, list) and place < len(values)
    return number_of(values[place]) if has_it else math.nan


def finite(points) -> Points:
    return [(step, value) for step, value in points if math.isfinite(value)]


def is_step(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_STEP


def read_metrics(path: Path) -> Metrics:
    """Raises OSError."""
    lines = read_json_lines(path)
    metrics = Metrics(problems=[lines.problem(path.name)] if lines.torn else [])
    steps, evaluations, samples, foreign = {}, {}, {}, 0
    for entry in lines.entries:
        kind, step = entry.get("kind"), entry.get("step")
        if kind == "step" and is_step(step):
            steps[step] = entry
        elif kind == "run" and is_step(step):
            metrics.run = entry
        elif kind == "samples" and is_step(step) and isinstance(entry.get("samples"), list):
            samples[step] = entry
        elif kind == "evaluation" and is_step(step) and isinstance(entry.get("name"), str):
            evaluations[step, entry["name"]] = entry
        else:
            foreign += 1
    if foreign:
        metrics.problems.append(
            f"{path.name}: {foreign} {'object is' if foreign == 1 else 'objects are'} no step and "
            "no evaluation, and left out"
        )
    metrics.steps = [steps[step] for step in sorted(steps)]
    metrics.evaluations = [evaluations[key] for key in sorted(evaluations, key=lambda key: key[0])]
    metrics.samples = [samples[step] for step in sorted(samples)]
    metrics.problems += find_strange_values(metrics)
    return metrics


def find_strange_values(metrics: Metrics) -> list[str]:
    """Values of our own fields that are no numbers, and fields that are not ours."""
    problems, strange, others = [], {}, {}
    for entry in metrics.steps:
        for name, value in entry.items():
            if name in ("kind", "step", "updated", *UNIT_FIELDS, *LIST_FIELDS):
                continue
            is_number = value is None or isinstance(value, (int, float))
            if name in STEP_FIELDS and not is_number:
                strange[name] = strange.get(name, 0) + 1
            elif name not in STEP_FIELDS:
                others[name] = None
    for name, count in strange.items():
        problems.append(f"{name} is no number in {count} of {len(metrics.steps)} steps")
    drawn = set(metrics.other_fields())
    unknown = [name for name in others if name not in drawn]
    if unknown:
        names = ", ".join(unknown[:10])
        problems.append(f"fields of the steps that are not known and no numbers: {names}")
    return problems
