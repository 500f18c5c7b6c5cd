# SPDX-License-Identifier: Apache-2.0
"""Measures greedy generation of temper, of transformers.generate and, if it is there, of llama.cpp,
side by side on the same prompts: one at a time, and many at once. Loading and warming up are not
counted."""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import report
from run import make_empty
from shard import ROOT

PEERS = Path(__file__).resolve().parents[1] / "peers"
WARM_UP_TOKENS = 8
GGUF_TYPES = {"float32": "f32", "bfloat16": "bf16"}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/generate", description=__doc__)
    build = ROOT / "build"
    parser.add_argument("--model", type=Path, default=ROOT / "runs" / "quickstart" / "model")
    parser.add_argument("--binary", type=Path, default=build / "release" / "temper")
    parser.add_argument("--output", type=Path, default=build / "bench" / "generate.json")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--batches", default="1,16", help="answers at once")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="runs of each, taking turns")
    there = "where pip install --target FOLDER --no-deps xllamacpp went"
    parser.add_argument("--llama-cpp", type=Path, metavar="FOLDER", help=there)
    return parser.parse_args()


def make_model(source: Path, folder: Path) -> int:
    """The same model in `folder`, whose answers do not end by themselves. Returns the size of its
    vocabulary."""
    make_empty(folder)
    for path in source.resolve().iterdir():
        (folder / path.name).symlink_to(path)
    config = json.loads((source / "config.json").read_text())
    for name in ("config.json", "generation_config.json"):
        (folder / name).unlink(missing_ok=True)
    last = config["vocab_size"] - 1  # A token that greedy answers do not have.
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": last}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": last}))
    return config["vocab_size"]


def cpu_seconds(process: int) -> float:
    """Of all threads of a process until now."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_temper(job: dict, binary: Path) -> dict:
    """Raises CalledProcessError."""
    words = [binary, "generate", job["model"], "--requests", "-", "--dtype", job["dtype"],
             "--threads", job["threads"], "--at-once", len(job["prompts"])]  # fmt: skip
    with subprocess.Popen(
        list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip

        def answer(count: int) -> list[list[int]]:
            for index, prompt in enumerate(job["prompts"]):
                request = {"id": index, "prompt": prompt, "max_tokens": count}
                process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            lines = [json.loads(process.stdout.readline()) for _ in job["prompts"]]
            lines.sort(key=lambda line: line["id"])
            return [line["answers"][0]["ids"] for line in lines]

        answer(WARM_UP_TOKENS)
        started, before = time.perf_counter(), cpu_seconds(process.pid)
        answers = answer(job["new_tokens"])
        found = {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": cpu_seconds(process.pid) - before,
            "answers": answers,
        }
        process.stdin.close()
    return found


def run_peer(job: dict, name: str, packages: Path | None = None) -> dict:
    """The peer's figures, found with `packages` beside the tests' Python. Raises
    CalledProcessError."""
    environment = os.environ | {"OMP_NUM_THREADS": str(job["threads"])}
    if packages:
        environment["PYTHONPATH"] = str(packages.resolve())
    done = subprocess.run(
        [os.environ["TEMPER_TESTS_PYTHON"], PEERS / f"{name}_generate.py"], input=json.dumps(job),
        text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, env=environment,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def to_record(system: str, job: dict, runs: list[dict]) -> dict:
    count = job["new_tokens"] * len(job["prompts"])
    made = runs[0].get("tokens", count)
    return {
        "system": system, "ranks": 1, "threads": job["threads"], "dtype": job["dtype"],
        "batch": len(job["prompts"]), "versions": runs[0].get("versions", {}),
        "problem": None if made == count else f"MADE {made} TOKENS, NOT {count}",
        "tokens_per_second": count / median(run["seconds"] for run in runs),
        "cpu_ms_per_token": 1000 * median(run["cpu_seconds"] for run in runs) / count,
        "times": None, "cpu_times": None, "answers": runs[0]["answers"],
    }  # fmt: skip


def measure(options: argparse.Namespace, job: dict) -> list[dict]:
    """All systems' records of one job, temper's first; the peers' tell how much faster it is."""
    runs: dict[str, list[dict]] = {}
    for number in range(1, options.rounds + 1):
        print(f"round {number}: {len(job['prompts'])} at once, {job['dtype']}", file=sys.stderr)
        runs.setdefault("temper", []).append(run_temper(job, options.binary))
        runs.setdefault("transformers", []).append(run_peer(job, "transformers"))
        if options.llama_cpp:
            runs.setdefault("llama.cpp", []).append(run_peer(job, "llama_cpp", options.llama_cpp))
    ours, *peers = records = [to_record(system, job, found) for system, found in runs.items()]
    for peer in peers:
        peer["times"] = ours["tokens_per_second"] / peer["tokens_per_second"]
        if ours["cpu_ms_per_token"]:
            peer["cpu_times"] = peer["cpu_ms_per_token"] / ours["cpu_ms_per_token"]
    return records


def disagreements(records: list[dict]) -> list[str]:
    """Of temper's greedy answers in float32 with transformers', which are the same token for token;
    llama.cpp keeps keys and values in halves."""
    ours = {(r["batch"], r["dtype"]): r["answers"] for r in records if r["system"] == "temper"}
    return [
        f"NOT THE SAME ANSWERS: {record['batch']} at once, {record['dtype']}"
        for record in records
        if record["system"] == "transformers" and record["dtype"] == "float32"
        and record["answers"] != ours[record["batch"], record["dtype"]]
    ]  # fmt: skip


COLUMNS = (
    report.Column("at once", report.number("batch", "d")),
    report.Column("tokens/s", report.number("tokens_per_second", ".1f")),
    report.Column("CPU ms/token", report.number("cpu_ms_per_token", ".1f")),
    report.Column("temper's times", report.number("times", ".2f")),
    report.Column("by CPU", report.number("cpu_times", ".2f")),
)


def main() -> int:
    options = parse_options()
    report.print_machine()
    folder = options.output.resolve().parent / "work" / "generate"
    vocabulary = make_model(options.model, folder / "model")
    draw = random.Random(1)
    records = []
    for dtype in options.dtypes.split(","):
        gguf = folder / f"{dtype}.gguf"
        if options.llama_cpp:
            subprocess.run(
                [ROOT / "launch" / "export-gguf", options.model, gguf, "--type", GGUF_TYPES[dtype]],
                stdout=subprocess.DEVNULL, check=True,
            )  # fmt: skip
        for batch in map(int, options.batches.split(",")):
            prompts = [draw.choices(range(vocabulary - 1), k=options.prompt_tokens)
                       for _ in range(batch)]  # fmt: skip
            job = {"model": str(folder / "model"), "prompts": prompts, "dtype": dtype,
                   "threads": options.threads, "new_tokens": options.new_tokens,
                   "warm_up_tokens": WARM_UP_TOKENS, "gguf": str(gguf)}  # fmt: skip
            records += measure(options, job)
    problems = disagreements(records)
    report.print_table(records, COLUMNS, problems)
    for record in records:
        del record["answers"]
    options.output.write_text(json.dumps(records, indent=2) + "\n")
    print(f"\n{options.output}")
    return 1 if problems or any(record["problem"] for record in records) else 0


if __name__ == "__main__":
    sys.exit(main())
