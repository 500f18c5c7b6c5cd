# SPDX-License-Identifier: Apache-2.0
"""cmake --install and launch/package: what they leave runs elsewhere, with checkout, build and
LibTorch's folder out of reach."""

import functools
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "app"))

import tiny_run  # noqa: E402

BUILD = Path(os.environ["TEMPER_BUILD_DIR"])
DEPS = Path(os.environ["TEMPER_DEPS"])
RECIPE = "share/temper/configs/recipes/sft-under-1k.yaml"
MPI = {name: value for name, value in os.environ.items() if name.startswith(("OMPI_", "PRTE_"))}


@functools.cache
def hidden():
    """A command that runs another where empty folders stand in the place of all that built it; none
    where this system lets nobody mount."""
    script = 'for f in "${@:2:$1}"; do mount -t tmpfs none "$f" || exit 99; done; exec "${@:$1+2}"'
    folders = [path for path in (ROOT, BUILD, DEPS) if path == ROOT or ROOT not in path.parents]
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    command = [*unshare, "bash", "-c", script, "bash", str(len(folders)), *map(str, folders)]
    if subprocess.run([*command, "true"]).returncode == 0:
        return command
    warnings.warn("no namespaces here: what built the program stays within reach", stacklevel=1)
    return []


def run(folder, *command):
    """On a machine that has nothing of ours but the folder."""
    done = subprocess.run(
        [*hidden(), *map(str, command)], capture_output=True, text=True, cwd=folder, timeout=200,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1", **MPI})
    assert done.returncode == 0, done
    return done.stdout


def libraries(program):
    """{name: path} of what the loader finds."""
    lines = run(program.parent, "ldd", program).splitlines()
    found = dict(line.split(" (")[0].strip().split(" => ") for line in lines if "=>" in line)
    assert not any(str(DEPS) in path or path == "not found" for path in found.values()), found
    return found


def check_prefix(prefix, work):
    """The program, its recipes, and a training of three steps under mpirun."""
    program = prefix / "bin" / "temper"
    assert run(prefix, program, "--version") == "temper 0.1.0\n"
    printed = run(prefix, program, "check", prefix / RECIPE, "--print-config")
    assert "method: lora" in printed
    config = tiny_run.write_run(work)
    assert run(work, program, "check", config).endswith("ok\n")
    run(work, prefix / "share/temper/launch/temper", "-n", "2", "train", config)
    lines = (work / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [one["step"] for one in map(json.loads, lines) if one["kind"] == "step"]
    assert steps and max(steps) == 3, lines
    assert [*(work / "run" / "final").glob("*.safetensors")]


def test_what_is_installed_runs_without_what_it_was_built_from(tmp_path):
    prefix = tmp_path / "first"
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True,
                   capture_output=True)
    moved = prefix.rename(tmp_path / "moved")
    check_prefix(moved, tmp_path / "work")
    found = libraries(moved / "bin" / "temper")
    assert Path(found["libtorch_cpu.so"]).resolve().parent == moved / "lib" / "temper"
    assert "moved" not in found["libcrypto.so.3"]
    manual = run(moved, "man", "-M", moved / "share/man", "temper").split()
    assert manual[0] == "TEMPER(1)"
    for file in ("slurm/submit", "launch/chat", "configs/temper.schema.json", "datasets/chat.py"):
        assert (moved / "share/temper" / file).exists()
    for file in ("launch/build", "launch/packaging", "slurm/site.env"):
        assert not (moved / "share/temper" / file).exists()
    assert "usage: slurm/submit" in run(moved, moved / "share/temper/slurm/submit", "--help")
    bash = moved / "share/bash-completion/completions/temper"
    assert run(moved, "bash", "-c", f". {bash}; complete -p temper") == (
        "complete -o default -F _temper temper\n")


def test_a_package_has_all_but_glibc_and_mpi(tmp_path):
    done = subprocess.run([ROOT / "launch/package", "-o", tmp_path / "it.tar", BUILD], check=True,
                          capture_output=True, text=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it.tar"]
    (tmp_path / "elsewhere").mkdir()
    subprocess.run(["tar", "xf", tmp_path / "it.tar", "-C", tmp_path / "elsewhere"], check=True)
    (folder,) = (tmp_path / "elsewhere").iterdir()
    assert (folder / "share/doc/temper/NEEDS").read_text() in done.stdout
    assert "glibc 2." in done.stdout and "libmpi.so." in done.stdout
    found = libraries(folder / "bin" / "temper")
    (mpi,) = [path for name, path in found.items() if name.startswith("libmpi.")]
    glibc = ("libc.", "libm.", "libdl.", "librt.", "libpthread.", "libutil.", "libresolv.")
    of_mpi = libraries(Path(mpi))
    others = {name: path for name, path in found.items()
              if folder not in Path(path).resolve().parents and path != mpi
              and name not in of_mpi and not name.startswith(glibc)}  # fmt: skip
    assert others == {}
    check_prefix(folder, tmp_path / "work")


@pytest.mark.parametrize("arguments, message", [
    (["/nowhere"], "package: there is no build in /nowhere\n  try: launch/build\n"),
    (["-x"], "usage: launch/package [-o FILE] [BUILD_FOLDER]\n"),
])  # fmt: skip
def test_a_package_of_nothing_is_refused(arguments, message):
    done = subprocess.run([ROOT / "launch/package", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (11, message)
