# SPDX-License-Identifier: Apache-2.0
"""Adapters that peft wrote with any of its settings: the same here as there, or refused by name."""

import dataclasses
import json
import os
import shutil
import subprocess
import typing
from pathlib import Path

import lora_same_as_peft as lora
import peft
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def merge(base: Path, adapter: Path, merged: Path) -> subprocess.CompletedProcess:
    shutil.rmtree(merged, ignore_errors=True)
    command = [os.environ["TEMPER_BINARY"], "merge", base, adapter, merged]
    return subprocess.run([str(one) for one in command], capture_output=True, text=True)


def known_starts() -> list:
    """The values of init_lora_weights that the installed peft names, and some that it takes."""
    hint = typing.get_type_hints(peft.LoraConfig)["init_lora_weights"]
    literal = next(one for one in typing.get_args(hint) if typing.get_args(one))
    names = [name.replace("[number of iters]", "3") for name in typing.get_args(literal)]
    return [True, False, None, *names, "lora_ga", "OLoRA", "Gaussian", "nonsense"]


def is_of_a_changed_base(start) -> bool:
    """Of LoRA-GA peft changes the base while it trains, and no more while it loads."""
    return start == "lora_ga"


def loaded_on_the_same_base(base: Path, adapter: Path) -> peft.PeftModel | None:
    """The adapter in peft; nothing if peft changes the base for it, or does not load it."""
    plain = AutoModelForCausalLM.from_pretrained(base)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    try:
        loaded = peft.PeftModel.from_pretrained(plain, adapter)
    except (ValueError, ImportError):
        return None
    for name, module in loaded.named_modules():
        if hasattr(module, "lora_A"):
            wanted = before[name.removeprefix("base_model.model.") + ".weight"]
            if not torch.equal(module.get_base_layer().weight, wanted):
                return None
    return loaded


def check_starts() -> None:
    """What an adapter began with changes nothing, or its base: then it is refused by the key."""
    folder, base, _ = lora.new_case("starts", "llama_tied")
    options = dict(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
    lora.write_start(folder, base, options, None)
    adapter, refused = folder / "start", []
    for start in known_starts():
        quantisation = {"loftq_bits": 4, "loftq_iter": 1}
        lora.rewrite_config(adapter, init_lora_weights=start, loftq_config=quantisation)
        done = merge(folder / "model", adapter, folder / "merged")
        loaded = loaded_on_the_same_base(folder / "model", adapter)
        if loaded is None or is_of_a_changed_base(start):
            assert done.returncode == 13 and "init_lora_weights is " in done.stderr, (start, done)
            is_unknown = "which peft does not know" in done.stderr
            assert is_unknown or "merge it in peft (merge_and_unload)" in done.stderr, done
            refused.append(start)
            continue
        assert done.returncode == 0, (start, done)
        found = load_file(folder / "merged/model.safetensors")
        for key, tensor in loaded.merge_and_unload(safe_merge=True).state_dict().items():
            assert key == "lm_head.weight" or torch.equal(found[key], tensor), (start, key)
    changing = {"pissa", "pissa_niter_3", "olora", "OLoRA", "corda", "loftq", "lora_ga"}
    assert changing | {"nonsense"} == set(refused) - {None}, refused


def check_keys() -> None:
    """Each key that the installed peft has is known: honoured, harmless, or refused for itself."""
    folder, base, _ = lora.new_case("keys", "llama_tied")
    lora.write_start(folder, base, dict(r=4, target_modules=["q_proj"]), None)
    for config in (peft.LoraConfig, peft.PrefixTuningConfig, peft.PromptTuningConfig):
        keys = {field.name: ["?"] for field in dataclasses.fields(config)}
        keys |= {"peft_type": config().peft_type.value, "nobody_knows_this": 1}
        (folder / "start/adapter_config.json").write_text(json.dumps(keys))
        done = merge(folder / "model", folder / "start", folder / "merged")
        unknown = [line for line in done.stderr.splitlines() if "a key that is not known" in line]
        assert [line.split("'")[1] for line in unknown] == ["nobody_knows_this"], done.stderr


def check() -> None:
    check_starts()
    check_keys()
