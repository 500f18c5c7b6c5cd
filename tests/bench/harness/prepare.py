# SPDX-License-Identifier: Apache-2.0
"""Measures data preparation beside what people use, in turns on the same made file.

    tests/bench/prepare [--kind sft|text] [--megabytes 33] [--rounds 3] [--peer-python PYTHON]

PYTHON is one that has `datasets`, `transformers` and, for --trl, `trl`: by default the one that
tests/bench/setup makes. Texts come from the quickstart's, repeated with noise, so that no two are
equal. Nothing depends on the figures.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
QUICKSTART = ROOT / "runs" / "quickstart"
SECONDS_BETWEEN_LOOKS = 0.2
PAGE = os.sysconf("SC_PAGESIZE")


def make_file(path: Path, kind: str, megabytes: int, texts: Path) -> None:
    """Records with some words replaced: one in each message, one in fifty of a text."""
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
    for _ in range(len(words) // 50 + 1):
        words[chance.randrange(len(words))] = f"w{chance.randrange(10**5)}"
    return {"text": " ".join(words)}


def resident_bytes(root: int) -> int:
    """Resident memory of a process and all below it; shared pages count in each."""
    parents, sizes = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            after = (entry / "stat").read_text().rpartition(")")[2].split()
            sizes[int(entry.name)] = int(after[21]) * PAGE
            parents[int(entry.name)] = int(after[1])
        except (ValueError, OSError, IndexError):
            continue  # No process, or one that has ended.
    family = {root}
    while grown := {n for n, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(sizes.get(number, 0) for number in family)


class Run:
    """A command with its time and the peak of what all its processes have resident."""

    def __init__(self, command: list[str]):
        self.peak = 0
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        watcher = threading.Thread(target=self._watch, args=(process,), daemon=True)
        watcher.start()
        self.output = process.communicate()[0]
        self.seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"prepare: failed: {' '.join(map(str, command))}")

    def _watch(self, process: subprocess.Popen) -> None:
        while process.poll() is None:
            self.peak = max(self.peak, resident_bytes(process.pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)


def run_temper(options: argparse.Namespace, file: Path, work: Path) -> tuple[Run, int]:
    kind = "sft" if options.kind == "sft" else "pretrain"
    recipe = work / "recipe.yaml"
    recipe.write_text(
        f"kind: {kind}\nmodel: {options.model}\noutput: {work}/temper\n"
        f"workers: {options.processes}\n"
        f"sources:\n  - path: {file}\n"
    )
    run = Run([sys.executable, str(ROOT / "datasets" / "prepare.py"), str(recipe), "--force"])
    report = json.loads((work / "temper" / "report.json").read_text())
    return run, report["shards"]["train"]["tokens"]


def run_peer(options: argparse.Namespace, way: str, file: Path, work: Path) -> tuple[Run, int]:
    """Its seconds are without the imports, which ours are with."""
    shutil.rmtree(work / "peer", ignore_errors=True)
    program = str(ROOT / "tests" / "bench" / "peers" / "prepare.py")
    arguments = [way, str(options.model), str(file), str(options.processes), str(work / "peer")]
    run = Run([options.peer_python, program, *arguments])
    found = json.loads(run.output.strip().splitlines()[-1])
    run.seconds = found["seconds"]
    return run, found["tokens"]


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/prepare", description=__doc__.split("\n")[0])
    parser.add_argument("--peer-python", default=os.environ["TEMPER_BENCH_PYTHON"])
    parser.add_argument("--kind", choices=("sft", "text"), default="sft")
    parser.add_argument("--megabytes", type=int, default=33, help="10000 takes long")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--trl", action="store_true", help="TRL's own preparation, too")
    parser.add_argument("--model", type=Path, default=QUICKSTART / "model")
    parser.add_argument("--texts", type=Path, default=QUICKSTART / "text")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench" / "work" / "prepare")
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    options.work.mkdir(parents=True, exist_ok=True)
    file = options.work / f"{options.kind}-{options.megabytes}.jsonl"
    make_file(file, options.kind, options.megabytes, options.texts)
    megabytes = file.stat().st_size / 1e6
    ways = ["map" if options.kind == "sft" else "map-text"]
    ways += ["trl"] * (options.trl and options.kind == "sft")
    systems = ["temper", *ways * Path(options.peer_python).exists()]
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(options.rounds):
        for name in systems:
            if name == "temper":
                run, tokens = run_temper(options, file, options.work)
            else:
                run, tokens = run_peer(options, name, file, options.work)
            seconds[name].append(run.seconds)
            print(
                f"{name:<9}{run.seconds:8.1f} s {megabytes / run.seconds:7.2f} MB/s"
                f"{tokens / run.seconds:10.0f} tokens/s {run.peak / 1e6:8.0f} MB resident",
                flush=True,
            )
    for name in systems[1:]:
        pairs = zip(seconds[name], seconds["temper"], strict=True)
        ratio = statistics.median(theirs / ours for theirs, ours in pairs)
        print(f"{name}: temper is {ratio:.2f} times as fast (median of {options.rounds} rounds)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
