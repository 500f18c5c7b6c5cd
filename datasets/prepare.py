#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prepares token shards from text or conversations, as a recipe says.

    prepare.py recipe.yaml [key=value ...] [--force]
    prepare.py recipe.yaml --part K/N            # for each K from 0 to N - 1, on any machines
    prepare.py recipe.yaml --join                # the same bytes as without parts
    prepare.py recipe.yaml --dry-run             # says what would come, and writes nothing

Writes <output>/train.h5, <output>/holdout.h5, <output>/report.json and a page that shows them,
<output>/report.html. Does nothing when they were made by the same recipe from the same sources;
replaces them when the sources changed, and those of another recipe only with --force.
Recipes: configs/data/. Format: FORMAT.md.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from temper_data.errors import DataError, printable
from temper_data.forecast import Forecast, describe_forecast
from temper_data.layout_guess import describe_guesses
from temper_data.parts import JoinedParts, make_part, parse_part
from temper_data.preparation import Preparation, total_bytes
from temper_data.progress import Progress, clock_time
from temper_data.recipe import load_recipe
from temper_data.report_page import PAGE, settle_page
from temper_data.reuse import foreign_output, read_report, summarise, up_to_date


def prepare(arguments: argparse.Namespace) -> None:
    """Raises DataError."""
    started = time.monotonic()
    preparation = Preparation(load_recipe(arguments.recipe, arguments.assignments))
    output = preparation.output
    for line in describe_guesses(preparation.guesses):
        print(line, flush=True)
    if arguments.dry_run:
        forecast = Forecast(preparation, arguments.sample)
        lines = describe_forecast(forecast, arguments.sequence_length, arguments.global_batch)
        print("\n".join(lines))
        return
    if not arguments.force and up_to_date(preparation):
        report = read_report(output / "report.json")
        settle_page(output, report, preparation.model, preparation.recipe.page)
        print(summarise(report))
        print(f"{output} is up to date")
        return
    foreign = foreign_output(preparation)
    if foreign and not arguments.force:
        raise DataError(
            f"{output} holds {', '.join(foreign)} of another recipe",
            "choose another output, or replace them with --force",
        )
    progress = Progress(total_bytes(preparation.files))
    if arguments.part:
        part = parse_part(arguments.part, os.environ)
        made = make_part(preparation, part, progress)
        how = f"made in {clock_time(time.monotonic() - started)}" if made else "is there already"
        print(f"part {part.number} of {part.of} {how}")
        return
    joined = JoinedParts(preparation) if arguments.join else None
    report = preparation.run(progress, joined)
    if joined is not None:
        joined.remove()
    print(summarise(report))
    if preparation.recipe.page:
        print(f"page: {printable(str(output / PAGE))}")
    print(f"{output} written in {clock_time(time.monotonic() - started)}")


class Interruption:
    """Ctrl-C, scancel and time limits end the program alike, and it removes temporary files.

    Whatever fails after the signal, such as a worker that got it too, is the interruption's doing.
    """

    def __init__(self) -> None:
        self.has_come = False
        signal.signal(signal.SIGTERM, self.on_signal)
        signal.signal(signal.SIGINT, self.on_signal)

    def on_signal(self, *_) -> None:
        self.has_come = True
        raise KeyboardInterrupt


def whole(text: str) -> int:
    """A number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of at least 1")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path, help="recipe, see configs/data/")
    parser.add_argument("assignments", nargs="*", metavar="key=value", help="overrides a key")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--part", metavar="K/N", help="do part K of N alone; in array jobs: slurm")
    how.add_argument("--join", action="store_true", help="make the shards from all parts")
    how.add_argument("--dry-run", action="store_true", help="judge by a sample, write nothing")
    numbers = parser.add_argument_group("with --dry-run")
    for name, default, what in (
        ("sample", 1000, "records that are looked at"),
        ("sequence-length", 1024, "of the trainer's rows"),
        ("global-batch", 8, "rows in a step"),
    ):
        numbers.add_argument(f"--{name}", type=whole, default=default, metavar="N", help=what)
    arguments = parser.parse_intermixed_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # A file's name need not be text.
    interruption = Interruption()
    try:
        prepare(arguments)
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if interruption.has_come:
            print("prepare: interrupted; nothing was published", file=sys.stderr)
            return 130
        if not isinstance(error, (DataError, OSError)):
            raise
        advice = "\n  try: check disk space and permissions" if isinstance(error, OSError) else ""
        print(f"prepare: {error}{advice}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
