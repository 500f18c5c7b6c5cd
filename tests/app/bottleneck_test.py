# SPDX-License-Identifier: Apache-2.0
"""Bottleneck adapters on the command line: their folders, and what is refused of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_run import HIDDEN, assert_refused, evaluating, temper, write_model, write_run

CONFIGURATION, MODEL = 11, 13
PLACE = "model.layers.1.attention_adapters.adapters.a_task."


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a model and a run of bottleneck adapters that is over."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_run(folder)
    options = "method: bottleneck\nbottleneck: {reduction_factor: 4, name: a_task}\n"
    config.write_text(config.read_text() + options)
    done = temper("train", config)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def adapter(trained, tmp_path) -> Path:
    """A copy of the adapter, to be damaged."""
    return shutil.copytree(trained / "run/final", tmp_path / "adapter")


def change_config(adapter: Path, outer: dict | None = None, **inner) -> None:
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text()) | (outer or {})
    if inner:
        config["config"] |= inner
    path.write_text(json.dumps(config))


def generate(model: Path, adapter: Path):
    return temper(
        "generate", model, "--adapter", adapter, "--prompts", "1,2,3", "--max-new-tokens", 4
    )


def test_the_folder_has_what_adapter_hub_wants(trained):
    final = trained / "run/final"
    names = {path.name for path in final.iterdir()}
    assert names == {"adapter_config.json", "adapter.safetensors", "base.json", "README.md",
                     "trainer_state.json"}  # fmt: skip
    config = json.loads((final / "adapter_config.json").read_text())
    assert config["version"].startswith("adapters.") and config["name"] == "a_task"
    assert config["config"]["reduction_factor"] == 4 and config["hidden_size"] == HIDDEN
    tensors = load_file(final / "adapter.safetensors")
    down = tensors[PLACE + "adapter_down.0.weight"]
    assert down.shape == (HIDDEN // 4, HIDDEN) and down.dtype == np.float32
    assert len(tensors) == 2 * 2 * 4


def test_it_generates_is_inspected_and_exported(trained, adapter, tmp_path):
    done = generate(trained / "model", adapter)
    assert done.returncode == 0 and done.stdout.count(",") <= 3, done
    done = temper("inspect", adapter)
    for line in ("method=bottleneck", "name=a_task", "placement=houlsby", "reduction_factor=4",
                 "activation=swish", "num_tensors=16"):  # fmt: skip
        assert line in done.stdout.splitlines(), done.stdout
    assert temper("export", trained / "run", tmp_path / "out").returncode == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (trained / "run/final").iterdir()}


def test_it_is_evaluated_as_a_start(trained):
    holdout = evaluating(trained / "train.h5")
    options = (["--weights", "base"], [f"adapter.start={trained / 'run/final'}"], [])
    fresh, tuned, result = (temper("eval", trained / "run.yaml", *holdout, *more).stdout
                            .splitlines()[1:] for more in options)  # fmt: skip
    assert tuned[0].startswith("holdout=same loss=") and tuned == result != fresh


def test_it_cannot_be_merged(trained, adapter, tmp_path):
    done = temper("merge", trained / "model", adapter, tmp_path / "merged")
    assert_refused(done, CONFIGURATION, "is one of method bottleneck, which no weights of the base")
    assert not (tmp_path / "merged").exists()


def test_a_missing_and_a_surplus_tensor_are_named(trained, adapter):
    path = adapter / "adapter.safetensors"
    tensors = load_file(path)
    tensors["other"] = tensors.pop(PLACE + "adapter_up.bias")
    save_file(tensors, path)
    done = generate(trained / "model", adapter)
    assert_refused(done, MODEL, f"missing: {PLACE}adapter_up.bias [16]", "surplus: other [16]")


def test_another_size_is_a_wrong_shape(trained, adapter):
    change_config(adapter, reduction_factor=8)
    done = generate(trained / "model", adapter)
    assert_refused(done, MODEL, f"wrong shape: {PLACE}adapter_down.0.weight is [4, 16], wanted [2")


def test_a_pickle_is_refused(trained, adapter):
    (adapter / "adapter.safetensors").rename(adapter / "pytorch_adapter.bin")
    done = generate(trained / "model", adapter)
    assert_refused(done, MODEL, "pytorch_adapter.bin is a pickle", "use_safetensors=True")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"original_ln_before": True}, "config.original_ln_before is true and mh_adapter true"),
        ({"mh_adapter": False}, "config.original_ln_before is false and mh_adapter false"),
        ({"is_parallel": True}, "config.is_parallel is true, wanted false"),
        ({"residual_before_ln": "post_add"}, "config.residual_before_ln"),
        ({"scaling": "learned"}, 'config.scaling is "learned", wanted 1.0'),
        ({"ln_after": True}, "config.ln_after"),
        ({"phm_layer": True}, "config.phm_layer"),
        ({"inv_adapter": "nice"}, "config.inv_adapter is set"),
        ({"architecture": "lora"}, "config.architecture is set"),
        ({"leave_out": [1]}, "config.leave_out is [1], wanted []"),
        ({"reduction_factor": {"default": 4}}, "config.reduction_factor"),
        ({"reduction_factor": 1e-20}, "config.reduction_factor is 1e-20, wanted a number from 0.0"),
        ({"non_linearity": "mish"}, "config.non_linearity is 'mish', wanted relu, swish or"),
        ({"outer": {"name": 7}}, "name is 7, wanted a string"),
        ({"outer": {"version": "0.9"}}, 'version is "0.9", wanted one that begins with adapters.'),
        ({"outer": {"config": None}}, "peft_type is missing"),
    ],
)
def test_what_is_not_computed_is_refused(trained, adapter, changes, message):
    change_config(adapter, **changes)
    done = generate(trained / "model", adapter)
    assert_refused(done, MODEL, "is of an adapter that is not computed here", message)


def test_another_base_is_refused(trained, adapter, tmp_path):
    other = write_model(tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights = {name: weight * np.float32(1.01) for name, weight in weights.items()}
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    done = generate(other, adapter)
    assert_refused(done, MODEL, f"was trained on {trained / 'model'}, and {other} is another model")


@pytest.mark.parametrize("option", ["name=other", "placement=pfeiffer", "activation=relu"])
def test_a_start_with_other_options_is_refused(trained, adapter, option):
    done = temper("train", trained / "run.yaml", f"adapter.start={adapter}", f"bottleneck.{option}",
                  f"run.folder={adapter}/run")  # fmt: skip
    assert_refused(done, CONFIGURATION, "or has other tensors or scales than the")


def test_options_that_mean_nothing_are_refused(trained):
    done = temper("check", trained / "run.yaml", "method=lora")
    assert_refused(done, CONFIGURATION, "options under bottleneck have no effect: method is lora")
    wrong = ("bottleneck.name=a.b", "bottleneck.activation=mish")
    done = temper("check", trained / "run.yaml", *wrong)
    assert_refused(done, CONFIGURATION, "bottleneck.name (command line) is 'a.b'", "quick_gelu")
