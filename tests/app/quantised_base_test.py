# SPDX-License-Identifier: Apache-2.0
"""Bases in four bits that bitsandbytes or temper wrote: trained on, merged into, refused."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import peft
import pytest
import tiny_run
import torch
from bitsandbytes import functional
from safetensors.torch import load_file, save_file
from tiny_run import assert_refused, temper, write_run
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

CONFIGURATION, MODEL = 11, 13
MATRIX = "model.layers.1.mlp.up_proj.weight"
STATE = MATRIX + ".quant_state.bitsandbytes__nf4"
METHOD = """\
method: qlora
lora: {{rank: 2, targets: [q_proj, down_proj]}}
quantise: {{type: {kind}, double: {is_double}}}
"""
KINDS = [("nf4", True), ("fp4", False)]


def write_config(folder: Path, name: str, kind: str, is_double: bool) -> Path:
    """Trains on the model of that name."""
    path = folder / f"{name}.yaml"
    text = tiny_run.CONFIG.format(folder=folder).replace(f"{folder}/run", f"{folder}/runs/{name}")
    text = text.replace(f"{folder}/model", f"{folder}/{name}")
    path.write_text(text + METHOD.format(kind=kind, is_double=str(is_double).lower()))
    return path


def quantise_in_transformers(base: Path, destination: Path, kind: str, is_double: bool) -> Path:
    """What save_pretrained writes of a model that bitsandbytes quantised."""
    torch.set_num_threads(1)  # More may add in another order for the mean of scales.
    how = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=is_double
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=how, dtype=torch.float32, device_map="cpu"
    )
    model.save_pretrained(destination)
    shutil.copy(base / "tokenizer.json", destination)
    return destination


def run(config: Path) -> Path:
    """The adapter of a run on two ranks, sharded."""
    command = ["mpirun", "-n", "2", os.environ["TEMPER_BINARY"], "train", config,
               "parallel.stage=3"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return config.parent / "runs" / config.stem / "final"


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind[0])
def trained(request, tmp_path_factory) -> Path:
    """A dense base, the same in four bits, and a run of QLoRA on each."""
    kind, is_double = request.param
    folder = tmp_path_factory.mktemp(kind)
    write_run(folder)
    quantise_in_transformers(folder / "model", folder / "bnb", kind, is_double)
    for name in ("model", "bnb"):
        run(write_config(folder, name, kind, is_double))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder with a base in NF4 that temper exported, and a shard."""
    folder = tmp_path_factory.mktemp("base")
    tiny_run.write_shard(folder / "train.h5")
    tiny_run.write_checkpoint(folder / "step-00000002")
    done = temper("export", folder / "step-00000002", folder / "bnb", "--quantize", "nf4")
    assert done.returncode == 0, done.stderr
    write_config(folder, "bnb", "nf4", True)
    return folder


@pytest.fixture
def damaged(base, tmp_path) -> Path:
    """A copy of that folder, to be damaged."""
    shutil.copytree(base / "bnb", tmp_path / "bnb")
    shutil.copy(base / "train.h5", tmp_path)
    write_config(tmp_path, "bnb", "nf4", True)
    return tmp_path


def dequantised(base: Path, kind: str, is_double: bool) -> dict[str, torch.Tensor]:
    """The weights with the blocks' matrices as bitsandbytes quantises and dequantises them."""
    torch.set_num_threads(1)
    weights = load_file(base / "model.safetensors")
    for name, weight in weights.items():
        if ".layers." in name and weight.ndim == 2:
            # Flat: on CPUs bitsandbytes 0.50 dequantises blocks that cross rows wrongly.
            quantised = functional.quantize_4bit(
                weight.flatten().float(), quant_type=kind, compress_statistics=is_double
            )
            weights[name] = functional.dequantize_4bit(*quantised).view(weight.shape)
    return weights


def kind_of(trained: Path) -> tuple[str, bool]:
    return next(kind for kind in KINDS if trained.name.startswith(kind[0]))


def test_the_bits_are_those_of_quantising_while_loading(trained):
    """Of what was trained on two ranks; bitsandbytes wrote the one, temper quantised the other."""
    dense, stored = (trained / "runs" / name / "final/adapter_model.safetensors"
                     for name in ("model", "bnb"))  # fmt: skip
    assert dense.read_bytes() == stored.read_bytes()


