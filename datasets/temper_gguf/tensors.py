# SPDX-License-Identifier: Apache-2.0
"""Tensors under llama.cpp's names, in the order and the types that it stores them in."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType, get_tensor_name_map, quants
from gguf.quants import quant_shape_to_byte_shape
from temper_data.errors import DataError

from .config import Config
from .families import Family
from .weights import Weights

OF_AN_EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(.+)")
MAX_HALF = 65504.0  # the greatest number of float16


@dataclass(frozen=True)
class FileType:
    matrices: GGMLQuantizationType
    ends: GGMLQuantizationType  # of embedding and head
    stated: LlamaFileType


TYPES = {
    "f32": FileType(GGMLQuantizationType.F32, GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": FileType(GGMLQuantizationType.F16, GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": FileType(
        GGMLQuantizationType.BF16, GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16
    ),
    "q8_0": FileType(
        GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0
    ),
    "q4_0": FileType(
        GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q4_0
    ),
}


def pair_neighbours(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of q or k with those that are rotated together side by side, as llama.cpp's llama has
    them, from halves. Shapes: rows [heads * dim, ...], or [heads * dim]."""
    halves = rows.reshape(num_heads, 2, rows.shape[0] // num_heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


class Names:
    """llama.cpp's names for those of Hugging Face."""

    def __init__(self, config: Config, family: Family):
        self._map = get_tensor_name_map(family.arch, config.num_layers)
        self._family = config.family

    def of(self, name: str) -> str:
        """Raises DataError for a tensor that the architecture does not have."""
        found = self._map.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise DataError(
                f"llama.cpp's {self._family} has no tensor {name}",
                "use the Hugging Face folder: transformers, vLLM and SGLang open it as it is",
            )
        return found


@dataclass(frozen=True)
class Stored:
    """One tensor of the file, and where it comes from: one tensor, half of its rows, or a matrix
    of each expert."""

    name: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    half: int | None = None

    @property
    def num_bytes(self) -> int:
        return int(np.prod(quant_shape_to_byte_shape(self.shape, self.kind))) if is_block(
            self.kind
        ) else int(np.prod(self.shape)) * {0: 4, 1: 2, 30: 2}[int(self.kind)]


def is_block(kind: GGMLQuantizationType) -> bool:
    return kind not in (
        GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16
    )  # fmt: skip


def stored_kind(name: str, shape: tuple[int, ...], types: FileType) -> GGMLQuantizationType:
    """Vectors and routers stay as they are; rows that blocks of 32 do not fill are halves."""
    if len(shape) == 1 or ".ffn_gate_inp" in name:
        return GGMLQuantizationType.F32
    kind = types.ends if name in ("token_embd.weight", "output.weight") else types.matrices
    return GGMLQuantizationType.F16 if is_block(kind) and shape[-1] % 32 else kind


def merged_sources(weights: Weights) -> dict[str, tuple[str, ...]]:
    """Tensors in the order of the files; those of experts by the name without their number."""
    found: dict[str, dict[int, str]] = {}
    for source in weights.names():
        match = OF_AN_EXPERT.fullmatch(source)
        name, number = (f"{match[1]}.{match[3]}", int(match[2])) if match else (source, 0)
        found.setdefault(name, {})[number] = source
    return {name: tuple(one[number] for number in sorted(one)) for name, one in found.items()}


def named_parts(merged: str, names: Names) -> list[tuple[str, int | None]]:
    """llama.cpp's name, and which half of the rows it has: Granite's gate and up are one tensor.
    Raises DataError."""
    if not merged.endswith(".input_linear.weight"):
        return [(names.of(merged), None)]
    down = names.of(merged.replace(".input_linear.", ".output_linear."))
    return [(down.replace("_down_", f"_{part}_"), half) for half, part in enumerate(("gate", "up"))]


def shape_of(name: str, sources: tuple[str, ...], half: int | None, weights: Weights):
    shape = weights.shape(sources[0])
    if OF_AN_EXPERT.fullmatch(sources[0]):
        return len(sources), *shape
    if half is not None:
        return *shape[:-2], shape[-2] // 2, shape[-1]
    return shape[1:] if ".ffn_gate_inp_shexp." in name else shape


def plan_tensors(weights: Weights, config: Config, family: Family, types: FileType) -> list[Stored]:
    """In the order of the files. A head that is the embedding is not stored."""
    names, planned = Names(config, family), []
    for merged, sources in merged_sources(weights).items():
        if merged == "lm_head.weight" and config.get("tie_word_embeddings", False):
            continue
        if merged.endswith(".bias") and not family.has_biases:
            raise DataError(
                f"llama.cpp's {config.family} has no bias {merged}",
                "use the Hugging Face folder: transformers, vLLM and SGLang open it as it is",
            )
        for name, half in named_parts(merged, names):
            shape = shape_of(name, sources, half, weights)
            planned.append(Stored(name, sources, shape, stored_kind(name, shape, types), half))
    return planned


def is_norm(name: str) -> bool:
    return name.endswith("norm.weight")


def read_values(tensor: Stored, weights: Weights, config: Config, family: Family) -> np.ndarray:
    """As llama.cpp computes with them, float32."""
    values = np.stack([weights.floats(source) for source in tensor.sources])
    if tensor.half is not None:
        values = np.split(values, 2, axis=-2)[tensor.half]
    values = values.reshape(tensor.shape)
    part = tensor.name.split(".")[-2]
    if family.swaps_pairs and part in ("attn_q", "attn_k"):
        heads = config.num_heads if part == "attn_q" else config.num_key_value_heads
        values = pair_neighbours(values, heads)
    if family.norm_offset and is_norm(tensor.name):
        values = values + np.float32(family.norm_offset)
    return values


def to_stored(values: np.ndarray, tensor: Stored) -> np.ndarray:
    """The bytes of the file. Raises DataError where float16 does not hold a number."""
    if tensor.kind == GGMLQuantizationType.F16 and np.abs(values).max() > MAX_HALF:
        raise DataError(
            f"{tensor.sources[0]} has numbers above {MAX_HALF:.0f}, which float16 does not hold",
            "write --type bf16 or q8_0",
        )
    return quants.quantize(np.ascontiguousarray(values), tensor.kind)


def data_of(folder: Path) -> Weights:
    """Those of a model."""
    return Weights(folder, "model*.safetensors")
