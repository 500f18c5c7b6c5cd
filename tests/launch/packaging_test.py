# SPDX-License-Identifier: Apache-2.0
"""launch/packaging names the versions, hashes, scripts and options that there are.

What each file was tried with, beyond this, stands in its first lines.
"""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "launch" / "packaging"
VERSION = re.search(r"project\(temper VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())[1]
LOCK = re.search(r"(?m)^\[libtorch\]\n((?:.+\n)+)", (ROOT / "launch/lock").read_text())[1]
EASYCONFIG = FOLDER / f"temper-{VERSION}-gompi-2024a.eb"
SPACK = FOLDER / "spack/packages/temper/package.py"
FILES = [path for path in FOLDER.rglob("*") if path.is_file() and path.name != "repo.yaml"
         and path.suffix != ".pyc"]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_says_how_far_it_was_tried_and_names_what_there_is(path):
    text = path.read_text()
    assert re.search(r"(?m)^(# |\"\"\")Tried: .", text)
    for script in re.findall(r"(?<![\w/])launch/[\w/.-]*\w", text):
        assert (ROOT / script).exists(), script
    known = "".join(one.read_text() for one in (ROOT / "CMakeLists.txt", *ROOT.glob("src/*.cmake")))
    for option in re.findall(r"-D(TEMPER_\w+)|define\(\"(TEMPER_\w+)", text):
        assert re.search(rf"\b{''.join(option)}\b", known), option


def test_versions_are_that_of_the_project():
    assert f"version: \"{VERSION}\"" in (FOLDER / "recipe.yaml").read_text()
    assert f"image.version {VERSION}\n" in (FOLDER / "temper.def").read_text()
    assert f'version("{VERSION}"' in SPACK.read_text()
    assert f"version = '{VERSION}'" in EASYCONFIG.read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION


@pytest.mark.parametrize("path", [SPACK, EASYCONFIG], ids=lambda path: path.name)
def test_libtorch_is_that_of_the_lock(path):
    text = path.read_text()
    ast.parse(text)
    hashes = re.findall(r"\b[0-9a-f]{64}\b", text)
    locked = [line for line in LOCK.splitlines() if not line.startswith("#")]
    assert len(hashes) == len(locked) == 3
    for line in locked:
        name, version = line.split()[0].split("==")
        assert f"{name.replace('-', '_')}-{version}-" in text
        assert any(one in line for one in hashes)


def test_conda_wants_the_torch_of_the_lock():
    series = re.search(r"torch==(\d+\.\d+)", LOCK)[1]
    assert f"- libtorch ={series}\n" in (FOLDER / "recipe.yaml").read_text()
