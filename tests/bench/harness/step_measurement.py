# SPDX-License-Identifier: Apache-2.0
"""What the runs of one step amount to, and whether they did the same."""

from statistics import median

from measurement import Measurement, label
from report import MEMORY_COLUMNS, Column, number

LIMIT = "matrix products"
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}  # Of the losses of the first two steps.


class StepMeasurement(Measurement):
    """A row of step's table."""

    def seconds(self) -> list[float]:
        """Every step of every run but the first of each, which warms up."""
        return [seconds for result in self.results for seconds in result.seconds[1:]]

    def losses(self) -> list[float]:
        """Of the first two steps: the second one tells that the first update was the same."""
        return self.results[0].losses[:2]


def to_records(rows: list[StepMeasurement]) -> list[dict]:
    """The entries of step.json."""
    records = [to_record(row) for row in rows]
    limits = {layout(record): record for record in records if record["system"] == LIMIT}
    for record in records:
        rate, limit = record["tokens_per_second"], limits.get(layout(record), {})
        if rate and limit.get("tokens_per_second"):
            record["share_of_limit"] = rate / limit["tokens_per_second"]
    return records


def layout(record: dict) -> tuple:
    return record["ranks"], record["threads"], record["dtype"]


def to_record(row: StepMeasurement) -> dict:
    tokens_per_step = row.task.tokens_per_step
    seconds = row.seconds() if row.is_complete else []
    return row.record_start() | {
        "tokens_per_step": tokens_per_step,
        "tokens_per_second": tokens_per_step / median(seconds) if seconds else None,
        "share_of_limit": None,
        "step_seconds_median": median(seconds) if seconds else None,
        "step_seconds_min": min(seconds) if seconds else None,
        "first_losses": row.losses() or None if row.is_complete else None,
    }


def disagreements(records: list[dict]) -> list[str]:
    """Systems that saw another loss than the first one of their dtype: not the same step."""
    messages = []
    for dtype, tolerance in TOLERANCE.items():
        trained = [r for r in records if r["dtype"] == dtype and r["first_losses"]]
        for record in trained[1:]:
            expected = trained[0]["first_losses"]
            gaps = [abs(a - b) for a, b in zip(expected, record["first_losses"])]
            if not max(gaps) <= tolerance:  # Written so that NaN disagrees.
                messages.append(
                    f"NOT THE SAME STEP: {label(record)} has losses {format_losses(record)},"
                    f" {label(trained[0])} has {format_losses(trained[0])} ({dtype})"
                )
    return messages


def format_losses(record: dict) -> str:
    return " ".join(f"{loss:.4f}" for loss in record["first_losses"] or []) or "-"


COLUMNS = (
    Column("tokens/s", number("tokens_per_second", ".1f")),
    Column("s/step", number("step_seconds_median", ".3f")),
    Column("min", number("step_seconds_min", ".3f")),
    Column("of limit", number("share_of_limit", ".0%")),
    *MEMORY_COLUMNS,
    Column("losses", format_losses),
)
