# SPDX-License-Identifier: Apache-2.0
"""LoRA and QLoRA on every linear module of each dense family, beside peft: three steps of each, the
names and numbers of what is saved, and the merged weights of the first.

The base that peft sees with QLoRA is what bitsandbytes makes of the one that temper quantises.
"""

import shutil
import subprocess
from pathlib import Path

import lora_same_as_peft as lora
import peft
import same_as_transformers as full
import torch
import workspace
from safetensors.torch import load_file
from same_as_transformers import family_files, family_results, tiny_families

STEPS = 3
OVERRIDES = (
    f"train.max_steps={STEPS}", "train.threads=1", "schedule.name=constant",
    "schedule.warmup_steps=0", "optimizer.weight_decay=0", "checkpoint.every_steps=0",
)  # fmt: skip
COLUMNS = ("LoRA", "QLoRA", "merging")
QUANTISATION = ("nf4", True)
STORED_TRANSPOSED = ("gpt2",)


def is_dense(config) -> bool:
    return tiny_families.num_experts(config.get_text_config()) is None


def train_in_peft(model: peft.PeftModel, tokens: torch.Tensor) -> list[dict]:
    """With torch's AdamW, at one rate. Returns the loss and the norm of each step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, full.LEARNING_RATE, (0.9, 0.95), weight_decay=0.0)
    steps = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = full.mean_loss(model, tokens)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, full.MAX_NORM)
        optimizer.step()
        steps.append({"loss": loss.item(), "grad_norm": norm.item()})
    return steps


def write_config(folder: Path, quantisation) -> Path:
    method = "qlora" if quantisation else "lora"
    text = f"method: {method}\nlora: {{rank: 4, alpha: 8, targets: all-linear}}\n"
    if quantisation:
        text += "quantise: {type: nf4, double: true}\n"
    return lora.write_config(folder, text, folder / "start")


def check_training(name: str, folder: Path, tokens: torch.Tensor, quantisation) -> None:
    """From an adapter of peft on, in a fresh run. Raises AssertionError."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    base = family_files.open_model(folder / "model", dtype=torch.float32)
    sees = base.config.model_type in family_files.TEXT_PARTS
    targets = r".*language_model.*(_proj)" if sees else "all-linear"
    options = dict(r=4, lora_alpha=8, target_modules=targets)
    options["fan_in_fan_out"] = base.config.model_type in STORED_TRANSPOSED
    model = lora.write_start(folder, base, options, quantisation)
    config = write_config(folder, quantisation)
    workspace.output(1, "train", config, *OVERRIDES)
    steps = workspace.step_lines(config)
    full.assert_same_steps(f"{name}, {quantisation}", steps, train_in_peft(model, tokens))
    ours = load_file(folder / "run" / "final" / "adapter_model.safetensors")
    theirs = peft.get_peft_model_state_dict(model)
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for key, tensor in ours.items():
        assert torch.allclose(tensor, theirs[key], rtol=1e-3, atol=2e-4), f"{name}: {key}"


def check_merged(name: str, folder: Path) -> None:
    merged = folder / "merged"
    workspace.output(1, "merge", folder / "model", folder / "run/final", merged)
    found = family_files.open_model(merged, dtype=torch.float32).state_dict()
    expected = lora.merge_in_peft(folder / "model", folder / "run/final", torch.float32)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), f"{name}: {key}"


def check_refused(name: str, folder: Path) -> None:
    command = [workspace.BINARY, "train", write_config(folder, QUANTISATION), *OVERRIDES]
    told = subprocess.run(command, capture_output=True, text=True).stderr
    assert "stores its matrices transposed, which is not computed in four bits" in told, name


def main() -> None:
    families = {name: config for name, config in full.FAMILIES.items() if is_dense(config)}
    family_results.forget(COLUMNS, {config.model_type for config in families.values()})
    for name, config in families.items():
        folder, _, tokens = lora.new_case(f"family_{name}", name)
        check_training(name, folder, tokens, None)
        family_results.record("LoRA", config.model_type, f"{STEPS} steps")
        check_merged(name, folder)
        family_results.record("merging", config.model_type, "bits of peft's")
        if config.model_type in STORED_TRANSPOSED:
            check_refused(name, folder)
            family_results.record("QLoRA", config.model_type, "refused")
        else:
            check_training(name, folder, tokens, QUANTISATION)
            family_results.record("QLoRA", config.model_type, f"{STEPS} steps on nf4")


if __name__ == "__main__":
    main()
