# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmark of data preparation on little data: every kind must be prepared and reported.

With --peers also what it is compared with, after tests/bench/setup.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "datasets"))

from conftest import chat, write_lines, write_model  # noqa: E402
from templates import CHATML  # noqa: E402

PEERS = {"sft": "map", "text": "map-text", "near": "minhash"}
MEGABYTES = 0.4


def write_texts(folder: Path) -> None:
    folder.mkdir()
    asked = [chat(f"What is {n}?", f"It is a number, {n * n}.") for n in range(40)]
    write_lines(folder / "options.jsonl", asked)
    for name in ("pages", "general"):
        texts = [" ".join(f"{name}{n}x{i}" for i in range(400)) for n in range(20)]
        write_lines(folder / f"{name}.jsonl", [{"text": text} for text in texts])


def check(folder: Path, kind: str, with_peers: bool) -> None:
    options = {"kind": kind, "megabytes": MEGABYTES, "rounds": 1, "model": folder / "model",
               "texts": folder / "texts", "work": folder / "work", "output": folder / "out.json"}
    given = [f"--{key}={value}" for key, value in options.items()]
    command = [ROOT / "tests/bench/prepare", *given]
    command += ["--alone"] * (not with_peers)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    entries = json.loads((folder / "out.json").read_text())
    made = [json.loads(line) for line in open(folder / "work" / f"{kind}-{MEGABYTES}.jsonl")]
    is_near = kind == "near"
    systems = ["without"] * is_near + ["temper"] + [PEERS[kind]] * with_peers + ["near"] * is_near
    assert [entry["system"] for entry in entries] == systems, entries
    if is_near:
        without, whole, stage = entries[0], entries[1], entries.pop()
        for key in ("seconds", "cpu_seconds"):
            assert abs(stage[key] + without[key] - whole[key]) < 1e-6, entries
        assert without["documents"] == len(made) > whole["documents"], entries
        entries.remove(without)
    for entry in entries:
        assert entry["seconds"] > 0 and 0 < entry["cpu_seconds"] < 60, entry
        assert abs(entry["megabytes_per_second"] * entry["seconds"] - MEGABYTES) < 0.01, entry
    documents = entries[0]["documents"]
    assert documents < len(made) if kind == "near" else documents == len(made), (entries, len(made))
    tokens = {entry["tokens_per_second"] * entry["seconds"] for entry in entries if kind == "sft"}
    assert max(tokens, default=1) - min(tokens, default=1) < 1, entries


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model", CHATML)
        write_texts(folder / "texts")
        for kind in PEERS:
            check(folder, kind, "--peers" in sys.argv)


if __name__ == "__main__":
    main()
