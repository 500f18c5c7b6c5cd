# SPDX-License-Identifier: Apache-2.0
"""What passes over the conversations amount to, and whether they trained on the same ones."""

from statistics import median

from measurement import Measurement, label
from report import MEMORY_COLUMNS, Column, number
from run import Result

TOLERANCE = 0.1  # Passes differ in their order.
FIGURES = (
    "tokens_per_second", "tokens_per_second_max", "measured_tokens", "measured_seconds",
    "num_steps", "pass_tokens", "pass_targets", "mean_loss",
)  # fmt: skip


def rate_of(result: Result) -> float:
    """Useful tokens per second, without the first step, which warms up."""
    return sum(result.tokens[1:]) / sum(result.seconds[1:])


def mean_loss(result: Result) -> float:
    """Of all steps' targets."""
    weighted = (loss * targets for loss, targets in zip(result.losses, result.targets))
    return sum(weighted) / sum(result.targets)


def to_record(row: Measurement) -> dict:
    """An entry of sft.json; numbers are null where there is none."""
    record = row.record_start() | dict.fromkeys(FIGURES)
    if not row.is_complete:
        return record
    rates = [rate_of(result) for result in row.results]
    first = row.results[0]
    return record | {
        "tokens_per_second": median(rates),
        "tokens_per_second_max": max(rates),
        "measured_tokens": sum(first.tokens[1:]),
        "measured_seconds": median(sum(result.seconds[1:]) for result in row.results),
        "num_steps": len(first.seconds),
        "pass_tokens": sum(first.tokens),
        "pass_targets": sum(first.targets),
        "mean_loss": mean_loss(first),
    }


def disagreements(records: list[dict]) -> list[str]:
    """Systems whose mean loss is not that of the first one of their method and dtype."""
    messages = []
    first = {}
    for record in records:
        loss = record["mean_loss"]
        if loss is None:
            continue
        expected = first.setdefault((record["method"], record["dtype"]), record)
        # Written so that NaN disagrees.
        if not abs(loss - expected["mean_loss"]) <= TOLERANCE:
            messages.append(
                f"NOT THE SAME TRAINING: {label(record)} has a mean loss of {loss:.4f},"
                f" {label(expected)} of {expected['mean_loss']:.4f}"
                f" ({record['method']}, {record['dtype']})"
            )
    return messages


COLUMNS = (
    Column("method", lambda record: record["method"]),
    Column("useful tokens/s", number("tokens_per_second", ".1f")),
    Column("max", number("tokens_per_second_max", ".1f")),
    Column("tokens", number("measured_tokens", "d")),
    Column("steps", number("num_steps", "d")),
    *MEMORY_COLUMNS,
    Column("mean loss", number("mean_loss", ".4f")),
)
