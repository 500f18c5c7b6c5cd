# SPDX-License-Identifier: Apache-2.0
"""Damages a file that temper reads, in a way that is drawn, and lets temper read it.

Whatever the damage: temper ends well, or refuses in words; it does not crash, and it is no bug.
What is hashed, the token shard and the checkpoints, is never read as something else: a run that
goes on ends with the undisturbed one's bits.
"""

import random
import shutil
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


@cache
def original(method: str) -> Path:
    """The configuration of a run of 30 steps of which the last five are to be done again."""
    config = tiny_job.write(Path(FOLDER.name) / method)
    config.write_text(config.read_text() + f"method: {method}\n")
    code, log = tiny_job.train(1, config)
    assert code == 0, log
    return config


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


def spoil(chance: random.Random, folder: Path, patterns: tuple) -> Path:
    """Damages one of the files; returns its path."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    path = chance.choice([path for path in files if path.is_file()])
    path.write_bytes(mutate(chance, path.read_bytes()))
    return path


def copy_to_resume(method: str, folder: str) -> Path:
    config = tiny_job.copy(original(method), Path(folder) / "copy")
    run = config.parent / "run"
    shutil.rmtree(run / "final")
    shutil.rmtree(tiny_job.checkpoints(config)[-1])
    assert tiny_job.checkpoints(config)[-1].name == LAST
    return config


def read_inputs(chance: random.Random, method: str, folder: str) -> tuple[Path, list]:
    """Configuration and model: whatever they say now, it may be meant."""
    config = copy_to_resume(method, folder)
    shutil.rmtree(config.parent / "run")
    path = spoil(chance, config.parent, ("run.yaml", "model/*"))
    done = [tiny_run.temper("check", config, "--verify-data", cwd=config.parent)]
    if "model" in path.parts:
        done.append(tiny_run.temper("generate", config.parent / "model", "--prompts", "1,2,3",
                                    "--max-new-tokens", 2))  # fmt: skip
    return path, done


def read_run(chance: random.Random, method: str, folder: str) -> tuple[Path, list]:
    """The shard, and what the run's folder has: what goes on must come to the same bits."""
    config = copy_to_resume(method, folder)
    path = spoil(chance, config.parent, chance.choice((
        ("train.h5",), (f"run/checkpoints/{LAST}/**/*",), ("run/metrics.jsonl",))))  # fmt: skip
    done = tiny_run.temper("train", config, cwd=config.parent)
    if done.returncode == 0:
        curve, files = campaign.result(config)
        wanted = undisturbed(method)
        assert files == wanted[1], f"{path}: other weights\n{done.stderr}"
        assert path.name == "metrics.jsonl" or curve == wanted[0], f"{path}: another curve"
    return path, [done, tiny_run.temper("inspect", "--verify", config.parent / "run")]


def read_adapter(chance: random.Random, method: str, folder: str) -> tuple[Path, list]:
    source = original(chance.choice(("lora", "prefix", "bottleneck")))
    adapter = Path(shutil.copytree(source.parent / "run" / "final", Path(folder) / "adapter"))
    path = spoil(chance, adapter, ("*",))
    base = source.parent / "model"
    return path, [
        tiny_run.temper("generate", base, "--adapter", adapter, "--prompts", "1,2,3",
                        "--max-new-tokens", 2)
    ]  # fmt: skip


def damage_and_read(chance: random.Random) -> None:
    read = chance.choice((read_inputs, read_run, read_run, read_adapter))
    method = chance.choice(("full", "lora"))
    with tempfile.TemporaryDirectory(dir=FOLDER.name) as folder:
        path, ends = read(chance, method, folder)
        for done in ends:
            try:
                campaign.assert_honest_end(done.returncode, done.stdout + done.stderr)
            except AssertionError as error:
                raise AssertionError(f"{path.name}: {done.args[1]} {error}") from None


if __name__ == "__main__":
    with FOLDER:
        campaign.run("mutations", 30, damage_and_read)