def test_a_merge_into_the_dequantised_base_is_that_of_bitsandbytes_and_peft(trained, tmp_path):
    weights = dequantised(trained / "model", *kind_of(trained))
    model = AutoModelForCausalLM.from_pretrained(trained / "model")
    model.load_state_dict(weights, strict=False)
    adapter = trained / "runs/model/final"
    expected = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()
    for name, options in (("model", ["--base", "dequantised"]), ("bnb", [])):
        merged = tmp_path / name
        paths = (trained / name, trained / "runs" / name / "final", merged)
        done = temper("merge", *options, *paths)
        assert done.returncode == 0, done.stderr
        assert "base=dequantised quantised=" in done.stdout
        found = load_file(merged / "model.safetensors")
        assert found.keys() == expected.keys() - {"lm_head.weight"}
        for key, tensor in found.items():
            assert torch.equal(tensor, expected[key]), key
        record = json.loads((merged / "merged_adapter.json").read_text())
        kind, is_double = kind_of(trained)
        assert record["quantised"] == {"type": kind, "double": is_double}
        config = json.loads((merged / "config.json").read_text())
        assert "quantization_config" not in config and config["vocab_size"] == tiny_run.VOCAB
        assert temper("inspect", merged).returncode == 0


def test_it_is_undone(trained, tmp_path):
    """Also where the base is in four bits, whose companions come back, too."""
    for name in ("model", "bnb"):
        base = trained / name
        paths = (base, trained / "runs" / name / "final", tmp_path / name)
        assert temper("merge", *paths).returncode == 0
        restored = tmp_path / f"{name}-restored"
        assert temper("merge", "--undo", tmp_path / name, restored).returncode == 0
        before, after = (load_file(one / "model.safetensors") for one in (base, restored))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
        for file in base.glob("*.json"):
            assert (restored / file.name).read_bytes() == file.read_bytes()


def test_a_dense_merge_is_what_it_was(trained, tmp_path):
    paths = (trained / "model", trained / "runs/model/final")
    for number, options in enumerate(([], ["--base", "dense"])):
        done = temper("merge", *options, *paths, tmp_path / str(number))
        assert done.returncode == 0 and "base=dense" in done.stdout, done
    tensors = [load_file(tmp_path / one / "model.safetensors") for one in "01"]
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    base = load_file(trained / "model/model.safetensors")
    assert torch.equal(tensors[0][MATRIX], base[MATRIX])  # Not adapted, so as it was.
    assert "quantised" not in json.loads((tmp_path / "0/merged_adapter.json").read_text())
    done = temper("merge", "--base", "dense", trained / "bnb", trained / "runs/bnb/final",
                  tmp_path / "none")  # fmt: skip
    assert_refused(done, CONFIGURATION, "--base dense: the weights in", "and no others")


def test_an_adapter_that_records_no_quantisation_is_not_added_to_a_dequantised_base(
    trained, tmp_path
):
    adapter = shutil.copytree(trained / "runs/model/final", tmp_path / "adapter")
    (adapter / "base.json").unlink()
    done = temper("merge", "--base", "dequantised", trained / "model", adapter, tmp_path / "merged")
    assert_refused(done, CONFIGURATION, f"{adapter} does not record one quantisation of the base")
    assert not (tmp_path / "merged").exists()


def test_each_adapter_has_its_own_base(trained, tmp_path):
    """One in four bits is another one than the dense one it was made of."""
    done = temper("merge", trained / "bnb", trained / "runs/model/final", tmp_path / "merged")
    assert_refused(done, MODEL, "was trained on", "is another model")


def test_it_evaluates_the_same(trained):
    """With the adapter that was trained."""
    losses = []
    for name in ("model", "bnb"):
        holdout = tiny_run.evaluating(trained / "train.h5")
        start = f"adapter.start={trained / 'runs' / name / 'final'}"
        done = temper("eval", trained / f"{name}.yaml", *holdout, start)
        assert done.returncode == 0, done.stderr
        losses.append(done.stdout.splitlines()[1])
    assert losses[0] == losses[1] and "loss=" in losses[0]


def generate(source: Path, *options) -> str:
    done = temper("generate", source, "--prompts", "1,2,3", "--max-new-tokens", 8,
                  "--temperature", 1, "--dtype", "float32", *options)  # fmt: skip
    assert done.returncode == 0 and "," in done.stdout, done
    return done.stdout


def test_it_generates_the_same(trained):
    """A folder alone is generated from in four bits, with an adapter of it, and without."""
    config = trained / "model.yaml"
    assert generate(trained / "bnb") == generate(config)  # B is zero.
    start = trained / "start.yaml"
    start.write_text(f"{config.read_text()}adapter: {{start: {trained / 'runs/model/final'}}}\n")
    assert generate(trained / "bnb", "--adapter", trained / "runs/bnb/final") == generate(start)


def test_check_and_inspect_tell_of_it(base):
    done = temper("check", base / "bnb.yaml")
    assert done.returncode == 0 and "stored as nf4, double, of F32" in done.stdout, done
    assert "quantised=nf4, double" in temper("inspect", base / "bnb").stdout.splitlines()


