# SPDX-License-Identifier: Apache-2.0
"""Measures one training step of temper and of its peers, side by side on the same batch."""

import argparse
import sys
from pathlib import Path

import campaign
from batch import prepare_batch
from campaign import BENCH_PYTHON, TESTS_PYTHON
from peer_run import Peer
from step_measurement import COLUMNS, LIMIT, StepMeasurement, disagreements, to_records
from temper_run import Temper

ADAPTER_SYSTEMS = ("limit", "temper", "transformers")


def make_systems(binary: Path) -> dict[str, list]:
    """By the name that --systems takes, in the order of a round."""
    return {
        "limit": [
            Peer(LIMIT, "matrix_products", *TESTS_PYTHON, ranks=1, threads=2),
            Peer(LIMIT, "matrix_products", *TESTS_PYTHON, ranks=2, threads=1),
        ],
        "temper": [Temper(binary, ranks=1, threads=2), Temper(binary, ranks=2, threads=1)],
        "transformers": [
            Peer("transformers", "transformers_step", *TESTS_PYTHON, ranks=1, threads=2)
        ],
        "compiled": [
            Peer(
                "transformers, compiled", "transformers_step", *TESTS_PYTHON, 1, 2, "compiled"
            )
        ],
        "fsdp2": [Peer("FSDP2", "fsdp2_step", *TESTS_PYTHON, ranks=2, threads=1)],
        "deepspeed": [
            Peer("DeepSpeed ZeRO-3", "deepspeed_step", *BENCH_PYTHON, ranks=2, threads=1)
        ],
    }


def parse_options() -> argparse.Namespace:
    names = tuple(make_systems(Path()))
    parser = campaign.make_parser("step", __doc__, "cpt")
    known = ",".join(names)
    parser.add_argument("--systems", help=f"comma-separated, of {known}; default: all that can")
    parser.add_argument("--method", choices=("full", "lora", "qlora"), default="full")
    parser.add_argument("--steps", type=int, default=4, help="measured steps a run, after one more")
    options = parser.parse_args()
    campaign.check_numbers(parser, options, "steps")
    if options.systems is None:
        options.systems = ",".join(names if options.method == "full" else ADAPTER_SYSTEMS)
    options.systems = campaign.split_names(parser, options, "systems", names)
    others = set(options.systems) - {*ADAPTER_SYSTEMS}
    if options.method != "full" and others:
        parser.error(f"--method {options.method} is not for {', '.join(sorted(others))}")
    return options


def measure(options: argparse.Namespace) -> campaign.Findings:
    """Raises DataError."""
    folder = campaign.make_work_folder("step", options)
    batch = prepare_batch(options.shard, options.model, options.rows, options.row_tokens, folder)
    print(
        f"batch: {options.rows} rows of {options.row_tokens} tokens, {batch.num_targets} targets,"
        f" {batch.num_documents} documents, of {options.shard}"
    )
    systems = make_systems(options.binary.resolve())
    rows = []
    for dtype in campaign.dtypes(options):
        task = campaign.make_task(
            options, folder / "batch", dtype, options.method, options.steps + 1
        )
        rows += [StepMeasurement(s, task) for name in options.systems for s in systems[name]]
    campaign.run_rounds(rows, options.rounds)
    records = to_records(rows)
    return campaign.Findings(records, COLUMNS, disagreements(records))


if __name__ == "__main__":
    sys.exit(campaign.run_program("step", parse_options(), measure))
