# SPDX-License-Identifier: Apache-2.0
"""Measures what a rank of temper holds at its fullest, beside what temper expects."""

import argparse
import sys
from dataclasses import replace

import campaign
from batch import prepare_batch
from measurement import Measurement
from report import Column, number
from temper_run import Temper

METHODS = ("full", "lora", "qlora")
LAYOUTS = ((1, 1), (1, 2), (2, 1))  # Ranks and threads of each.
TOLERANCE = 0.05  # Of the peak.

COLUMNS = (
    Column("method", lambda record: record["method"]),
    Column("tokens", number("row_tokens", "d")),
    Column("recomputed", lambda record: "yes" if record["recomputes"] else "no"),
    Column("expected GB/rank", number("expected_gb_per_rank", ".2f")),
    Column("peak GB/rank", number("peak_rss_gb_per_rank", ".2f")),
    Column("ratio", number("expected_to_peak", ".3f")),
)


def parse_options() -> argparse.Namespace:
    parser = campaign.make_parser("memory", __doc__, "cpt")
    parser.add_argument("--methods", default=",".join(METHODS), help="default: %(default)s")
    parser.add_argument("--lengths", default="256,1024", help="tokens of a row; %(default)s")
    parser.add_argument("--recompute", action="store_true", help="activations, too")
    parser.add_argument("--steps", type=int, default=2, help="a run")
    parser.set_defaults(rounds=1)
    options = parser.parse_args()
    campaign.check_numbers(parser, options, "steps")
    options.methods = campaign.split_names(parser, options, "methods", METHODS)
    try:
        options.lengths = [int(length) for length in options.lengths.split(",")]
    except ValueError:
        parser.error("--lengths wants whole numbers, separated by commas")
    return options


def measure(options: argparse.Namespace) -> campaign.Findings:
    """Raises DataError."""
    rows = []
    for length in options.lengths:
        folder = campaign.make_work_folder("memory", options) / str(length)
        folder.mkdir(exist_ok=True)
        prepare_batch(options.shard, options.model, options.rows, length, folder)
        for dtype in campaign.dtypes(options):
            for method in options.methods:
                task = campaign.make_task(options, folder / "batch", dtype, method, options.steps)
                rows += make_rows(options, replace(task, row_tokens=length))
    campaign.run_rounds(rows, options.rounds)
    records = [to_record(row) for row in rows]
    return campaign.Findings(records, COLUMNS, wrong_expectations(records))


def make_rows(options: argparse.Namespace, task) -> list[Measurement]:
    binary = options.binary.resolve()
    tasks = [task, replace(task, recomputes=True)] if options.recompute else [task]
    return [Measurement(Temper(binary, *layout), one) for one in tasks for layout in LAYOUTS]


def to_record(row: Measurement) -> dict:
    """An entry of memory.json."""
    record = row.record_start()
    expected = max(r.expected_bytes for r in row.results) / 1e9 if row.is_complete else None
    return record | {
        "row_tokens": row.task.row_tokens,
        "recomputes": row.task.recomputes,
        "expected_gb_per_rank": expected,
        "expected_to_peak": expected / record["peak_rss_gb_per_rank"] if expected else None,
    }


def wrong_expectations(records: list[dict]) -> list[str]:
    return [
        f"{record['method']} of {record['row_tokens']} tokens on {record['ranks']} x"
        f" {record['threads']} is expected to take {record['expected_to_peak']:.3f} of its peak"
        for record in records
        if record["expected_to_peak"] and abs(record["expected_to_peak"] - 1) > TOLERANCE
    ]


if __name__ == "__main__":
    sys.exit(campaign.run_program("memory", parse_options(), measure))
