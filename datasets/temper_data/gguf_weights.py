# SPDX-License-Identifier: Apache-2.0
"""Weights of a llama-architecture GGUF file as Hugging Face names, shapes and bfloat16 bytes."""

from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors import TensorSpec, serialize_file

from .atomic_file import published
from .errors import DataError

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
MODEL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def to_hugging_face_name(name: str) -> str:
    """`blk.3.attn_q.weight` to `model.layers.3.self_attn.q_proj.weight`. Raises DataError."""
    if name in MODEL_NAMES:
        return MODEL_NAMES[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in LAYER_NAMES and parts[3] == "weight":
        return f"model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}.weight"
    raise DataError(
        f"tensor {name} of the GGUF file is not part of the llama architecture",
        "use a GGUF file of a plain Llama model",
    )


def undo_rotary_permutation(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of q or k back from interleaved pairs to halves. Shapes: weight [heads * dim, in].

    llama.cpp's converter stores row pairs (i, i + dim / 2) of each head side by side.
    """
    pairs = weight.reshape(num_heads, weight.shape[0] // num_heads // 2, 2, weight.shape[1])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 to bfloat16 bits (uint16), rounded to nearest even. Raises DataError on NaN, Inf."""
    if not np.isfinite(values).all():
        raise DataError("the GGUF file holds NaN or Inf weights", "download the file again")
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def read_weights(reader: GGUFReader, num_heads: int, num_kv_heads: int) -> dict[str, np.ndarray]:
    """Every tensor in float32 under its Hugging Face name, shapes as transformers has them."""
    weights = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        value = value.reshape(tensor.shape[::-1])
        if ".attn_q." in tensor.name:
            value = undo_rotary_permutation(value, num_heads)
        elif ".attn_k." in tensor.name:
            value = undo_rotary_permutation(value, num_kv_heads)
        weights[to_hugging_face_name(tensor.name)] = value
    return weights


def write_bfloat16(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Publishes `weights` as one safetensors file of bfloat16."""
    halves = {name: to_bfloat16(value) for name, value in weights.items()}
    entries = {
        name: TensorSpec(
            dtype="bfloat16", shape=half.shape, data_ptr=half.ctypes.data, data_len=half.nbytes
        )
        for name, half in halves.items()
    }
    with published(path) as temporary:
        serialize_file(entries, str(temporary), metadata={"format": "pt"})
