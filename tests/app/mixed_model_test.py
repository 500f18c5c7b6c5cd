# SPDX-License-Identifier: Apache-2.0
"""Models whose weights are added up, beside the same sums in numpy."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny_run
from safetensors.numpy import load_file, save_file
from tiny_run import assert_refused, temper
from transformers import AutoModelForCausalLM

CONFIGURATION, MODEL = 11, 13
GENERATION = '{"eos_token_id": 0, "max_length": 33}'  # That only the first model has.


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A start, and two models that were tuned from it."""
    folder = tmp_path_factory.mktemp("mixed")
    start = tiny_run.write_model(folder / "start")
    weights = load_file(start / "model.safetensors")
    random = np.random.default_rng(7)
    for name in ("a", "b"):
        shutil.copytree(start, folder / name)
        tuned = {key: w + random.normal(0, 0.05, w.shape).astype(w.dtype)
                 for key, w in weights.items()}  # fmt: skip
        save_file(tuned, folder / name / "model.safetensors", metadata={"format": "pt"})
    (folder / "a" / "generation_config.json").write_text(GENERATION)
    (folder / "a" / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def mix(folder: Path, weights: dict[str, float], destination: Path):
    each = [text for name, weight in weights.items()
            for text in ("--model", folder / name, "--weight", weight)]  # fmt: skip
    return temper("merge", *each, destination)


@pytest.mark.parametrize("weights", [{"a": 0.3, "start": 0.7}, {"a": 0.5, "b": 0.5},
                                     {"a": 1.5, "start": -0.5}])  # fmt: skip
def test_a_mixture_is_the_weighted_sum(folder, tmp_path, weights):
    done = mix(folder, weights, tmp_path / "mixed")
    assert done.returncode == 0, done.stderr
    parts = {name: load_file(folder / name / "model.safetensors") for name in weights}
    found = load_file(tmp_path / "mixed" / "model.safetensors")
    assert found.keys() == parts["a"].keys()
    for key, tensor in found.items():
        wanted = sum(parts[name][key].astype(np.float64) * w for name, w in weights.items())
        assert (tensor == wanted.astype(np.float32)).all(), key
    assert (tmp_path / "mixed/generation_config.json").read_text() == GENERATION
    card = (tmp_path / "mixed/README.md").read_text()
    assert f"| {folder}/a | {weights['a']} | mit |" in card and "lora" not in card
    AutoModelForCausalLM.from_pretrained(tmp_path / "mixed")


def test_interpolate_evaluates_models_between_two(folder, tmp_path):
    config = tiny_run.write_run(tmp_path)
    holdout = tiny_run.write_shard(tmp_path / "holdout.h5", num_documents=30, lengths=(17,) * 30)
    config.write_text(config.read_text().replace(
        "data:\n", f"data:\n  holdout: [{{name: other, path: {holdout}}}]\n"))  # fmt: skip
    script = [tiny_run.ROOT / "launch/interpolate", config, folder / "start", folder / "a"]
    done = subprocess.run([*map(str, script), "0", "0.5", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    factors = ("0", "0.5", "1")
    assert [line[:2] for line in lines] == [[f"factor={f}", "holdout=other"] for f in factors]
    for line, name in zip((lines[0], lines[2]), ("start", "a")):
        alone = temper("eval", config, f"model.path={folder / name}")
        assert f"{float(alone.stdout.split('loss=')[1].split()[0]):.4f}" == line[2][5:]
    assert len({line[2] for line in lines}) == 3


def test_what_cannot_be_mixed_is_refused(folder, tmp_path):
    destination = tmp_path / "mixed"
    assert_refused(mix(folder, {"a": 0.5, "b": 0.6}, destination), CONFIGURATION,
                   "the weights of the models add up to 1.1, wanted 1")  # fmt: skip
    assert_refused(mix(folder, {"a": 1.0}, destination), CONFIGURATION, "has nothing to mix")
    assert_refused(temper("merge", "--model", folder / "a", destination), CONFIGURATION,
                   "temper merge got 0 weights for 1 models")  # fmt: skip
    assert_refused(temper("merge", "--model", folder / "a", "--weight", 1, "--adapter",
                          folder / "b", destination), CONFIGURATION,
                   "--adapter has no effect: --model mixes whole models")  # fmt: skip
    other = tmp_path / "other"
    shutil.copytree(folder / "b", other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"vocab_size": 32}))
    weights = load_file(other / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:32].copy()
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert_refused(
        temper("merge", "--model", folder / "a", "--weight", 0.5, "--model", other,
               "--weight", 0.5, destination),
        MODEL, "other shapes of model.embed_tokens.weight",
    )  # fmt: skip
    assert not destination.exists()


def test_forgetting_compares_methods_and_keeps_what_is_finished(folder, tmp_path):
    config = tiny_run.write_run(tmp_path)
    held = tiny_run.write_shard(tmp_path / "holdout.h5", num_documents=4, lengths=(17,) * 4)
    roles = "".join(f"{{name: {role}, role: {role}, path: {held}}}, " for role in ("domain",
                                                                                  "general"))
    config.write_text(config.read_text().replace("data:\n", f"data:\n  holdout: [{roles}]\n"))
    script = [tiny_run.ROOT / "launch/forgetting", "--config", config, "--ranks", 1, "--steps", 4,
              "--folder", tmp_path / "runs", "--replay", held,
              "--methods", "interpolation,ema,frozen,lora"]  # fmt: skip

    def call(*more) -> subprocess.CompletedProcess:
        return subprocess.run([*map(str, script), *more], capture_output=True, text=True)

    done = call()
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "runs/forgetting.json").read_text())["methods"]
    assert [row["method"] for row in told] == ["full", "ema", "interpolation", "frozen", "lora"]
    for row in told:
        assert np.isclose(row["gain"], -row["forgetting"], rtol=1e-5), "both are one hold-out"
        assert f"| {row['gain']:.3f} | {row['forgetting']:+.3f} |" in done.stdout
    assert len({row["gain"] for row in told}) == 5
    again = call()
    assert again.stdout == done.stdout and "step=" not in again.stderr
    assert "no method loar" in call("--methods", "loar").stderr
