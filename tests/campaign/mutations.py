# SPDX-License-Identifier: Apache-2.0
"""Damages a file that temper reads, in a way that is drawn, and lets temper read it.

Whatever the damage: temper ends well, or refuses in words; it does not crash, and it is no bug.
What is hashed, the token shard and the checkpoints, is never read as something else: a run that
goes on ends with the undisturbed one's bits.
"""

import json
import os
import random
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import campaign
import tiny_job
import tiny_run

FOLDER = tempfile.TemporaryDirectory(prefix="temper-mutations-")
LAST = "step-00000025"  # The checkpoint that a copy of the run resumes from.
WORDS = [
    b"null", b"true", b"-1", b"0", b"1e308", b"1e999", b"NaN", b"9223372036854775808",
    b"18446744073709551616", b"-0.0", b'""', b"[]", b"{}", b"[[[[", b'"\\u0000"', b"\xff\xfe",
    b"\0", b"../../etc", b",", b"}", b'"', b"a" * 5000,
]  # fmt: skip
MORE_OF_A_MODEL = {
    "generation_config.json": {"eos_token_id": [0, 1], "do_sample": False},
    "tokenizer_config.json": {"chat_template": "{{ messages }}", "eos_token": "</s>"},
}


@cache
def original(method: str) -> Path:
    """The configuration of a run of 30 steps of which the last five are to be done again. Its files
    have several parts, since two ranks wrote them, and a lock lies there as a killed job leaves it.
    """
    config = tiny_job.write(Path(FOLDER.name) / method)
    config.write_text(config.read_text() + f"method: {method}\n")
    for name, keys in MORE_OF_A_MODEL.items():
        (config.parent / "model" / name).write_text(json.dumps(keys))
    code, log = tiny_job.train(2, config)
    assert code == 0, log
    (config.parent / "run" / "lock.json").write_text(json.dumps(lock_of_a_dead_job(), indent=2))
    return config


def lock_of_a_dead_job() -> dict:
    """As temper writes it, on this machine."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {
        "id": "1-2", "owner": "job 7", "host": "n1", "process": 2**22, "process_start": "1",
        "process_space": f"{boot} {os.readlink('/proc/self/ns/pid')}",
        "since": "2026-01-01T00:00:00Z", "renewals": "000000000003",
    }  # fmt: skip


@cache
def undisturbed(method: str) -> tuple:
    return campaign.result(original(method))


def mutate(chance: random.Random, data: bytes) -> bytes:
    """The same bytes with one thing wrong."""
    at = chance.randrange(len(data) + 1)
    if chance.random() < 0.3:  # Where formats have their lengths and types.
        at = min(at, chance.randrange(200))
    end = min(len(data), at + chance.choice((1, 2, 8, 64, 4096)))
    kind = chance.randrange(7)
    if kind == 0 and data:
        at = min(at, len(data) - 1)
        return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[end:]
    if kind == 3:
        return data[:end] + data[at:]
    if kind == 4:
        return data[:at] + bytes(end - at) + data[end:]
    word = chance.choice(WORDS)
    return data[:at] + word + data[at if kind == 5 else end :]


def flip_number(chance: random.Random, data: bytes) -> bytes:
    """The same bytes with one bit of the weights wrong: only a hash tells."""
    at = chance.randrange(len(data) // 2, len(data))  # Half of a small file is its header.
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def spoil(chance: random.Random, folder: Path, patterns: tuple) -> Path:
    """Damages one of the files; returns its path."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    path = chance.choice([path for path in files if path.is_file() and path.stat().st_size])
    is_flipped = path.suffix == ".safetensors" and chance.random() < 0.5
    path.write_bytes((flip_number if is_flipped else mutate)(chance, path.read_bytes()))
    return path


def copy_to_resume(method: str, folder: str) -> Path:
    config = tiny_job.copy(original(method), Path(folder) / "copy")
    run = config.parent / "run"
    shutil.rmtree(run / "final")
    shutil.rmtree(tiny_job.checkpoints(config)[-1])
    assert tiny_job.checkpoints(config)[-1].name == LAST
    return config


def generate(*model: object) -> subprocess.CompletedProcess:
    return tiny_run.temper("generate", *model, "--prompts", "1,2,3", "--max-new-tokens", 2)


def read_inputs(chance: random.Random, folder: str, *patterns: str) -> tuple[Path, list]:
    """Configuration and model: whatever they say now, it may be meant."""
    config = copy_to_resume(chance.choice(METHODS), folder)
    shutil.rmtree(config.parent / "run")
    path = spoil(chance, config.parent, patterns)
    done = [tiny_run.temper("check", config, "--verify-data", cwd=config.parent)]
    if "model" in path.parts:
        done.append(generate(config.parent / "model"))
    return path, done


def read_result(chance: random.Random, folder: str, *patterns: str) -> tuple[Path, list]:
    """A model in several files, as temper writes it."""
    model = shutil.copytree(original("full").parent / "run" / "final", Path(folder) / "final")
    path = spoil(chance, model, patterns)
    return path, [generate(model)]


def read_adapter(chance: random.Random, folder: str, *patterns: str) -> tuple[Path, list]:
    source = original(chance.choice(("lora", "prefix", "bottleneck")))
    adapter = shutil.copytree(source.parent / "run" / "final", Path(folder) / "adapter")
    path = spoil(chance, adapter, patterns)
    return path, [generate(source.parent / "model", "--adapter", adapter)]


def read_run(chance: random.Random, folder: str, *patterns: str) -> tuple[Path, list]:
    """The shard, and what the run's folder has: what goes on must come to the same bits."""
    method = chance.choice(METHODS)
    config = copy_to_resume(method, folder)
    path = spoil(chance, config.parent, patterns)
    done = tiny_run.temper("train", config, cwd=config.parent)
    if done.returncode == 0:
        curve, files = campaign.result(config)
        wanted = undisturbed(method)
        assert files == wanted[1], f"{path}: other weights\n{done.stderr}"
        assert path.name == "metrics.jsonl" or curve == wanted[0], f"{path}: another curve"
    return path, [done, tiny_run.temper("inspect", "--verify", config.parent / "run")]


METHODS = ("full", "lora")
SAVED = f"run/checkpoints/{LAST}/"
# Who reads what. Together they are every file that temper reads, but what a person types.
READERS = (
    (read_inputs, "run.yaml"),
    (read_inputs, "model/*.json"),
    (read_inputs, "model/*.safetensors"),
    (read_result, "*.json"),
    (read_result, "*.safetensors"),
    (read_adapter, "*"),
    (read_run, "train.h5"),
    (read_run, SAVED + "*"),
    (read_run, SAVED + "*/*"),
    (read_run, SAVED + "*/*.safetensors"),
    (read_run, "run/metrics.jsonl"),
    (read_run, "run/timing.json", "run/lock.json"),
)


def damage_and_read(chance: random.Random) -> None:
    read, *patterns = chance.choice(READERS)
    with tempfile.TemporaryDirectory(dir=FOLDER.name) as folder:
        path, ends = read(chance, folder, *patterns)
        for done in ends:
            try:
                campaign.assert_honest_end(done.returncode, done.stdout + done.stderr)
            except AssertionError as error:
                raise AssertionError(f"{path.name}: {done.args[1]} {error}") from None


if __name__ == "__main__":
    with FOLDER:
        campaign.run("mutations", 30, damage_and_read)
