# SPDX-License-Identifier: Apache-2.0
"""Keys of a GGUF file that say how a model computes, and the tensors that its positions need."""

import math

import numpy as np
from gguf import GGUFWriter, RopeScalingType

from .config import Config
from .families import Family


def add_sizes(config: Config, family: Family, vocab_size: int, writer: GGUFWriter) -> None:
    """Raises DataError for what llama.cpp computes otherwise."""
    writer.add_context_length(config.need("max_position_embeddings"))
    writer.add_embedding_length(config.need("hidden_size"))
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.need("intermediate_size"))
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_vocab_size(vocab_size)
    epsilon = config.need(family.epsilon)
    if family.has_layer_norm:
        writer.add_layer_norm_eps(epsilon)
    else:
        writer.add_layer_norm_rms_eps(epsilon)
    add_positions(config, family, writer)
    if config.num_experts:
        add_experts(config, family, writer)
    if family.extra:
        family.extra(config, writer)


def add_experts(config: Config, family: Family, writer: GGUFWriter) -> None:
    """Raises DataError."""
    writer.add_expert_count(config.num_experts)
    writer.add_expert_used_count(config.need("num_experts_per_tok"))
    if family.expert_width:
        writer.add_expert_feed_forward_length(config.need(family.expert_width))
    if family.shared_width:
        writer.add_expert_shared_feed_forward_length(config.need(family.shared_width))


def add_positions(config: Config, family: Family, writer: GGUFWriter) -> None:
    rope, kind = config.rope, config.rope["rope_type"]
    theta, width = rope["rope_theta"], config.head_dim
    if family.has_rope_alpha and kind == "dynamic" and rope.get("alpha"):
        theta *= rope["alpha"] ** (width / (width - 2))
    share = family.rotated_share if config.rotated_share is None else config.rotated_share
    writer.add_rope_freq_base(theta)
    writer.add_rope_dimension_count(int(width * share))
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        add_yarn(config, writer)
    elif kind == "longrope":
        context = original_context(config)
        scale = config.need("max_position_embeddings") / context
        factor = math.sqrt(1 + math.log(scale) / math.log(context)) if scale > 1.0 else 1.0
        writer.add_rope_scaling_type(RopeScalingType.LONGROPE)
        writer.add_rope_scaling_orig_ctx_len(context)
        writer.add_rope_scaling_attn_factors(rope.get("attention_factor") or factor)


def add_yarn(config: Config, writer: GGUFWriter) -> None:
    rope = config.rope
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(original_context(config))
    writer.add_rope_scaling_yarn_beta_fast(rope.get("beta_fast") or 32.0)
    writer.add_rope_scaling_yarn_beta_slow(rope.get("beta_slow") or 1.0)


def original_context(config: Config) -> int:
    rope = config.rope
    return rope.get("original_max_position_embeddings") or config.get(
        "original_max_position_embeddings", config.need("max_position_embeddings")
    )


def position_tensors(config: Config) -> dict[str, np.ndarray]:
    """By what frequencies are divided, float32. Shapes: half of what is rotated."""
    rope = config.rope
    if rope["rope_type"] == "longrope":
        return {
            f"rope_factors_{kind}.weight": np.array(rope[f"{kind}_factor"], np.float32)
            for kind in ("long", "short")
        }
    if rope["rope_type"] == "llama3":
        return {"rope_freqs.weight": llama3_divisors(config)}
    return {}


def llama3_divisors(config: Config) -> np.ndarray:
    """Source: transformers, modeling_rope_utils._compute_llama3_parameters."""
    rope, width = config.rope, config.head_dim
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    context = original_context(config)
    waves = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, width, 2) / width)
    smooth = np.clip((context / waves - low) / (high - low), 0.0, 1.0)
    divisors = 1.0 / ((1.0 - smooth) / factor + smooth)
    return divisors.astype(np.float32)
