# SPDX-License-Identifier: Apache-2.0
"""Licences and origins of sources: what a recipe may state, what it refuses, where they end up."""

import json

import pytest
import templates
from conftest import report_of, run_here, write_lines, write_model
from prepared import A, Q
from recipe_test import GOOD, load, message
from shard_reader import Shard

STATED = """\
kind: sft
model: {tmp}/model
output: {tmp}/out
workers: 1
allow_licenses: [mit, CC-BY-4.0, LicenseRef-ours]
sources:
  - path: {tmp}/a.jsonl
    license: MIT
    origin: https://huggingface.co/datasets/some/set
  - path: {tmp}/b.jsonl
    license: LicenseRef-ours
holdout: {fraction: 0.5}
"""


def conversations(tmp_path, name, count=20):
    rows = [{"messages": [Q, A | {"content": f"{name} {i}"}]} for i in range(count)]
    return write_lines(tmp_path / f"{name}.jsonl", rows)


def prepared(tmp_path, recipe):
    write_model(tmp_path / "model", templates.CHATML)
    conversations(tmp_path, "a")
    conversations(tmp_path, "b")
    return run_here(tmp_path, recipe)


def test_statements_travel_into_shards_and_report(tmp_path):
    folder = prepared(tmp_path, STATED)
    report = report_of(folder)
    assert report["recipe"]["allow_licenses"] == ["mit", "CC-BY-4.0", "LicenseRef-ours"]
    for name in ("train", "holdout"):
        origin = json.loads(Shard(folder / f"{name}.h5")["origin"])
        for found in (report, origin):
            first, second = found["recipe"]["sources"]
            assert first["license"] == "MIT"
            assert first["origin"] == "https://huggingface.co/datasets/some/set"
            assert second["license"] == "LicenseRef-ours" and "origin" not in second
            first, second = found["sources"]
            assert first["file"].endswith("a.jsonl") and first["license"] == "MIT"
            assert first["origin"] == "https://huggingface.co/datasets/some/set"
            assert second["license"] == "LicenseRef-ours" and "origin" not in second
    assert not any("license" in note for note in report["notes"])


def test_sources_without_a_licence_among_others_are_named(tmp_path):
    lines = STATED.splitlines(keepends=True)
    silent = [line for line in lines if "LicenseRef" not in line]
    folder = prepared(tmp_path, "".join(silent))
    notes = report_of(folder)["notes"]
    assert [note for note in notes if "license" in note] == [
        f"no license is stated for {tmp_path}/b.jsonl"
    ]


def test_all_sources_that_are_not_allowed_are_refused_at_once(tmp_path):
    found = message(
        tmp_path,
        "kind: sft\nmodel: m\noutput: o\nallow_licenses: [MIT, Apache-2.0]\nsources:\n"
        "  - path: a\n    license: mit\n  - path: b\n    license: GPL-3.0-only\n  - path: c\n",
    )
    assert "recipe.yaml: 2 problems" in found
    assert (
        "sources.1.license (line 9) is 'GPL-3.0-only', and allow_licenses is MIT, Apache-2.0\n"
        "  try: remove the source, or add its licence there"
    ) in found
    assert (
        "sources.2.license is missing, and allow_licenses is MIT, Apache-2.0\n"
        "  try: state the source's licence, or remove the source"
    ) in found


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("license", "''", "sources.0.license (line 6) is ''\n  try: write one line"),
        ("license", '"a\\nb"', "is 'a\\nb'\n  try: write one line"),
        ("origin", "'" + "x" * 501 + "'", "try: write one line of at most 500 characters"),
        ("origin", "[a]", "sources.0.origin (line 6) is a list or map"),
        ("origin", "' '", "sources.0.origin (line 6) is ' '"),
    ],
)
def test_statements_are_one_line(tmp_path, key, value, says):
    assert says in message(tmp_path, GOOD + f"    {key}: {value}\n")


def test_an_empty_list_allows_nothing(tmp_path):
    assert "allow_licenses (line 6) allows no licence" in message(
        tmp_path, GOOD + "allow_licenses: []\n"
    )
    recipe = load(tmp_path, GOOD)
    assert recipe.allow_licenses == ()
    # A recipe that states nothing is the one that made what was prepared before it could.
    assert not {"license", "origin", "allow_licenses"} & {
        *recipe.identity(), *recipe.identity()["sources"][0]
    }  # fmt: skip
