# SPDX-License-Identifier: Apache-2.0
"""Measures one step of a mixture of experts, in temper and in transformers, beside temper's step of
a dense model of the same active size, by the time of the processor: two runs of each, one of more
steps, so that starting and saving do not count."""

import argparse
import dataclasses
import sys
from statistics import median

import campaign
from batch import prepare_batch
from campaign import TESTS_PYTHON
from measurement import Measurement, label
from peer_run import Peer
from random_models import make_models
from report import Column, number
from run import RunError, Task
from step_measurement import TOLERANCE
from temper_run import Temper

FEW_STEPS = 2
SIZES = dict(experts=32, chosen=4, width=384, hidden=576, layers=6)


class StepCost(Measurement):
    """A row of the table: two runs a round."""

    def run_once(self) -> None:
        super().run_once()
        self.problem = self.problem or self.system.missing()
        if self.problem:
            return
        try:
            self.results.append(self.system.run(few_steps(self.task)))
        except RunError as error:
            self.problem = str(error)

    def cpu_seconds(self) -> float:
        """Of a step, in the median of the rounds."""
        many, few = self.results[::2], self.results[1::2]
        count = self.task.num_steps - FEW_STEPS
        return median((a.cpu_seconds - b.cpu_seconds) / count for a, b in zip(many, few))

    def record(self) -> dict:
        return self.record_start() | {
            "cpu_seconds_per_step": self.cpu_seconds() if self.is_complete else None,
            "times_first": None,
            "first_losses": self.results[0].losses[:2] if self.is_complete else None,
        }


def few_steps(task: Task) -> Task:
    return dataclasses.replace(task, num_steps=FEW_STEPS)


def parse_options() -> argparse.Namespace:
    parser = campaign.make_parser("experts", __doc__, "cpt")
    parser.add_argument("--steps", type=int, default=6, help="measured steps of a run")
    parser.add_argument("--threads", type=int, default=1, help="those that wait cost time, too")
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size, help="of the mixture")
    options = parser.parse_args()
    campaign.check_numbers(parser, options, "steps")
    return options


def make_rows(options: argparse.Namespace, dtype: str, models: dict) -> list[StepCost]:
    folder = campaign.make_work_folder("experts", options)
    task = campaign.make_task(
        options, folder / "batch", dtype, "full", options.steps + FEW_STEPS
    )

    def temper(name: str) -> Temper:
        return Temper(options.binary.resolve(), 1, options.threads, name)

    peer = Peer("transformers, experts", "transformers_step", *TESTS_PYTHON, 1, options.threads)
    systems = [("dense", temper("temper, dense")), ("experts", temper("temper, experts")),
               ("experts", peer)]  # fmt: skip
    return [
        StepCost(system, dataclasses.replace(task, model=models[name], folder=folder / name))
        for name, system in systems
    ]


def disagreements(records: list[dict]) -> list[str]:
    """Of the two that train the same model."""
    ours, theirs = records[1:]
    if not ours["first_losses"] or not theirs["first_losses"]:
        return []
    pairs = zip(ours["first_losses"], theirs["first_losses"])
    gap = max(abs(a - b) for a, b in pairs)
    if gap <= TOLERANCE[ours["dtype"]]:  # Written so that NaN disagrees.
        return []
    return [f"NOT THE SAME STEP: losses of {label(ours)} and {label(theirs)} differ by {gap:.4f}"]


def measure(options: argparse.Namespace) -> campaign.Findings:
    """Raises DataError."""
    folder = campaign.make_work_folder("experts", options)
    prepare_batch(options.shard, options.model, options.rows, options.row_tokens, folder)
    models = make_models(options.model, folder, options)
    records, problems = [], []
    for dtype in campaign.dtypes(options):
        rows = make_rows(options, dtype, models)
        campaign.run_rounds(rows, options.rounds)
        found = [row.record() for row in rows]
        for record in found:
            if found[0]["cpu_seconds_per_step"] and record["cpu_seconds_per_step"]:
                share = record["cpu_seconds_per_step"] / found[0]["cpu_seconds_per_step"]
                record["times_first"] = share
        records += found
        problems += disagreements(found)
    return campaign.Findings(records, COLUMNS, problems)


COLUMNS = (
    Column("CPU s/step", number("cpu_seconds_per_step", ".3f")),
    Column("times dense", number("times_first", ".2f")),
)

if __name__ == "__main__":
    sys.exit(campaign.run_program("experts", parse_options(), measure))
