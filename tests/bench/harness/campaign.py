# SPDX-License-Identifier: Apache-2.0
"""What step and sft have in common: options, rounds over all systems, the end."""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Callable, NamedTuple

import report
from measurement import Measurement
from run import Task
from shard import ROOT, DataError

TESTS_PYTHON = ("TEMPER_TESTS_PYTHON", "launch/setup --tests")
BENCH_PYTHON = ("TEMPER_BENCH_PYTHON", "tests/bench/setup")


class Findings(NamedTuple):
    """What a program measured, and how to show it."""

    records: list[dict]
    columns: tuple[report.Column, ...]
    disagreements: list[str]


def make_parser(program: str, description: str, shard: str) -> argparse.ArgumentParser:
    """With the options of both. `shard` is a folder of the quickstart's."""
    quickstart, build = ROOT / "runs" / "quickstart", ROOT / "build"
    parser = argparse.ArgumentParser(prog=f"tests/bench/{program}", description=description)
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "both"),
        default="bfloat16" if report.cpu_has_bfloat16() else "float32",
        help="of the matrix products; default: what temper's `auto` picks on this processor",
    )
    parser.add_argument("--rounds", type=int, default=2, help="runs of each system, taking turns")
    parser.add_argument("--rows", type=int, default=2, help="a step; an even number")
    parser.add_argument("--row-tokens", type=int, default=512)
    parser.add_argument("--model", type=Path, default=quickstart / "model")
    parser.add_argument("--shard", type=Path, default=quickstart / "shards" / shard / "train.h5")
    parser.add_argument("--binary", type=Path, default=build / "release" / "temper")
    parser.add_argument("--output", type=Path, default=build / "bench" / f"{program}.json")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds a run")
    return parser


def check_numbers(parser: argparse.ArgumentParser, options, positive: str) -> None:
    """Ends the program unless --rounds, --rows and the option named `positive` can be used."""
    if min(getattr(options, positive), options.rounds, options.rows) < 1 or options.rows % 2:
        parser.error(
            f"--{positive} and --rounds want a positive number, --rows a positive even one"
        )


def split_names(parser: argparse.ArgumentParser, options, option: str, known) -> list[str]:
    """The parts of a comma-separated option. Ends the program if one is not known."""
    names = getattr(options, option).split(",")
    if unknown := set(names) - set(known):
        parser.error(
            f"--{option} does not know {', '.join(sorted(unknown))}; it knows {','.join(known)}"
        )
    return names


def dtypes(options) -> list[str]:
    return ["float32", "bfloat16"] if options.dtype == "both" else [options.dtype]


def make_work_folder(program: str, options) -> Path:
    folder = options.output.resolve().parent / "work" / program
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_task(options, data: Path, dtype: str, method: str, num_steps: int | None = None) -> Task:
    """`data` is the path of what was prepared, without .h5 and .npz."""
    return Task(
        model=options.model.resolve(),
        folder=data.parent,
        shard=data.with_suffix(".h5"),
        arrays=data.with_suffix(".npz"),
        rows=options.rows,
        row_tokens=options.row_tokens,
        dtype=dtype,
        timeout_seconds=options.timeout,
        method=method,
        num_steps=num_steps,
    )


def run_rounds(rows: list[Measurement], rounds: int) -> None:
    """Runs every system once a round."""
    for number in range(1, rounds + 1):
        for row in rows:
            system = f"{row.system.name} {row.system.ranks} x {row.system.threads}"
            print(f"round {number}: {system}, {row.task.method}, {row.task.dtype}", file=sys.stderr)
            row.run_once()


def run_program(program: str, options, measure: Callable[..., Findings]) -> int:
    """Measures, shows and writes. Returns the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that no run outlives its harness.
    report.print_machine()
    try:
        found = measure(options)
    except DataError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    report.print_table(*found)
    options.output.write_text(json.dumps(found.records, indent=2) + "\n")
    print(f"\n{options.output}")
    has_failed = any(record["problem"] for record in found.records) or found.disagreements
    return 1 if has_failed else 0
