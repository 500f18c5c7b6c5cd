# SPDX-License-Identifier: Apache-2.0
"""Measures one training step of temper and of its peers, side by side on the same batch."""

import argparse
import json
import signal
import sys
from pathlib import Path

import report
from batch import ROOT, DataError, prepare_batch
from measurement import LIMIT, Measurement, disagreements, to_records
from peer_run import Peer
from run import Task
from temper_run import Temper

PYTHON = ("TEMPER_TESTS_PYTHON", "launch/setup --tests")
ADAPTER_SYSTEMS = ("limit", "temper", "transformers")
BENCH_PYTHON = ("TEMPER_BENCH_PYTHON", "tests/bench/setup")


def make_systems(binary: Path) -> dict[str, list]:
    """By the name that --systems takes, in the order of a round."""
    return {
        "limit": [
            Peer(LIMIT, "matrix_products", *PYTHON, ranks=1, threads=2),
            Peer(LIMIT, "matrix_products", *PYTHON, ranks=2, threads=1),
        ],
        "temper": [Temper(binary, ranks=1, threads=2), Temper(binary, ranks=2, threads=1)],
        "transformers": [Peer("transformers", "transformers_step", *PYTHON, ranks=1, threads=2)],
        "fsdp2": [Peer("FSDP2", "fsdp2_step", *PYTHON, ranks=2, threads=1)],
        "deepspeed": [
            Peer("DeepSpeed ZeRO-3", "deepspeed_step", *BENCH_PYTHON, ranks=2, threads=1)
        ],
    }


def parse_options() -> argparse.Namespace:
    names = ",".join(make_systems(Path()))
    quickstart = ROOT / "runs" / "quickstart"
    parser = argparse.ArgumentParser(prog="tests/bench/step", description=__doc__)
    parser.add_argument("--systems", help=f"comma-separated, of {names}; default: all that can")
    parser.add_argument("--method", choices=("full", "lora", "qlora"), default="full")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "both"),
        default="bfloat16" if report.cpu_has_bfloat16() else "float32",
        help="of the matrix products; default: what temper's `auto` picks on this processor",
    )
    parser.add_argument("--steps", type=int, default=4, help="measured steps a run, after one more")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each system, taking turns")
    parser.add_argument("--rows", type=int, default=2, help="a step; an even number")
    parser.add_argument("--row-tokens", type=int, default=512)
    parser.add_argument("--model", type=Path, default=quickstart / "model")
    parser.add_argument("--shard", type=Path, default=quickstart / "shards" / "cpt" / "train.h5")
    parser.add_argument("--binary", type=Path, default=ROOT / "build" / "release" / "temper")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench" / "step.json")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds a run")
    options = parser.parse_args()
    if min(options.steps, options.rounds, options.rows) < 1 or options.rows % 2:
        parser.error("--steps and --rounds want a positive number, --rows a positive even one")
    if options.systems is None:
        options.systems = names if options.method == "full" else ",".join(ADAPTER_SYSTEMS)
    others = set(options.systems.split(",")) - {*ADAPTER_SYSTEMS}
    if options.method != "full" and others:
        parser.error(f"--method {options.method} is not for {', '.join(sorted(others))}")
    unknown = set(options.systems.split(",")) - set(names.split(","))
    if unknown:
        parser.error(f"--systems does not know {', '.join(sorted(unknown))}; it knows {names}")
    return options


def measure(options: argparse.Namespace) -> list[Measurement]:
    """Runs every system once a round. Raises DataError."""
    dtypes = ["float32", "bfloat16"] if options.dtype == "both" else [options.dtype]
    folder = options.output.resolve().parent / "work"
    folder.mkdir(parents=True, exist_ok=True)
    model = options.model.resolve()
    batch = prepare_batch(options.shard, model, options.rows, options.row_tokens, folder)
    print(
        f"batch: {options.rows} rows of {options.row_tokens} tokens, {batch.num_targets} targets,"
        f" {batch.num_documents} documents, of {options.shard}"
    )
    systems = make_systems(options.binary.resolve())
    rows = []
    for dtype in dtypes:
        task = Task(model, folder, batch, dtype, options.steps + 1, options.timeout, options.method)
        for name in options.systems.split(","):
            rows += [(Measurement(s, dtype, task.tokens_per_step), task) for s in systems[name]]
    for number in range(1, options.rounds + 1):
        for row, task in rows:
            name, ranks, threads = row.system.name, row.system.ranks, row.system.threads
            print(f"round {number}: {name} {ranks} x {threads}, {row.dtype}", file=sys.stderr)
            row.run_once(task)
    return [row for row, _ in rows]


def main() -> int:
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that no run outlives its harness.
    report.print_machine()
    try:
        records = to_records(measure(options))
    except DataError as error:
        print(f"step: {error}", file=sys.stderr)
        return 1
    report.print_table(records)
    options.output.write_text(json.dumps(records, indent=2) + "\n")
    print(f"\n{options.output}")
    has_failed = any(record["problem"] for record in records) or disagreements(records)
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
