# SPDX-License-Identifier: Apache-2.0
"""The curves of runs for TensorBoard, also while they run: `tensorboard --logdir FOLDER`.

Each RUN gets event files in a folder of its own, RUN.board beside it, or one below FOLDER. Names
are those of Hugging Face's Trainer: train/loss, train/learning_rate, train/grad_norm,
eval/NAME/loss. A second call adds only what is new; with --follow it goes on until every run has
its result.

--wandb offline and --mlflow FOLDER write the same there, too. Their libraries are not installed
with temper: pip install --target LIBRARIES wandb, then PYTHONPATH=LIBRARIES launch/board ...
"""

import argparse
import math
import struct
import sys
import time
from pathlib import Path

from temper_data.errors import DataError, printable

from .event_files import EventFolder
from .run_folder import Run, name_apart, open_run
from .scalars import Scalar, scalars_of
from .trackers import MlflowRun, WandbRun

FOLLOW_SECONDS = 5
REST = 20  # times what a look takes, so that following a long run takes little of a login node


def fresh(scalars: list[Scalar], written: dict[str, tuple[int, float]], where: str) -> list[Scalar]:
    """Those that are not there yet.

    A job that went on from a checkpoint repeats steps, with the same bits, so that no value is
    written twice. Raises DataError if they are others: those are of another run.
    """
    for scalar in scalars:
        step, value = written.get(scalar.tag, (-1, 0.0))
        if scalar.tag == "train/loss" and scalar.step == step and not same(value, scalar.value):
            raise DataError(
                f"{where} has another run: its {scalar.tag} is {value:g} at step {step}, and that "
                f"of this run is {scalar.value:g}",
                "name another folder with -o, or remove that one",
            )
    return [scalar for scalar in scalars if scalar.step > written.get(scalar.tag, (-1, 0.0))[0]]


def same(stored: float, value: float) -> bool:
    """Event files have 32 bits of a value."""
    if math.isnan(stored) or math.isnan(value):
        return math.isnan(stored) and math.isnan(value)
    return struct.pack("<f", stored) == struct.pack("<f", value)


class Board:
    """One run and the places that its values go to."""

    def __init__(self, path: Path, name: str, arguments: argparse.Namespace):
        run = open_run(path)
        folder = arguments.output / name if arguments.output else beside(run)
        self.path, self.places = path, [EventFolder(folder)]
        self.names = [printable(str(folder))]
        if arguments.wandb:
            self.places.append(WandbRun(run, name, folder.parent))
            self.names.append("wandb")
        if arguments.mlflow:
            self.places.append(MlflowRun(run, name, arguments.mlflow))
            self.names.append(f"mlflow in {printable(str(arguments.mlflow))}")

    def update(self) -> tuple[int, bool]:
        """How many values were new, of all places, and whether the run is finished.

        Raises DataError or OSError.
        """
        run = open_run(self.path)
        scalars, count = scalars_of(run), 0
        for place, name in zip(self.places, self.names, strict=True):
            new = fresh(scalars, place.written, name)
            place.add(new)
            count += len(new)
        return count, run.is_finished

    def close(self) -> None:
        for place in self.places:
            place.close()


def beside(run: Run) -> Path:
    """The run's own folder is the trainer's alone."""
    folder = run.folder.resolve()
    return folder.with_name(f"{folder.name}.board")


def follow(boards: list[Board], goes_on: bool) -> None:
    """Raises DataError or OSError."""
    while True:
        begin, are_finished = time.process_time(), True
        for board in boards:
            count, is_finished = board.update()
            are_finished = are_finished and is_finished
            if count or not goes_on:
                print(f"{board.names[0]}: {count} new values", flush=True)
        if are_finished or not goes_on:
            return
        time.sleep(max(FOLLOW_SECONDS, REST * (time.process_time() - begin)))


def board(arguments: argparse.Namespace) -> None:
    """Raises DataError or OSError."""
    runs = [open_run(path) for path in dict.fromkeys(arguments.runs)]
    name_apart(runs)
    for run in runs:
        for problem in run.metrics.problems:
            print(f"board: {printable(run.name)}: {problem}", file=sys.stderr)
    boards = [Board(run.folder, run.name.replace("/", "-"), arguments) for run in runs]
    try:
        follow(boards, arguments.follow)
    except KeyboardInterrupt:
        pass  # All that was told of is written.
    finally:
        for one in boards:
            one.close()


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="board", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs")
    parser.add_argument("-o", dest="output", type=Path, metavar="FOLDER",
                        help="a folder in it for each run; else RUN.board")  # fmt: skip
    parser.add_argument("--follow", action="store_true", help="until the runs are finished")
    parser.add_argument("--wandb", choices=["offline"], help="for `wandb sync` later")
    parser.add_argument("--mlflow", type=Path, metavar="FOLDER", help="a store of MLflow")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    try:
        board(parse_arguments(words))
    except DataError as error:
        print(f"board: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"board: {error}\n  try: check disk space and permissions", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
