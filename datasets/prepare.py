#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prepares token shards from text or conversations, as a recipe says.

    prepare.py recipe.yaml [key=value ...] [--force]

Writes <output>/train.h5, <output>/holdout.h5 and <output>/report.json. Does nothing when they
were made by the same recipe from the same sources; replaces them when the sources changed, and
those of another recipe only with --force. Recipes: configs/data/. Format: FORMAT.md.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from temper_data.errors import DataError
from temper_data.preparation import Preparation, total_bytes
from temper_data.progress import Progress, clock_time
from temper_data.recipe import load_recipe
from temper_data.reuse import foreign_output, read_report, summarise, up_to_date


def prepare(recipe_path: Path, assignments: list[str], force: bool) -> None:
    """Raises DataError."""
    started = time.monotonic()
    preparation = Preparation(load_recipe(recipe_path, assignments))
    output = preparation.output
    if not force and up_to_date(preparation):
        print(summarise(read_report(output / "report.json")))
        print(f"{output} is up to date")
        return
    foreign = foreign_output(preparation)
    if foreign and not force:
        raise DataError(
            f"{output} holds {', '.join(foreign)} of another recipe",
            "choose another output, or replace them with --force",
        )
    report = preparation.run(Progress(total_bytes(preparation.files)))
    print(summarise(report))
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path, help="recipe, see configs/data/")
    parser.add_argument("assignments", nargs="*", metavar="key=value", help="overrides a key")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    arguments = parser.parse_intermixed_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # A file's name need not be text.
    interruption = Interruption()
    try:
        prepare(arguments.recipe, arguments.assignments, arguments.force)
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
