# SPDX-License-Identifier: Apache-2.0
"""The table for a terminal and for Markdown."""

from .bootstrap import Sample
from .findings import duration
from .table import Row

HEADS = (
    "arm", "log-likelihood", "F1", "supported", "abstains: no answer", "answer there",
    "prompt tokens", "s an answer", "training s", "stored MB", "after an edit", "until then",
)  # fmt: skip


def make_text_table(rows: list[Row]) -> str:
    """Columns of one width each. Intervals of 95 % of the first two figures."""
    lines = [HEADS, *map(cells, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEADS))]
    made = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines]  # fmt: skip
    made.insert(1, "-|-".join("-" * width for width in widths))
    return "".join(f"| {line} |\n" if n != 1 else f"|-{line}-|\n" for n, line in enumerate(made))


def cells(row: Row) -> tuple[str, ...]:
    updated = f"{percent(row.before)} to {percent(row.after)}" if row.after else percent(row.before)
    return (
        row.name, interval(row.right, 1, 2), interval(row.f1, 100, 0), percent(row.supported),
        percent(row.abstains), percent(row.silent), f"{row.prompt_tokens:.0f}",
        f"{row.answer_seconds:.2f}", f"{row.cost.seconds:.0f}",
        f"{row.cost.stored_bytes / 1e6:.2f}", updated,
        duration(row.update_seconds) if row.after else "never" if row.before else "",
    )  # fmt: skip


def interval(sample: Sample, scale: float, digits: int) -> str:
    found = sample.estimate()
    value, low, high = (f"{v * scale:.{digits}f}" for v in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def percent(sample: Sample | None) -> str:
    return "" if sample is None else f"{100 * sample.mean:.0f} %"
