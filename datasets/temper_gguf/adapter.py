# SPDX-License-Identifier: Apache-2.0
"""A LoRA adapter of peft as a GGUF file that llama.cpp loads beside its base.

llama.cpp has one alpha for all modules, and scales each by alpha / rank: what differs from that is
multiplied into B.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFType, GGUFWriter, Keys
from temper_data.errors import DataError
from temper_data.model_tokenizer import read_json

from .config import Config
from .families import Family
from .tensors import Names, pair_neighbours
from .weights import Weights

PREFIX = "base_model.model."
PART = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])\.weight")
MERGE = "merge it into its base with temper merge, and write that"


def read_adapter_config(folder: Path) -> dict:
    """Raises DataError for an adapter that llama.cpp does not have."""
    found = read_json(folder / "adapter_config.json")
    kind = found.get("peft_type")
    if kind != "LORA":
        raise DataError(
            f"{folder} is an adapter of kind {kind or 'bottleneck'}, and llama.cpp has LoRA alone",
            "serve it with launch/serve or transformers",
        )
    for key, what in (
        ("use_dora", "DoRA"), ("modules_to_save", "modules_to_save"),
        ("trainable_token_indices", "trained rows of tokens"), ("fan_in_fan_out", "fan_in_fan_out"),
    ):  # fmt: skip
        if found.get(key):
            raise DataError(f"{folder} has {what}, and llama.cpp takes none", MERGE)
    if found.get("bias", "none") != "none":
        raise DataError(f"{folder} has trained biases, and llama.cpp takes none", MERGE)
    return found


def first_fit(patterns: dict | None, module: str, default):
    """peft's rule: the first pattern that fits the end of the path."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


@dataclass(frozen=True)
class Pair:
    """One module's A [rank, in] and B [out, rank]."""

    name: str
    down: np.ndarray
    up: np.ndarray


def scale_of(adapter: dict, module: str, rank: int) -> float:
    alpha = first_fit(adapter.get("alpha_pattern"), module, adapter["lora_alpha"])
    return alpha / math.sqrt(rank) if adapter.get("use_rslora") else alpha / rank


def read_pairs(folder: Path, adapter: dict, base: Config, family: Family) -> list[Pair]:
    """Raises DataError for a tensor that is not of a LoRA on this base."""
    weights, names, pairs = Weights(folder, "adapter_model*.safetensors"), Names(base, family), []
    for name in weights.names():
        match = PART.fullmatch(name.removeprefix(PREFIX))
        if match is None:
            raise DataError(f"{name} in {folder} is no part of a LoRA", MERGE)
        if match["part"] == "B":
            continue
        module = match["module"]
        down, up = weights.floats(name), weights.floats(f"{PREFIX}{module}.lora_B.weight")
        target = names.of(f"{module}.weight")
        part, rank = target.split(".")[-2], down.shape[0]
        if part in ("token_embd", "output"):
            raise DataError(f"{folder} adapts {module}, and llama.cpp takes linear modules of "
                            "blocks alone", MERGE)  # fmt: skip
        if family.swaps_pairs and part in ("attn_q", "attn_k"):
            up = pair_neighbours(up, base.num_heads if part == "attn_q" else
                                 base.num_key_value_heads)  # fmt: skip
        own = scale_of(adapter, module, rank)
        common = adapter["lora_alpha"] / rank
        pairs.append(Pair(target, down, up * np.float32(own / common)))
    return pairs


def add_adapter(folder: Path, base: Config, family: Family, writer: GGUFWriter) -> None:
    """Raises DataError."""
    adapter = read_adapter_config(folder)
    if not adapter["lora_alpha"]:
        raise DataError(f"{folder} has lora_alpha 0, by which it changes nothing", MERGE)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, float(adapter["lora_alpha"]))
    for pair in read_pairs(folder, adapter, base, family):
        writer.add_tensor(f"{pair.name}.lora_a", np.ascontiguousarray(pair.down))
        writer.add_tensor(f"{pair.name}.lora_b", np.ascontiguousarray(pair.up))
