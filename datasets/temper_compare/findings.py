# SPDX-License-Identifier: Apache-2.0
"""What the figures say, in sentences that fixed rules write: a difference counts where zero lies
outside of its interval, whoever loses."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .bootstrap import Estimate, Sample
from .table import Row

TRAINED = ("fine-tuning", "fine-tuning and retrieval")
SEEKING = ("in-context", "retrieval")


@dataclass(frozen=True)
class Figure:
    """A column of the table of which more is better."""

    title: str
    of: Callable[[Row], Sample]
    unit: str  # behind a number
    points: str = ""  # behind a difference, if that is another unit
    scale: float = 1.0

    def number(self, value: float, unit: str | None = None) -> str:
        digits = 2 if self.scale == 1 else 0
        return f"{value * self.scale:.{digits}f}{self.unit if unit is None else unit}"

    def difference(self, by: Estimate) -> str:
        """`0.31 nats a token (0.12 to 0.50)`: a difference and its interval."""
        low, high = self.number(by.low, ""), self.number(by.high, "")
        return f"{self.number(by.value, self.points or self.unit)} ({low} to {high})"


RIGHT = Figure("Log-likelihood of the right answer", lambda row: row.right, " nats a token")
F1 = Figure("Words in common with the right answer (F1)", lambda row: row.f1, " %", " points", 100)
SUPPORTED = Figure(
    "Answers that the manual supports", lambda row: row.supported, " %", " points", 100
)
KNOWLEDGE = Figure("Knowledge of the very question", lambda row: row.knowledge, " nats a token")
FORMAT = Figure("Format of the answers", lambda row: row.other, " nats a token")


def write_findings(rows: list[Row]) -> list[tuple[str, list[str]]]:
    """Titles and the sentences below them."""
    parts = [(figure.title, rank(figure, rows)) for figure in (RIGHT, F1, SUPPORTED)]
    parts += [
        ("Fine-tuning beside looking it up", beside(rows)),
        ("Questions that the manual does not answer", on_abstention(rows)),
        ("What an answer costs", on_cost(rows)),
        ("When the manual changes", on_updates(rows)),
        ("How far this reaches", on_power(rows)),
    ]
    return [(title, sentences) for title, sentences in parts if sentences]


def best_of(rows: list[Row], figure: Figure, *families: str) -> Row | None:
    """The row with the highest mean, of these families or of all."""
    chosen = [row for row in rows if not families or row.family in families]
    return max(chosen, key=lambda row: figure.of(row).mean, default=None)


def listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def rank(figure: Figure, rows: list[Row]) -> list[str]:
    """The best arm, which others it beats beyond the interval, and which not."""
    best = best_of(rows, figure)
    others = [(row, figure.of(best).minus(figure.of(row))) for row in rows if row is not best]
    behind = [f"{row.name} by {figure.difference(by)}" for row, by in others if by.differs]
    level = [row.name for row, by in others if not by.differs]
    said = [f"{best.name} is the highest, with {figure.number(figure.of(best).mean)}."]
    if behind:
        said.append(f"Beyond the interval it is above {listed(behind)}.")
    if level:
        said.append(f"It does not differ beyond the interval from {listed(level)}.")
    return said


def beside(rows: list[Row]) -> list[str]:
    """The best trained arm beside the best one that looks things up, and with passages itself."""
    said = []
    for figure in (RIGHT, F1):
        trained = best_of(rows, figure, "fine-tuning")
        seeking = best_of(rows, figure, *SEEKING)
        if not trained or not seeking:
            continue
        by = figure.of(trained).minus(figure.of(seeking))
        verdict = "wins" if by.low > 0 else "loses" if by.high < 0 else "does not differ"
        way = "against" if by.differs else "beyond the interval from"
        said.append(
            f"{figure.title}: fine-tuning ({trained.name}) {verdict} {way} {seeking.name}, "
            f"a difference of {figure.difference(by)}."
        )
    for row in rows:
        if row.found and row.family == "retrieval":
            said.append(f"The passages of {row.name} contain the right answer to "
                        f"{100 * row.found.mean:.0f} % of the questions.")  # fmt: skip
    for row in rows:
        alone = next((r for r in rows if row.name == f"{r.name} + retrieval"), None)
        if row.family != TRAINED[1] or not alone:
            continue
        by = F1.of(row).minus(F1.of(alone))
        do = "raise" if by.low > 0 else "lower" if by.high < 0 else "do not change"
        end = "" if by.differs else " beyond the interval"
        said.append(f"Passages {do} the F1 of {alone.name}{end}, a difference of "
                    f"{F1.difference(by)}.")  # fmt: skip
    return said


def on_abstention(rows: list[Row]) -> list[str]:
    asked = [row for row in rows if row.abstains]
    if not asked:
        return []
    silent = [row for row in asked if row.abstains.mean > 0]
    count = asked[0].abstains.values.shape[1]
    head = f"Of {count} questions about names that the manual does not know, "
    if silent:
        shares = [f"{row.name} abstained on {100 * row.abstains.mean:.0f} %" for row in silent]
        said = [f"{head}{listed(shares)}."]
        never = [row.name for row in asked if row not in silent]
        said += [f"{listed(never)} answered all of them."] if never else []
    else:
        said = [f"{head}no arm abstained on any: each answer to them is invented."]
    wrong = [f"{row.name} on {100 * row.silent.mean:.0f} %" for row in asked if row.silent.mean]
    said += [f"On questions with an answer, there abstained {listed(wrong)}."] if wrong else []
    start = next((row for row in asked if row.family == "nothing"), None)
    for row in asked:
        if not start or row.family not in TRAINED:
            continue
        by = row.confidence.minus(start.confidence)
        how = "more" if by.low > 0 else "less" if by.high < 0 else "neither more nor less"
        said.append(
            f"{row.name} gives its answers there {row.confidence.mean:.2f} of probability a token, "
            f"{start.name} {start.confidence.mean:.2f}: fine-tuning made it {how} sure of what it "
            "cannot know."
        )
    return said


def on_cost(rows: list[Row]) -> list[str]:
    trained = best_of(rows, RIGHT, "fine-tuning")
    seeking = best_of(rows, RIGHT, *SEEKING)
    if not trained or not seeking:
        return []
    saved = seeking.answer_seconds - trained.answer_seconds
    said = [
        f"{seeking.name} reads {seeking.prompt_tokens:.0f} tokens for an answer and takes "
        f"{seeking.answer_seconds:.2f} s, {trained.name} {trained.prompt_tokens:.0f} tokens and "
        f"{trained.answer_seconds:.2f} s."
    ]
    if saved <= 0:
        said.append("Answers of the trained model are no cheaper, so training never pays for itself"
                    " by that.")  # fmt: skip
    elif trained.cost.seconds:
        count = trained.cost.seconds / saved
        said.append(f"{trained.cost.seconds:.0f} s of training are as long as what about "
                    f"{count:,.0f} answers save.")  # fmt: skip
    return said


def on_updates(rows: list[Row]) -> list[str]:
    changed = [row for row in rows if row.before]
    said = []
    for row in changed:
        count = row.before.values.size // row.before.values.shape[0]
        before = f"{100 * row.before.mean:.0f} %"
        if row.after is None:
            said.append(f"{row.name} has no way to learn of a change: it prefers {before} of "
                        f"{count} new answers, as before.")  # fmt: skip
            continue
        by = row.after.minus(Sample(row.before.values[: len(row.after.values)], row.before.arm))
        how = "a run of" if row.family == "fine-tuning" else "a new index in"
        verdict = "" if by.differs else ", which is no difference beyond the interval"
        said.append(
            f"{row.name}: after {how} {duration(row.update_seconds)}, "
            f"{100 * row.after.mean:.0f} % of {count} new answers are more "
            f"probable than the old ones, {before} before{verdict}."
        )
    return said


def on_power(rows: list[Row]) -> list[str]:
    """How small a difference from the best arm may be and still be seen."""
    questions = rows[0].right.values.shape[1]
    said = []
    for figure in (RIGHT, F1):
        best = best_of(rows, figure)
        widths = [by.high - by.low for row in rows if row is not best
                  for by in [figure.of(best).minus(figure.of(row))]]  # fmt: skip
        if widths:
            half = figure.number(float(np.median(widths)) / 2, figure.points or None)
            said.append(f"{figure.title}: of {questions} questions, differences below about {half} "
                        "cannot be told from none.")  # fmt: skip
    if all(len(row.right.values) == 1 for row in rows):
        said.append("Each arm has one seed, so intervals are of questions alone.")
    return said
