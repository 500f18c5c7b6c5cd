# SPDX-License-Identifier: Apache-2.0
"""All runs of one system at one dtype; step_measurement.py and sft_measurement.py say what of."""

from dataclasses import dataclass, field

from run import Result, RunError, Task


@dataclass
class Measurement:
    """A row of the table."""

    system: object  # a Peer or Temper
    task: Task
    results: list[Result] = field(default_factory=list)
    problem: str = ""

    def run_once(self) -> None:
        """Adds a result, or notes why there is none. A system that failed is not tried again."""
        self.problem = self.problem or self.system.missing()
        if self.problem:
            return
        try:
            self.results.append(self.system.run(self.task))
        except RunError as error:
            self.problem = str(error)

    @property
    def is_complete(self) -> bool:
        return bool(self.results) and not self.problem

    def record_start(self) -> dict:
        """What every entry of the output begins with; numbers are null where there is none."""
        peaks = [max(result.peak_rss_bytes) / 1e9 for result in self.results]
        idles = [result.idle_rss_bytes / 1e9 for result in self.results]
        return {
            "system": self.system.name,
            "ranks": self.system.ranks,
            "threads": self.system.threads,
            "method": self.task.method,
            "dtype": self.task.dtype,
            "peak_rss_gb_per_rank": max(peaks) if self.is_complete else None,
            "idle_rss_gb_per_rank": max(idles) if self.is_complete else None,
            "versions": self.results[0].versions if self.is_complete else {},
            "problem": self.problem or None,
        }


def label(record: dict) -> str:
    return f"{record['system']} {record['ranks']} x {record['threads']}"
