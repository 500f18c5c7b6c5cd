# SPDX-License-Identifier: Apache-2.0
"""All runs of one system at one dtype, and what they amount to."""

from dataclasses import dataclass, field
from statistics import median

from run import Result, RunError, Task

LIMIT = "matrix products"
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}  # Of the losses of the first two steps.


@dataclass
class Measurement:
    """A row of the table."""

    system: object  # a Peer or Temper
    dtype: str
    tokens_per_step: int
    results: list[Result] = field(default_factory=list)
    problem: str = ""

    def run_once(self, task: Task) -> None:
        """Adds a result, or notes why there is none. A system that failed is not tried again."""
        self.problem = self.problem or self.system.missing()
        if self.problem:
            return
        try:
            self.results.append(self.system.run(task))
        except RunError as error:
            self.problem = str(error)

    @property
    def is_limit(self) -> bool:
        return self.system.name == LIMIT

    @property
    def layout(self) -> tuple:
        return self.system.ranks, self.system.threads, self.dtype

    @property
    def is_complete(self) -> bool:
        return bool(self.results) and not self.problem

    def step_seconds(self) -> list[float]:
        """Every step of every run but the first of each, which warms up."""
        return [seconds for result in self.results for seconds in result.seconds[1:]]

    def tokens_per_second(self) -> float:
        return self.tokens_per_step / median(self.step_seconds())

    def losses(self) -> list[float]:
        """Of the first two steps: the second one tells that the first update was the same."""
        return self.results[0].losses[:2]


def to_record(row: Measurement, limits: dict[tuple, float]) -> dict:
    """An entry of step.json; numbers are null where there is none."""
    record = {
        "system": row.system.name,
        "ranks": row.system.ranks,
        "threads": row.system.threads,
        "dtype": row.dtype,
        "tokens_per_step": row.tokens_per_step,
        "tokens_per_second": None,
        "share_of_limit": None,
        "peak_rss_gb_per_rank": None,
        "idle_rss_gb_per_rank": None,
        "step_seconds_median": None,
        "step_seconds_min": None,
        "first_losses": None,
        "versions": {},
        "problem": row.problem or None,
    }
    if not row.is_complete:
        return record
    limit = limits.get(row.layout)
    return record | {
        "tokens_per_second": row.tokens_per_second(),
        "share_of_limit": row.tokens_per_second() / limit if limit else None,
        "peak_rss_gb_per_rank": max(max(r.peak_rss_bytes) for r in row.results) / 1e9,
        "idle_rss_gb_per_rank": max(r.idle_rss_bytes for r in row.results) / 1e9,
        "step_seconds_median": median(row.step_seconds()),
        "step_seconds_min": min(row.step_seconds()),
        "first_losses": row.losses() or None,
        "versions": row.results[0].versions,
    }


def to_records(rows: list[Measurement]) -> list[dict]:
    limits = {r.layout: r.tokens_per_second() for r in rows if r.is_limit and r.is_complete}
    return [to_record(row, limits) for row in rows]


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
                    f"{label(record)} has losses {format_losses(record)},"
                    f" {label(trained[0])} has {format_losses(trained[0])} ({dtype})"
                )
    return messages


def label(record: dict) -> str:
    return f"{record['system']} {record['ranks']} x {record['threads']}"


def format_losses(record: dict) -> str:
    return " ".join(f"{loss:.4f}" for loss in record["first_losses"] or [])
