# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning, examples in the prompt and retrieval are for, with measured cells."""

from .bootstrap import Estimate
from .findings import F1, FORMAT, KNOWLEDGE, RIGHT, SEEKING, Figure, best_of, duration
from .table import Row

WAYS = ("fine-tuning", *SEEKING)
HEADS = ("property", *WAYS)
GAINS = {"adding knowledge": KNOWLEDGE, "changing format": FORMAT}


def make_properties(rows: list[Row]) -> list[list[str]]:
    """Rows of text: the property, then a cell for each of WAYS."""
    chosen = {way: best_of(rows, RIGHT, way) for way in WAYS}
    start = best_of(rows, RIGHT, "nothing")
    arms = ["measured on", *(row.name if row else "not compared" for row in chosen.values())]
    lines = [arms]
    if start:
        lines += [
            [name, *(gain(figure, row, start) if row else "" for row in chosen.values())]
            for name, figure in GAINS.items()
        ]
    lines.append(["cost", *(cost(row) if row else "" for row in chosen.values())])
    lines.append(["updating", *(updating(row) if row else "" for row in chosen.values())])
    lines.append(["best use", *(best_use(way, chosen, start) for way in WAYS)])
    return lines


def gain(figure: Figure, row: Row, start: Row) -> str:
    by = figure.of(row).minus(figure.of(start))
    return f"{verdict(by)}: {figure.difference(by)}"


def verdict(by: Estimate) -> str:
    return "more" if by.low > 0 else "less" if by.high < 0 else "no difference"


def cost(row: Row) -> str:
    said = f"{row.prompt_tokens:.0f} tokens and {row.answer_seconds:.2f} s an answer"
    if row.cost.seconds:
        said += f", after {row.cost.seconds:.0f} s of training"
    return f"{said}; {row.cost.stored_bytes / 1e6:,.2f} MB stored"


def updating(row: Row) -> str:
    if not row.before:
        return "not measured"
    if row.after is None:
        return "a change does not reach it"
    shares = f"{100 * row.before.mean:.0f} to {100 * row.after.mean:.0f} % of new answers preferred"
    return f"{duration(row.update_seconds)}: {shares}"


def best_use(way: str, chosen: dict[str, Row | None], start: Row | None) -> str:
    """What it is not behind in: no other way is above it beyond the interval."""
    row = chosen[way]
    if row is None or start is None:
        return ""
    others = [other for other in chosen.values() if other and other is not row]
    figures = {**GAINS, "right words": F1}
    good = []
    for name, figure in figures.items():
        is_gain = figure.of(row).minus(figure.of(start)).low > 0
        if is_gain and not any(figure.of(o).minus(figure.of(row)).low > 0 for o in others):
            good.append(name)
    if all(row.answer_seconds <= other.answer_seconds for other in others):
        good.append("many answers: each is the cheapest")
    updated = [other for other in (row, *others) if other.after]
    follows = row.after and row.after.mean > row.before.mean
    if follows and all(row.update_seconds <= other.update_seconds for other in updated):
        good.append("what changes: it follows soonest")
    return "; ".join(good) or "nothing here: others are above it"
