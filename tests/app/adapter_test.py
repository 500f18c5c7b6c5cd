# SPDX-License-Identifier: Apache-2.0
"""Adapters on the command line: what is told about them, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_run
from safetensors.numpy import load_file, save_file
from tiny_run import HIDDEN, assert_refused, temper, write_model, write_run

CONFIGURATION, MODEL = 11, 13


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a model and a run of LoRA that is over."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_run(folder)
    text = config.read_text() + "method: lora\nlora: {rank: 2, targets: [q_proj, down_proj]}\n"
    config.write_text(text)
    done = temper("train", config)
    assert done.returncode == 0, done.stderr
    assert "method=lora trained=" in done.stderr + done.stdout
    return folder


@pytest.fixture
def adapter(trained, tmp_path) -> Path:
    """A copy of the adapter, to be damaged."""
    return shutil.copytree(trained / "run/final", tmp_path / "adapter")


def change_config(adapter: Path, **changes) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def generate(trained: Path, adapter: Path):
    return temper(
        "generate", trained / "model", "--adapter", adapter, "--prompts", "1,2,3",
        "--max-new-tokens", 4,
    )  # fmt: skip


def test_the_folder_has_what_peft_wants(trained):
    final = trained / "run/final"
    names = {path.name for path in final.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "base.json", "README.md",
                     "trainer_state.json"}  # fmt: skip
    config = json.loads((final / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 2 and config["lora_alpha"] == 32
    assert config["target_modules"] == ["q_proj", "down_proj"]
    tensors = load_file(final / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    assert tensors[name].shape == (2, HIDDEN) and tensors[name].dtype == np.float32
    assert len(tensors) == 2 * 2 * 2


def test_it_generates_inspects_and_merges(trained, adapter, tmp_path):
    done = generate(trained, adapter)
    assert done.returncode == 0 and done.stdout.count(",") <= 3, done
    done = temper("inspect", adapter)
    for line in ("kind=adapter", "method=lora", "rank=2", "num_tensors=8"):
        assert line in done.stdout.splitlines(), done.stdout
    assert temper("merge", trained / "model", adapter, tmp_path / "merged").returncode == 0
    assert temper("inspect", tmp_path / "merged").returncode == 0


def test_an_adapter_from_scratch_is_evaluated_as_its_base(trained):
    holdout = tiny_run.evaluating(trained / "train.h5")
    config = trained / "run.yaml"
    base = temper("eval", config, *holdout, "method=full", "lora={}")
    assert base.returncode == 0 and "\nholdout=same loss=" in base.stdout, base
    assert base.stdout.startswith(f"weights=base path={trained / 'model'}\n")
    assert temper("eval", config, *holdout, "--weights", "base").stdout == base.stdout
    start = trained / "run/final"
    tuned = temper("eval", config, *holdout, f"adapter.start={start}")
    first, loss = tuned.stdout.splitlines()
    assert first == f"weights=base path={trained / 'model'} adapter={start}"
    assert loss != base.stdout.splitlines()[1]
    result = temper("eval", config, *holdout).stdout.splitlines()
    newest = (trained / "run/checkpoints/latest").resolve() / "adapter"
    assert result == [f"weights=newest step=3 path={newest}", loss]
    done = temper("eval", config, *holdout, "--weights", "final", "method=full", "lora={}")
    assert_refused(done, CONFIGURATION, f"{start} is an adapter of method lora, and method is full")


def test_check_tells_what_is_trained(trained):
    done = temper("check", trained / "run.yaml")
    assert done.returncode == 0 and "lora, " in done.stdout, done
    assert "trained parameters in 8 tensors" in done.stdout


def test_a_missing_and_a_surplus_tensor_are_named(trained, adapter):
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    missing = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    tensors["other"] = tensors.pop(missing)
    save_file(tensors, path)
    assert_refused(generate(trained, adapter), MODEL, f"missing: {missing} [", "surplus: other [")


@pytest.mark.parametrize(
    "changes, tensor",
    [
        ({"use_dora": True}, "layers.0.self_attn.q_proj.lora_magnitude_vector"),
        ({"modules_to_save": ["lm_head"]}, "lm_head.weight"),
        ({"trainable_token_indices": [3]}, "embed_tokens.token_adapter.trainable_tokens_delta"),
    ],
)
def test_what_the_configuration_promises_is_missed(trained, adapter, changes, tensor):
    change_config(adapter, **changes)
    assert_refused(generate(trained, adapter), MODEL, "missing: base_model.model.", tensor)


def test_an_empty_adapter_is_refused(trained, adapter):
    save_file({}, adapter / "adapter_model.safetensors")
    assert_refused(generate(trained, adapter), MODEL, "missing: base_model.model.model.layers.0")


def test_another_rank_is_a_wrong_shape(trained, adapter):
    change_config(adapter, r=3)
    assert_refused(generate(trained, adapter), MODEL, "wrong shape: ", "is [2, 16], wanted [3, 16]")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"], "ensure_weight_tying": True}, "ensure_weight_tying"),
        ({"modules_to_save": "lm_head"}, "modules_to_save"),
        ({"trainable_token_indices": {"lm_head": [1]}}, "trainable_token_indices"),
        ({"trainable_token_indices": [1.5]}, "trainable_token_indices"),
        ({"target_modules": None}, "target_modules"),
        ({"target_modules": [3]}, "target_modules"),
        ({"rank_pattern": {"q_proj": -1}}, "rank_pattern"),
        ({"rank_pattern": {"q_proj": 1.5}}, "rank_pattern has 1.5 for 'q_proj'"),
        ({"layers_to_transform": [-1]}, "layers_to_transform"),
        ({"layers_to_transform": [0], "target_modules": "all-linear"}, "layers_to_transform"),
        ({"lora_dropout": 1.5}, "lora_dropout is 1.5, wanted a number from 0 to below 1"),
        ({"init_lora_weights": "pissa"}, "save it in peft as a plain LoRA (save_pretrained with"),
        ({"kasa_config": {"beta": 1}}, "kasa_config is set"),
        ({"nobody": "x\0" + "y" * 60_000}, "'nobody' is '\"x\\u0000yyy"),
    ],
)
def test_what_is_not_computed_is_refused(trained, adapter, changes, message):
    change_config(adapter, **changes)
    done = generate(trained, adapter)
    assert_refused(done, MODEL, "is of an adapter that is not computed here", message)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target_modules": ["q_proj", "embed_tokens"]}, "target_modules names 'embed_tokens'"),
        ({"target_modules": ["q_proj\0"]}, "target_modules names 'q_proj\\x00'"),
        ({"target_modules": ["x" * 60_000]}, "target_modules names 'xxx"),
        ({"target_modules": "(q_proj"}, "target_modules has '(q_proj', which is no regular expr"),
        ({"target_modules": ".*" * 3000 + "x"}, "mean no module"),
        ({"target_modules": "(" * 4000}, "target_modules has '((("),
        ({"target_modules": "." * 100_000}, "100000 characters, and 10000 are the most"),
        ({"modules_to_save": ["o_proj"]}, "modules_to_save names 'o_proj', a matrix of the blocks"),
        ({"layers_to_transform": [7]}, "layers_to_transform names block 7"),
        ({"trainable_token_indices": [999]}, "trainable_token_indices has 999"),
    ],
)
def test_what_the_base_does_not_have_is_a_problem_of_the_file(trained, adapter, changes, message):
    change_config(adapter, **changes)
    done = generate(trained, adapter)
    assert_refused(done, MODEL, f"{adapter}/adapter_config.json", message)
    assert "lora." not in done.stderr and len(done.stderr) < 1500, done.stderr


def test_a_pattern_without_a_match_is_named(trained, adapter):
    """In a configuration it is an error; peft loads an adapter in spite of it."""
    done = temper("check", trained / "run.yaml", "lora.alpha_pattern=[{module: k_proj, alpha: 3}]")
    assert_refused(done, CONFIGURATION, "lora.alpha_pattern has 'k_proj', which fits no module")
    change_config(adapter, alpha_pattern={"k_proj": 64})
    done = generate(trained, adapter)
    assert done.returncode == 0 and "has the pattern 'k_proj', which fits no" in done.stderr, done


def test_another_base_is_refused(trained, adapter, tmp_path):
    other = write_model(tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = weights[name] + np.float32(1e-3)
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    message = f"was trained on {trained / 'model'}, and {other} is another model"
    done = temper("generate", other, "--adapter", adapter, "--prompts", "1", "--max-new-tokens", 1)
    assert_refused(done, MODEL, message)
    assert_refused(temper("merge", other, adapter, tmp_path / "merged"), MODEL, message)
    assert not (tmp_path / "merged").exists()
    start = [f"adapter.start={adapter}", f"model.path={other}", f"run.folder={tmp_path / 'run'}"]
    for verb in ("check", "train"):
        assert_refused(temper(verb, trained / "run.yaml", *start), MODEL, message)


def test_a_resume_on_another_base_is_refused(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    path = copy / "model/model.safetensors"
    weights = load_file(path)
    weights = {name: weight * np.float32(1.01) for name, weight in weights.items()}
    save_file(weights, path, metadata={"format": "pt"})
    config = (copy / "run.yaml").read_text().replace(str(trained), str(copy))
    (copy / "run.yaml").write_text(config)
    assert_refused(temper("train", copy / "run.yaml"), MODEL, "was trained on", "is another model")


def test_a_resume_by_another_method_is_refused(trained):
    done = temper("train", trained / "run.yaml", "method=qlora")
    assert_refused(done, CONFIGURATION, "method was lora and is qlora")
    done = temper("train", trained / "run.yaml", "method=full", "lora={}")
    assert_refused(done, CONFIGURATION, "method was lora")


def test_a_start_with_other_options_is_refused(trained, adapter):
    done = temper("train", trained / "run.yaml", f"adapter.start={adapter}", "lora.alpha=5",
                  f"run.folder={adapter}/run")  # fmt: skip
    assert_refused(done, CONFIGURATION, "or has other tensors or scales than the")


def test_a_sum_that_is_not_finite_is_refused(trained, adapter, tmp_path):
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    for name in tensors:
        tensors[name] = tensors[name] + np.float32(1e30)
    save_file(tensors, path)
    done = temper("merge", trained / "model", adapter, tmp_path / "merged")
    assert_refused(done, MODEL, "merging makes model.layers.0.", "not finite in F32")
    assert not (tmp_path / "merged").exists()


def test_a_merge_without_a_record_cannot_be_undone(trained, tmp_path):
    done = temper("merge", "--undo", trained / "model", tmp_path / "restored")
    assert_refused(done, MODEL, "does not record the base it was merged from")


def test_a_base_that_has_changed_is_not_restored(trained, adapter, tmp_path):
    base = shutil.copytree(trained / "model", tmp_path / "base")
    assert temper("merge", base, adapter, tmp_path / "merged").returncode == 0
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] + np.float32(1.0)
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    done = temper("merge", "--undo", tmp_path / "merged", tmp_path / "restored")
    assert_refused(done, MODEL, "is not the base any more that")


def test_an_adapter_is_not_quantised(trained, tmp_path):
    done = temper("export", trained / "run", tmp_path / "out", "--quantize", "nf4")
    assert_refused(done, CONFIGURATION, "is a checkpoint of an adapter, which is not quantised")


def test_only_lora_can_be_merged(trained, tmp_path):
    config = f"{trained / 'run.yaml'}"
    done = temper("train", config, "method=prefix", "lora={}", f"run.folder={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    done = temper("merge", trained / "model", tmp_path / "run/final", tmp_path / "merged")
    assert_refused(done, CONFIGURATION, "is one of method prefix, which no weights of the base can")


def test_merge_wants_its_paths(tmp_path):
    done = temper("merge", tmp_path, tmp_path)
    assert_refused(done, CONFIGURATION, "temper merge got 2 paths, wanted 3")


def test_options_of_lora_without_lora_are_refused(trained):
    done = temper("check", trained / "run.yaml", "method=full")
    assert_refused(done, CONFIGURATION, "the options under lora have no effect: method is full")
    done = temper("check", trained / "run.yaml", "lora.targets=[]")
    assert_refused(done, CONFIGURATION, "lora.targets is empty: nothing would be trained")


def test_pissa_begins_with_dense_matrices_and_without_another_adapter(trained):
    settings = ["method=qlora", "lora.init=pissa", f"adapter.start={trained / 'run/final'}"]
    done = temper("check", trained / "run.yaml", *settings)
    assert_refused(done, CONFIGURATION, "lora.init is pissa, but a matrix in four bits is not")
    assert_refused(done, CONFIGURATION, "an adapter to begin with has its values already")
    done = temper("check", trained / "run.yaml", "lora.pissa_niter=16")
    assert_refused(done, CONFIGURATION, "lora.pissa_niter has no effect: lora.init is kaiming")


def test_a_list_with_a_wrong_item_is_refused(trained):
    done = temper("check", trained / "run.yaml", "lora.layers=[1, x]", "lora.targets=[{a: b}]")
    assert_refused(done, CONFIGURATION, "lora.layers (command line) is 'x'", "each item the number",
                   "lora.targets (command line) is a section")  # fmt: skip


@pytest.mark.parametrize("method", ["", ", use_dora: true"])
def test_a_merge_has_the_same_bits_on_any_number_of_threads(tmp_path, monkeypatch, method):
    # Products of 36 columns and of 333 rows, which a BLAS left to itself adds up in an order that
    # follows the number of threads.
    monkeypatch.setattr(tiny_run, "HIDDEN", 36)
    monkeypatch.setattr(tiny_run, "INNER", 333)
    config = write_run(tmp_path)
    config.write_text(
        config.read_text() + f"method: lora\nlora: {{rank: 8, targets: [up_proj]{method}}}\n"
    )
    # So much is learned that the last bits of the product show in the sum.
    assert temper("train", config, "optimizer.learning_rate=0.3").returncode == 0
    merged = []
    for num_threads in (1, 2, 3, 4, 8):
        folder = tmp_path / f"merged_{num_threads}"
        # MKL would not use more threads than there are cores.
        threads = {"OMP_NUM_THREADS": str(num_threads), "MKL_DYNAMIC": "FALSE"}
        done = temper(
            "merge", tmp_path / "model", tmp_path / "run/final", folder, env=os.environ | threads
        )
        assert done.returncode == 0, done.stderr
        merged.append((folder / "model.safetensors").read_bytes())
    assert merged[0] != (tmp_path / "model/model.safetensors").read_bytes()
    assert all(weights == merged[0] for weights in merged)
