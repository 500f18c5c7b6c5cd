# SPDX-License-Identifier: Apache-2.0
"""Measures data preparation beside what people use, in turns on the same made file.

    tests/bench/prepare [--kind sft|text|near] [--megabytes 33] [--rounds 3] [--alone]

`near` is texts with near copies dropped, beside datatrove's MinHash: of ours what the preparation
takes with them less what it takes without. Peers run in the Python that
tests/bench/setup makes, or another one that has them (--peer-python). Texts come from the
quickstart's, repeated with noise, so that no two are equal. Nothing depends on the figures.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
QUICKSTART = ROOT / "runs" / "quickstart"
WAYS = {"sft": "map", "text": "map-text", "near": "minhash"}  # what a peer does
STAGE, WITHOUT = "near", "without"  # What near copies take of a preparation; one without them.
NEAR = "near_duplicates:\n  action: drop\n"
SECONDS_BETWEEN_LOOKS = 0.2
PROGRAM = [sys.executable, str(ROOT / "datasets" / "prepare.py")]
# Its modules are compiled once, as for everybody, whatever the environment says of that.
BYTE_CODE = {
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "bench" / "byte-code"),
}


def make_file(path: Path, kind: str, megabytes: float, texts: Path) -> None:
    """Records with some words replaced: one in each message, one in fifty of a text, or one in two
    hundred, so that two copies have most runs of five words in common."""
    chance, size = random.Random(1), 0
    names = ("options",) if kind == "sft" else ("pages", "general")
    rows = [json.loads(line) for name in names for line in open(texts / f"{name}.jsonl")]
    with open(path, "w", encoding="utf-8") as file:
        while size < megabytes * 1e6:
            for row in rows:
                size += file.write(json.dumps(with_noise(row, kind, chance)) + "\n")
                if size >= megabytes * 1e6:
                    break


def with_noise(row: dict, kind: str, chance: random.Random) -> dict:
    if kind == "sft":
        turns = [
            message | {"content": f"{message['content'][:620]} ({chance.randrange(10**6)})"}
            for message in row["messages"]
        ]
        return {"messages": turns}
    words = row["text"].split(" ")
    for _ in range(len(words) // (200 if kind == "near" else 50) + 1):
        words[chance.randrange(len(words))] = f"w{chance.randrange(10**5)}"
    return {"text": " ".join(words)}


def resident_bytes(root: int) -> int:
    """Resident memory of a process and all below it; a page that several have counts once."""
    parents = {}
    for entry in Path("/proc").iterdir():
        try:
            after = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(after[1])
        except (ValueError, OSError, IndexError):
            continue  # No process, or one that has ended.
    family = {root}
    while grown := {n for n, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(proportional_bytes(number) for number in family)


def proportional_bytes(process: int) -> int:
    """What a process has of memory, of a page that n have an n-th; 0 for one that has ended."""
    try:
        told = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss: +([0-9]+) kB", told, re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def cpu_seconds_of_children() -> float:
    """Of those that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Run:
    """A command with its time, by the clock and of all processors, and the peak of what all its
    processes have resident."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None):
        self.peak = 0
        started, before = time.perf_counter(), cpu_seconds_of_children()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        watcher = threading.Thread(target=self._watch, args=(process,), daemon=True)
        watcher.start()
        self.output = process.communicate()[0]
        self.seconds = time.perf_counter() - started
        self.cpu_seconds = cpu_seconds_of_children() - before
        if process.returncode:
            raise SystemExit(f"prepare: failed: {' '.join(map(str, command))}")

    def _watch(self, process: subprocess.Popen) -> None:
        while process.poll() is None:
            self.peak = max(self.peak, resident_bytes(process.pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)


def run_temper(options: argparse.Namespace, file: Path, extra: str = "") -> tuple[Run, dict]:
    """The run, and what the report says of its shard. `extra` is put behind the recipe."""
    output = options.work / "temper"
    recipe = options.work / "recipe.yaml"
    recipe.write_text(
        f"kind: {'sft' if options.kind == 'sft' else 'pretrain'}\n"
        f"model: {options.model}\noutput: {output}\nworkers: {options.processes}\n"
        f"sources:\n  - path: {file}\n" + extra
    )
    run = Run([*PROGRAM, str(recipe), "--force"], os.environ | BYTE_CODE)
    return run, json.loads((output / "report.json").read_text())["shards"]["train"]


def run_peer(options: argparse.Namespace, way: str, file: Path) -> tuple[Run, dict]:
    """Its times are without the imports, which ours are with."""
    output = options.work / "peer"
    shutil.rmtree(output, ignore_errors=True)
    if way == "minhash":
        arguments = ["minhash.py", file, options.processes, output]
    else:
        arguments = ["prepare.py", way, options.model, file, options.processes, output]
    program = ROOT / "tests" / "bench" / "peers" / arguments[0]
    run = Run([options.peer_python, *map(str, [program, *arguments[1:]])])
    found = json.loads(run.output.strip().splitlines()[-1])
    run.seconds, run.cpu_seconds = found["seconds"], found["cpu_seconds"]
    return run, found


def describe(name: str, run: Run, found: dict, megabytes: float) -> dict:
    """An entry of the output; without tokens where nothing is tokenised."""
    tokens = found.get("tokens")
    return {
        "system": name,
        "seconds": run.seconds,
        "cpu_seconds": run.cpu_seconds,
        "megabytes_per_second": megabytes / run.seconds,
        "tokens_per_second": tokens and tokens / run.seconds,
        "documents": found["documents"],
        "resident_megabytes": run.peak / 1e6,
    }


def print_entry(entry: dict) -> None:
    tokens = entry["tokens_per_second"]
    rate = entry["megabytes_per_second"]
    shown = f"{rate:7.2f} MB/s " if rate else " " * 13
    shown += f"{tokens:9.0f} tokens/s" if tokens else " " * 18
    print(
        f"{entry['system']:<9}{entry['seconds']:8.1f} s {entry['cpu_seconds']:8.1f} CPU s{shown}"
        f"{entry['resident_megabytes']:7.0f} MB resident, {entry['documents']} documents",
        flush=True,
    )


def stage_alone(whole: dict, without: dict) -> dict:
    """An entry of what near copies take of a preparation: all that it takes less without them."""
    entry = dict(whole, system=STAGE, megabytes_per_second=None, tokens_per_second=None)
    for key in ("seconds", "cpu_seconds"):
        entry[key] = whole[key] - without[key]
    return entry


def print_ratios(entries: list[dict], rounds: int) -> None:
    """The median of the ratios of one round each, of the stage alone where a peer does no more."""
    names = list(dict.fromkeys(entry["system"] for entry in entries))
    ours_is = STAGE if STAGE in names else "temper"
    for name in [name for name in names if name not in ("temper", WITHOUT, STAGE)]:
        ratios = []
        for key in ("seconds", "cpu_seconds"):
            ours, theirs = ([e[key] for e in entries if e["system"] == s] for s in (ours_is, name))
            ratios.append(statistics.median(b / a for a, b in zip(ours, theirs, strict=True)))
        print(f"{name}: {ours_is} is {ratios[0]:.2f} times as fast and takes 1/{ratios[1]:.2f} of "
              f"the processors' time (median of {rounds} rounds)")  # fmt: skip


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/prepare", description=__doc__.split("\n")[0])
    parser.add_argument("--peer-python", default=os.environ["TEMPER_BENCH_PYTHON"])
    parser.add_argument("--kind", choices=WAYS, default="sft")
    parser.add_argument("--megabytes", type=float, default=33, help="10000 takes long")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--trl", action="store_true", help="TRL's own preparation, too")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--model", type=Path, default=QUICKSTART / "model")
    parser.add_argument("--texts", type=Path, default=QUICKSTART / "text")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench" / "work" / "prepare")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench" / "prepare.json")
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    options.work.mkdir(parents=True, exist_ok=True)
    file = options.work / f"{options.kind}-{options.megabytes:g}.jsonl"
    make_file(file, options.kind, options.megabytes, options.texts)
    megabytes = file.stat().st_size / 1e6
    subprocess.run([*PROGRAM, "--help"], env=os.environ | BYTE_CODE, stdout=subprocess.DEVNULL)
    peers = [WAYS[options.kind]] + ["trl"] * (options.trl and options.kind == "sft")
    entries = []
    is_near = options.kind == "near"
    for _ in range(options.rounds):
        made: dict[str, dict] = {}
        for name in [WITHOUT] * is_near + ["temper", *peers * (not options.alone)]:
            if name in ("temper", WITHOUT):
                found = run_temper(options, file, NEAR * (is_near and name == "temper"))
            else:
                found = run_peer(options, name, file)
            made[name] = describe(name, *found, megabytes)
            print_entry(made[name])
        if is_near:
            made[STAGE] = stage_alone(made["temper"], made[WITHOUT])
            print_entry(made[STAGE])
        entries += made.values()
    print_ratios(entries, options.rounds)
    options.output.write_text(json.dumps(entries, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
