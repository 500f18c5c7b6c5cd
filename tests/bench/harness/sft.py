# SPDX-License-Identifier: Apache-2.0
"""Measures supervised fine-tuning in temper and in TRL, side by side on the same conversations."""

import argparse
import sys
from pathlib import Path

import campaign
from campaign import BENCH_PYTHON
from conversations import prepare_conversations
from measurement import Measurement
from peer_run import Peer
from sft_measurement import COLUMNS, disagreements, to_record
from temper_run import Temper

METHODS = ("full", "lora", "qlora")
WARM_UP = 8  # Conversations: about those of the first step.


def make_systems(binary: Path) -> dict[str, list]:
    """By the name that --systems takes, in the order of a round."""

    def trl(variant: str) -> Peer:
        return Peer(f"TRL {variant}", "trl_sft", *BENCH_PYTHON, 1, 2, variant)

    return {
        "temper": [Temper(binary, ranks=1, threads=2), Temper(binary, ranks=2, threads=1)],
        "trl-packed": [trl("packed")],
        "trl-padded": [trl("padded")],
    }


def parse_options() -> argparse.Namespace:
    names = tuple(make_systems(Path()))
    parser = campaign.make_parser("sft", __doc__, "sft")
    every, methods = ",".join(names), ",".join(METHODS)
    parser.add_argument("--systems", default=every, help="comma-separated; default: %(default)s")
    parser.add_argument("--methods", default="full", help=f"comma-separated, of {methods}")
    more = f"the first of the shard, and {WARM_UP} more for the first step, which warms up"
    parser.add_argument("--conversations", type=int, default=32, help=more)
    options = parser.parse_args()
    campaign.check_numbers(parser, options, "conversations")
    options.systems = campaign.split_names(parser, options, "systems", names)
    options.methods = campaign.split_names(parser, options, "methods", METHODS)
    return options


def measure(options: argparse.Namespace) -> campaign.Findings:
    """Raises DataError."""
    folder = campaign.make_work_folder("sft", options)
    number = options.conversations + WARM_UP
    chosen = prepare_conversations(
        options.shard, options.model, number, options.row_tokens, folder
    )
    print(
        f"{number} conversations of {chosen.lengths.min()} to {chosen.lengths.max()} tokens,"
        f" together {len(chosen.tokens)} tokens, {chosen.target_mask.sum()} targets,"
        f" of {options.shard}"
    )
    systems = make_systems(options.binary.resolve())
    rows = []
    for method in options.methods:
        for dtype in campaign.dtypes(options):
            task = campaign.make_task(options, folder / "conversations", dtype, method)
            rows += [Measurement(s, task) for name in options.systems for s in systems[name]]
    campaign.run_rounds(rows, options.rounds)
    records = [to_record(row) for row in rows]
    return campaign.Findings(records, COLUMNS, disagreements(records))


if __name__ == "__main__":
    sys.exit(campaign.run_program("sft", parse_options(), measure))
