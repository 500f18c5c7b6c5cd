# SPDX-License-Identifier: Apache-2.0
"""Bottleneck adapters beside AdapterHub's library: training, files in both directions, logits.

usage: bottleneck_same_as_adapters.py <adapter_probe>

For tiny models of each family an adapter that `adapters` wrote is trained for twenty steps by
temper on two ranks and by `adapters` with torch's AdamW. Compared are loss, gradient norm and
learning rate of each step, every trained tensor, and, of the adapter as it began and as temper
saved it, hold-out loss and logits, both from files that another process of `adapters` opens.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import adapters
import lora_same_as_peft as lora
import numpy as np
import same_as_transformers as full
import torch
import workspace
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

NAME = "a_task"

# name: family, configuration of adapters, the same for temper, activations recomputed
CASES = {
    "houlsby_llama": ("llama_tied", adapters.DoubleSeqBnConfig(), "", False),
    "pfeiffer_llama": (
        "llama_biases",
        adapters.SeqBnConfig(reduction_factor=7.5),
        "placement: pfeiffer, reduction_factor: 7.5, ",
        True,
    ),
    "houlsby_qwen3": (
        "qwen3",
        adapters.DoubleSeqBnConfig(reduction_factor=12, non_linearity="gelu"),
        "placement: houlsby, reduction_factor: 12, activation: gelu, ",
        True,
    ),
    "pfeiffer_qwen2": (
        "qwen2",
        adapters.SeqBnConfig(non_linearity="gelu_new"),
        "placement: pfeiffer, activation: gelu_new, ",
        False,
    ),
    "pfeiffer_mistral": (
        "mistral_window",
        adapters.SeqBnConfig(non_linearity="quick_gelu", reduction_factor=0.5),
        "placement: pfeiffer, activation: quick_gelu, reduction_factor: 0.5, ",
        False,
    ),
}


def write_start(folder: Path, family: str, config) -> torch.nn.Module:
    """Saves a base and an adapter; of the model that is returned only the adapter is trained."""
    model = full.write_base(folder, full.FAMILIES[family])
    adapters.init(model)
    model.add_adapter(NAME, config=config)
    model.set_active_adapters(NAME)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = f".adapters.{NAME}." in name
    model.save_adapter(folder / "start", NAME, use_safetensors=True)
    return model


def check_training(name: str, config: Path, model: torch.nn.Module, tokens: torch.Tensor) -> None:
    """Trains both ways. Leaves what temper trained in run/final."""
    workspace.run(2, "train", config)
    expected = full.train_in_transformers(model, lambda model: full.mean_loss(model, tokens))
    found = workspace.step_lines(config)
    full.assert_same_steps(name, found, expected)
    assert found[-1]["loss"] < found[0]["loss"]
    ours = load_file(config.parent / "run" / "final" / "adapter.safetensors")
    theirs = {key: value for key, value in model.state_dict().items() if f".{NAME}." in key}
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for key, tensor in ours.items():
        assert torch.allclose(tensor, theirs[key], rtol=1e-3, atol=2e-4), f"{name}: {key}"


def check_config(folder: Path) -> None:
    """The configuration that temper writes is that of adapters, but for where the base lies."""
    ours, theirs = (
        json.loads((folder / place / "adapter_config.json").read_text())
        for place in ("run/final", "start")
    )
    assert ours.pop("model_name") == str(folder / "model")
    theirs.pop("model_name")
    assert ours == theirs, f"{ours}\n{theirs}"


def loss_in_temper(folder: Path) -> float:
    line = workspace.output(2, "eval", lora.write_evaluation(folder)).splitlines()[-1]
    return float(line.split("loss=")[1].split()[0])


def logits_in_temper(probe: str, model: Path, adapter: Path, tokens: np.ndarray) -> torch.Tensor:
    file = adapter / "logits.bin"
    row = ",".join(map(str, tokens[0]))
    subprocess.run([probe, model, adapter, row, file], check=True)
    return torch.from_numpy(np.fromfile(file, np.float32).reshape(full.LENGTH, full.VOCABULARY))


def write_in_adapters(folders: list[Path]) -> None:
    """Opens the files of each case with adapters, and writes logits and loss beside them."""
    for folder in folders:
        tokens = torch.from_numpy(np.load(folder / "tokens.npy"))
        for place in ("start", "run/final"):
            model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
            adapters.init(model)
            loading = {}
            name = model.load_adapter(
                str(folder / place), with_head=False, use_safetensors=True, loading_info=loading
            )
            assert not loading["missing_keys"] and not loading["unexpected_keys"], loading
            model.set_active_adapters(name)
            with torch.no_grad():
                logits = model.eval()(input_ids=tokens[:1]).logits[0]
                loss = full.mean_loss(model, tokens)
            torch.save({"logits": logits, "loss": loss}, folder / place / "expected.pt")


def check_files(name: str, folder: Path, probe: str, tokens: np.ndarray) -> None:
    for place in ("start", "run/final"):
        expected = torch.load(folder / place / "expected.pt")
        found = logits_in_temper(probe, folder / "model", folder / place, tokens)
        difference = (found - expected["logits"]).abs().max().item()
        assert difference < 1e-5, f"{name}, {place}: logits differ by {difference}"
    ours, theirs = loss_in_temper(folder), expected["loss"].item()
    assert abs(ours - theirs) <= 1e-6 * theirs, f"{name}: loss {ours}, in adapters {theirs}"


def train_case(name: str, family: str, config, ours: str, recomputes: bool) -> Path:
    folder = workspace.FOLDER / "bottleneck" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = write_start(folder, family, config)
    tokens = np.random.default_rng(5).integers(0, full.VOCABULARY, (full.ROWS, full.LENGTH))
    np.save(folder / "tokens.npy", tokens)
    full.write_shard(folder / "train.h5", tokens, folder / "model" / "tokenizer.json")
    options = f"method: bottleneck\nbottleneck: {{{ours}name: {NAME}}}\n"
    path = lora.write_config(folder, options)
    if recomputes:
        path.write_text(path.read_text().replace("train: {", "train: {recompute: true, "))
    check_training(name, path, model, torch.from_numpy(tokens))
    check_config(folder)
    return folder


def main(arguments: list[str]) -> None:
    if arguments[0] == "write":
        write_in_adapters([Path(argument) for argument in arguments[1:]])
        return
    folders = {name: train_case(name, *case) for name, case in CASES.items()}
    subprocess.run([sys.executable, __file__, "write", *folders.values()], check=True)
    for name, folder in folders.items():
        check_files(name, folder, arguments[0], np.load(folder / "tokens.npy"))


if __name__ == "__main__":
    main(sys.argv[1:])
