# SPDX-License-Identifier: Apache-2.0
"""Measures temper's checkpoints: beside steps, and at the end beside `dd` of as many bytes."""

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import campaign
from batch import prepare_batch
from measurement import Measurement
from report import Column, number
from run import RunError
from temper_run import Temper, read_steps

PUBLISHED = re.compile(r" checkpoint step=(\d+) path=(.*) bytes=(\d+) seconds=([\d.]+)$", re.M)

# Reads what the page cache has, hashes it with one core and writes it with another.
COPY = (
    'cat "$@" | tee >(sha256sum >&2) | '
    'dd of="$COPY" bs=4M iflag=fullblock conv=fsync status=none'
)


@dataclass
class SaveMeasurement(Measurement):
    """Runs that save in their middle, while steps go on, and at their end, when nothing else is
    left to do."""

    figures: list[dict] = field(default_factory=list)

    def run_once(self) -> None:
        super().run_once()
        if not self.is_complete:
            return
        folder = self.system.folder_of(self.task)
        saves = PUBLISHED.findall((folder / "output.log").read_text())
        if len(saves) != 2:
            self.problem = f"{len(saves)} checkpoints instead of 2, see {folder}/output.log"
            return
        (middle, _, _, beside_seconds), (_, last, num_bytes, last_seconds) = saves
        self.figures.append(
            {
                "bytes": int(num_bytes),
                "beside_seconds": float(beside_seconds),
                "last_seconds": float(last_seconds),
                "dd_seconds": seconds_of_copy(Path(last), folder / "copy"),
                **speeds(folder / "run" / "metrics.jsonl", self.task.num_steps, int(middle),
                         float(beside_seconds)),
            }
        )  # fmt: skip


def speeds(metrics: Path, num_steps: int, middle: int, seconds: float) -> dict[str, float]:
    """Tokens a second of the steps while the save went on, and of all others but the first."""
    steps = read_steps(metrics, num_steps)
    beside, passed = [], 0.0
    for step in steps[middle:]:
        if passed >= seconds:
            break
        passed += step["seconds"]
        beside.append(step["tokens_per_second"])
    others = [s["tokens_per_second"] for s in steps[1:middle] + steps[middle + len(beside) :]]
    return {"beside_tokens_per_second": median(beside), "tokens_per_second": median(others)}


def seconds_of_copy(checkpoint: Path, copy: Path) -> float:
    """Raises RunError."""
    files = sorted(str(path) for path in checkpoint.rglob("*") if path.is_file())
    begin = time.monotonic()
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", COPY, "copy", *files],
        env={"PATH": "/usr/bin:/bin", "COPY": str(copy)},
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - begin
    copy.unlink(missing_ok=True)
    if done.returncode:
        raise RunError(f"copying {checkpoint} failed: {done.stderr.strip()}")
    return seconds


def to_record(row: SaveMeasurement) -> dict:
    """An entry of save.json: medians over the rounds."""
    names = ("bytes", "beside_seconds", "last_seconds", "dd_seconds", "beside_tokens_per_second",
             "tokens_per_second")  # fmt: skip
    record = row.record_start()
    for name in names:
        record[name] = median(f[name] for f in row.figures) if row.is_complete else None
    record["last_of_dd"] = record["loss_of_speed"] = None
    if row.is_complete:
        record["last_of_dd"] = median(f["last_seconds"] / f["dd_seconds"] for f in row.figures)
        record["loss_of_speed"] = 1 - median(
            f["beside_tokens_per_second"] / f["tokens_per_second"] for f in row.figures
        )
    return record


COLUMNS = (
    Column("GB", lambda record: f"{record['bytes'] / 1e9:.2f}"),
    Column("last save s", number("last_seconds", ".2f")),
    Column("dd, hashed s", number("dd_seconds", ".2f")),
    Column("of dd", number("last_of_dd", ".2f")),
    Column("save beside steps s", number("beside_seconds", ".2f")),
    Column("tokens/s", number("tokens_per_second", ".0f")),
    Column("beside the save", number("beside_tokens_per_second", ".0f")),
    Column("loss", number("loss_of_speed", ".1%")),
)


def parse_options() -> argparse.Namespace:
    parser = campaign.make_parser("save", __doc__, "cpt")
    parser.add_argument("--steps", type=int, default=8, help="before the first save; as many after")
    options = parser.parse_args()
    campaign.check_numbers(parser, options, "steps")
    return options


def measure(options: argparse.Namespace) -> campaign.Findings:
    """Raises DataError."""
    folder = campaign.make_work_folder("save", options)
    prepare_batch(options.shard, options.model, options.rows, options.row_tokens, folder)
    rows = []
    for ranks, threads in ((1, 2), (2, 1)):
        every = f"checkpoint.every_steps={options.steps}"
        system = Temper(options.binary.resolve(), ranks, threads, overrides=(every,))
        task = campaign.make_task(
            options, folder / "batch", campaign.dtypes(options)[0], "full", 2 * options.steps
        )
        rows.append(SaveMeasurement(system, task))
    campaign.run_rounds(rows, options.rounds)
    return campaign.Findings([to_record(row) for row in rows], COLUMNS, [])


if __name__ == "__main__":
    sys.exit(campaign.run_program("save", parse_options(), measure))