@pytest.mark.parametrize("method", ["full", "lora", "prefix"])
def test_other_methods_do_not_train_on_it(base, method):
    options = [f"method={method}", "quantise={}"] + (["lora={}"] if method != "lora" else [])
    for verb in ("check", "train"):
        done = temper(verb, base / "bnb.yaml", *options)
        assert_refused(done, MODEL, "has its weights in four bits (nf4, double), which only method "
                       "qlora trains on", "set method to qlora")  # fmt: skip


def test_other_options_are_refused(base):
    for verb in ("check", "train"):
        done = temper(verb, base / "bnb.yaml", "quantise.double=false")
        assert_refused(done, CONFIGURATION, "quantise is nf4, not double, but the weights in",
                       "are nf4, double", "set quantise: {type: nf4, double: true}")  # fmt: skip


def change_config(folder: Path, **changes) -> None:
    path = folder / "bnb/config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] |= changes
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"load_in_8bit": True, "load_in_4bit": False}, "load_in_8bit is true: eight bits"),
        ({"load_in_4bit": False}, "load_in_4bit is not true"),
        ({"quant_method": "gptq"}, 'quant_method is "gptq", wanted "bitsandbytes"'),
        ({"bnb_4bit_quant_storage": "bfloat16"}, 'bnb_4bit_quant_storage is "bfloat16"'),
        ({"bnb_4bit_quant_type": "int4"}, 'bnb_4bit_quant_type is "int4", wanted nf4 or fp4'),
        ({"bnb_4bit_quant_type": "fp4"}, f"missing: {MATRIX}.quant_state.bitsandbytes__fp4"),
        ({"bnb_4bit_use_double_quant": False}, f"surplus: {MATRIX}.nested_absmax"),
    ],
)
def test_another_configuration_is_refused(damaged, changes, message):
    change_config(damaged, **changes)
    assert_refused(temper("check", damaged / "bnb.yaml"), MODEL, message)


def damage(folder: Path, change) -> None:
    path = folder / "bnb/model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def change_state(tensors: dict, **changes) -> None:
    state = json.loads(bytes(tensors[STATE].tolist())) | changes
    tensors[STATE] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"blocksize": 128}, "says: blocksize is 128, wanted 64"),
        ({"quant_type": "fp4"}, 'says: quant_type is "fp4", wanted "nf4"'),
        ({"shape": [4, 4]}, "says: shape is [4,4], wanted [32,16]"),
        ({"dtype": "int8"}, 'says: dtype is "int8", wanted float32, bfloat16 or float16'),
        ({"nested_blocksize": 64}, "says: nested_blocksize is 64, wanted 256"),
        ({"nested_offset": None}, "says: nested_offset is not a finite number"),
    ],
)
def test_another_state_is_refused(damaged, changes, message):
    damage(damaged, lambda tensors: change_state(tensors, **changes))
    done = temper("check", damaged / "bnb.yaml")
    assert_refused(done, MODEL, f"the tensor {STATE} {message}", "model.safetensors")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda tensors: tensors.pop(MATRIX + ".absmax"), f"missing: {MATRIX}.absmax [8]"),
        (lambda tensors: tensors.pop(STATE), f"missing: {STATE}"),
        (
            lambda tensors: tensors.update({MATRIX: tensors[MATRIX][:-1].clone()}),
            f"wrong shape: {MATRIX} is [255, 1], wanted [256, 1]",
        ),
        (
            lambda tensors: tensors.update({MATRIX: torch.zeros(32, 16)}),
            f"wrong shape: {MATRIX} is [32, 16], wanted [256, 1]",
        ),
        (
            lambda tensors: tensors[MATRIX + ".quant_map"].add_(0.001),
            f"{MATRIX}.quant_map has other values than those of nf4, double",
        ),
        (
            lambda tensors: tensors[MATRIX + ".nested_quant_map"].add_(0.001),
            f"{MATRIX}.nested_quant_map has other values",
        ),
        (
            lambda tensors: tensors[MATRIX + ".nested_absmax"].fill_(torch.nan),
            f"{MATRIX}.nested_absmax has a number that is not finite",
        ),
        (lambda tensors: tensors[STATE].fill_(120), STATE),
    ],
)
def test_damage_is_named(damaged, change, message):
    damage(damaged, change)
    assert_refused(temper("check", damaged / "bnb.yaml"), MODEL, message)


def test_a_scale_that_is_not_finite_is_refused_while_loading(trained, tmp_path):
    kind, is_double = kind_of(trained)
    scales = MATRIX + (".nested_absmax" if is_double else ".absmax")
    shutil.copytree(trained / "bnb", tmp_path / "bnb")
    shutil.copy(trained / "train.h5", tmp_path)
    damage(tmp_path, lambda tensors: tensors[scales].fill_(torch.inf))
    done = temper("train", write_config(tmp_path, "bnb", kind, is_double))
    assert_refused(done, MODEL, f"the tensor {scales} has a number that is not finite")
