# SPDX-License-Identifier: Apache-2.0
"""What llama.cpp computes with each family of models, and how its tensors differ from ours.

Source: llama.cpp, convert_hf_to_gguf.py and src/llama-model.cpp. Whatever a configuration asks for
that llama.cpp computes otherwise is refused, in words.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from gguf import MODEL_ARCH, GGUFWriter
from temper_data.errors import DataError

from .config import Config

PLAIN = {"default", "dynamic"}  # the latter up to the model's own context
SCALED = PLAIN | {"linear", "yarn"}


def refuse(config: Config, what: str) -> None:
    raise DataError(
        f"this model of family {config.family} {what}, and llama.cpp computes that otherwise",
        "use its Hugging Face folder: transformers, vLLM and SGLang open it as it is",
    )


@dataclass(frozen=True)
class Family:
    arch: MODEL_ARCH
    swaps_pairs: bool = False  # q and k are stored with rotary pairs side by side
    norm_offset: float = 0.0  # the weights of norms are stored with it
    epsilon: str = "rms_norm_eps"
    has_layer_norm: bool = False
    rope: frozenset[str] = frozenset(PLAIN)
    activations: frozenset[str] = frozenset({"silu"})
    has_biases: bool = False  # of attention and MLP, where a model has them
    rotated_share: float = 1.0  # of a head, where the configuration does not say
    has_rope_alpha: bool = False  # by which positions of type dynamic change the base
    has_own_theta: bool = False  # where the configuration has no rope_theta, not 10000
    has_mscale: bool = False  # of positions of type yarn
    expert_width: str = ""  # where it is not intermediate_size
    shared_width: str = ""  # of the MLP beside experts
    extra: Callable[[Config, GGUFWriter], None] | None = None  # keys and refusals of its own


def scale_query(config: Config, width: int) -> None:
    if config.get("query_pre_attn_scalar", 256) != width:
        refuse(config, f"has query_pre_attn_scalar {config.get('query_pre_attn_scalar', 256)}, not "
                       f"{width}")  # fmt: skip


def alternate(config: Config, every: int) -> None:
    """Each `every`-th layer has full attention, the others a window."""
    layers = config.windowed_layers()
    if layers and layers != [(index + 1) % every != 0 for index in range(config.num_layers)]:
        refuse(config, f"has windows in layers other than all but each {every}th")


def gemma2(config: Config, writer: GGUFWriter) -> None:
    scale_query(config, config.head_dim)
    alternate(config, 2)
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(key) is None:
            refuse(config, f"has no {key}")
    writer.add_attn_logit_softcapping(config.get("attn_logit_softcapping"))
    writer.add_final_logit_softcapping(config.get("final_logit_softcapping"))
    writer.add_sliding_window(config.get("sliding_window", 4096))


def gemma3(config: Config, writer: GGUFWriter) -> None:
    scale_query(config, config.head_dim)
    alternate(config, config.get("sliding_window_pattern", 6))
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(key) is not None:
            refuse(config, f"has {key}")
    writer.add_sliding_window(config.get("sliding_window", 4096))
    if config.window_theta not in (None, 10000.0):
        writer.add_rope_freq_base_swa(config.window_theta)


def granite(config: Config, writer: GGUFWriter) -> None:
    writer.add_attention_scale(config.get("attention_multiplier", 1.0))
    writer.add_embedding_scale(config.get("embedding_multiplier", 1.0))
    writer.add_residual_scale(config.get("residual_multiplier", 1.0))
    writer.add_logit_scale(config.get("logits_scaling", 1.0))


def phi3(config: Config, writer: GGUFWriter) -> None:
    no_windows(config, writer)
    writer.add_sliding_window(config.get("sliding_window", 0))


def smollm3(config: Config, writer: GGUFWriter) -> None:
    rotated = config.get("no_rope_layers") or []
    every = config.get("no_rope_layer_interval", 4)
    wanted = [int((index + 1) % 4 != 0) for index in range(config.num_layers)]
    if rotated != wanted if rotated else every != 4:
        refuse(config, "has positions in layers other than all but each fourth")
    no_windows(config, writer)


def cohere(config: Config, writer: GGUFWriter) -> None:
    writer.add_logit_scale(config.get("logit_scale", 0.0625))
    if config.get("use_qk_norm"):
        refuse(config, "has norms of queries and keys")


def cohere2(config: Config, writer: GGUFWriter) -> None:
    cohere(config, writer)
    if config.get("sliding_window_pattern", 4) != 4:
        refuse(config, "has windows in layers other than all but each 4th")
    alternate(config, 4)
    writer.add_sliding_window(config.get("sliding_window", 4096))


def exaone4(config: Config, writer: GGUFWriter) -> None:
    """With a window its layers without one do not rotate, in llama.cpp if there are 64 alone."""
    if config.keys.get("sliding_window", 4096) is not None:
        refuse(config, "has a window")


def weigh_experts(config: Config, renormalises: bool) -> None:
    if config.get("norm_topk_prob", False) != renormalises:
        refuse(config, f"has norm_topk_prob {str(not renormalises).lower()}")


def qwen2_moe(config: Config, writer: GGUFWriter) -> None:
    weigh_experts(config, renormalises=False)
    no_windows(config, writer)


def qwen3_moe(config: Config, writer: GGUFWriter) -> None:
    weigh_experts(config, renormalises=True)
    no_windows(config, writer)


def olmoe(config: Config, writer: GGUFWriter) -> None:
    weigh_experts(config, renormalises=False)
    if config.get("clip_qkv") is not None:
        refuse(config, "has clip_qkv")
    if config.num_key_value_heads != config.num_heads:
        refuse(config, f"has {config.num_key_value_heads} heads of keys for {config.num_heads}")


def ministral3(config: Config, writer: GGUFWriter) -> None:
    no_windows(config, writer)
    if not config.keys.get("rope_parameters"):
        refuse(config, "has no rope_parameters")
    growth = config.rope.get("llama_4_scaling_beta")
    if growth is not None:
        if config.rope["rope_type"] != "yarn":
            refuse(config, "has llama_4_scaling_beta beside positions that are not of type yarn")
        writer.add_attn_temperature_scale(growth)
    scales = [config.rope.get(key) for key in ("mscale", "mscale_all_dim")]
    if all(scales):
        if scales[0] != scales[1] and scales[0] != 1.0:
            refuse(config, f"has mscale {scales[0]} beside mscale_all_dim {scales[1]}")
        writer.add_rope_scaling_yarn_log_mul(scales[1])


def olmo3(config: Config, writer: GGUFWriter) -> None:
    alternate(config, 4)
    if config.window_theta not in (None, config.rope["rope_theta"]):
        refuse(config, "has another rope_theta in layers with a window")
    writer.add_sliding_window(config.get("sliding_window", 4096))


def no_windows(config: Config, writer: GGUFWriter) -> None:
    if config.get("use_sliding_window", "use_sliding_window" not in config.keys):
        window = config.get("sliding_window")
        if window is not None and window < config.need("max_position_embeddings"):
            refuse(config, f"has a window of {window} tokens")


LLAMA = Family(
    MODEL_ARCH.LLAMA,
    swaps_pairs=True,
    has_biases=True,
    rope=frozenset(SCALED | {"llama3"}),
    extra=no_windows,
)
GRANITE_EXPERTS = Family(MODEL_ARCH.GRANITE_MOE, swaps_pairs=True, extra=granite)

FAMILIES = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "ministral": LLAMA,
    "mixtral": replace(LLAMA, has_own_theta=True),
    "internlm3": LLAMA,
    "ministral3": Family(
        MODEL_ARCH.MISTRAL3,
        swaps_pairs=True,
        rope=frozenset(PLAIN | {"yarn"}),
        has_mscale=True,
        extra=ministral3,
    ),
    "hunyuan_v1_dense": Family(
        MODEL_ARCH.HUNYUAN_DENSE, has_rope_alpha=True, extra=no_windows
    ),
    "ernie4_5": Family(MODEL_ARCH.ERNIE4_5, has_own_theta=True),
    "exaone4": Family(MODEL_ARCH.EXAONE4, rope=frozenset(PLAIN | {"llama3"}), extra=exaone4),
    "glm4": Family(MODEL_ARCH.GLM4, has_biases=True, rotated_share=0.5),
    "nemotron": Family(
        MODEL_ARCH.NEMOTRON,
        norm_offset=1.0,
        epsilon="norm_eps",
        has_layer_norm=True,
        has_biases=True,
        activations=frozenset({"relu2"}),
        rotated_share=0.5,
    ),
    "qwen2": Family(MODEL_ARCH.QWEN2, has_biases=True, rope=frozenset(SCALED), extra=no_windows),
    "qwen3": Family(MODEL_ARCH.QWEN3, rope=frozenset(SCALED), extra=no_windows),
    "qwen2_moe": Family(
        MODEL_ARCH.QWEN2MOE,
        has_biases=True,
        rope=frozenset(SCALED),
        expert_width="moe_intermediate_size",
        shared_width="shared_expert_intermediate_size",
        extra=qwen2_moe,
    ),
    "qwen3_moe": Family(
        MODEL_ARCH.QWEN3MOE,
        rope=frozenset(SCALED),
        expert_width="moe_intermediate_size",
        extra=qwen3_moe,
    ),
    "gemma": Family(
        MODEL_ARCH.GEMMA,
        norm_offset=1.0,
        activations=frozenset({"gelu_pytorch_tanh", "gelu"}),
    ),
    "gemma2": Family(
        MODEL_ARCH.GEMMA2,
        norm_offset=1.0,
        activations=frozenset({"gelu_pytorch_tanh"}),
        extra=gemma2,
    ),
    "gemma3_text": Family(
        MODEL_ARCH.GEMMA3,
        norm_offset=1.0,
        rope=frozenset(PLAIN | {"linear"}),
        activations=frozenset({"gelu_pytorch_tanh"}),
        has_own_theta=True,
        extra=gemma3,
    ),
    "phi3": Family(MODEL_ARCH.PHI3, rope=frozenset(PLAIN | {"longrope"}), extra=phi3),
    "granite": Family(MODEL_ARCH.GRANITE, swaps_pairs=True, has_biases=True, extra=granite),
    "granitemoe": GRANITE_EXPERTS,
    "granitemoeshared": replace(GRANITE_EXPERTS, shared_width="shared_intermediate_size"),
    "smollm3": Family(
        MODEL_ARCH.SMOLLM3,
        swaps_pairs=True,
        rope=frozenset(SCALED),
        has_own_theta=True,
        extra=smollm3,
    ),
    "starcoder2": Family(
        MODEL_ARCH.STARCODER2,
        epsilon="norm_epsilon",
        has_layer_norm=True,
        has_biases=True,
        activations=frozenset({"gelu_pytorch_tanh"}),
        extra=no_windows,
    ),
    "arcee": Family(
        MODEL_ARCH.ARCEE,
        swaps_pairs=True,
        rope=frozenset(SCALED),
        activations=frozenset({"relu2"}),
    ),
    "olmo2": Family(MODEL_ARCH.OLMO2),
    "olmo3": Family(
        MODEL_ARCH.OLMO2, rope=frozenset(PLAIN | {"yarn"}), has_own_theta=True, extra=olmo3
    ),
    "olmoe": Family(MODEL_ARCH.OLMOE, extra=olmoe),
    "cohere": Family(
        MODEL_ARCH.COMMAND_R,
        epsilon="layer_norm_eps",
        has_layer_norm=True,
        has_own_theta=True,
        extra=cohere,
    ),
    "cohere2": Family(
        MODEL_ARCH.COHERE2, epsilon="layer_norm_eps", has_layer_norm=True, extra=cohere2
    ),
}


def check_yarn(config: Config, family: Family) -> None:
    """Raises DataError."""
    rope = config.rope
    for key in ("mscale", "mscale_all_dim"):
        if rope.get(key) is not None and not family.has_mscale:
            refuse(config, f"has {key} beside its positions of type yarn")
    factor = rope.get("attention_factor")
    if factor is not None and not math.isclose(
        factor, 0.1 * math.log(rope["factor"]) + 1.0, rel_tol=1e-6
    ):
        refuse(config, f"has attention_factor {factor} beside its positions of type yarn")
    if rope.get("truncate") is False:
        refuse(config, "has positions of type yarn that are not truncated")


def family_of(config: Config) -> Family:
    """Raises DataError for one that is not written here."""
    family = FAMILIES.get(config.family)
    if family is None:
        raise DataError(
            f"models of family {config.family} are not written as GGUF here",
            f"use one of {', '.join(sorted(FAMILIES))}, or llama.cpp's own converter",
        )
    if config.rope["rope_type"] not in family.rope:
        refuse(config, f"has positions of type {config.rope['rope_type']}")
    if config.rope["rope_type"] == "yarn":
        check_yarn(config, family)
    if family.has_own_theta and config.rope_theta is None:
        raise DataError("config.json has no rope_theta", "save the model with transformers again")
    activation = config.get("hidden_act", config.get("hidden_activation"))
    if activation is not None and activation not in family.activations:
        refuse(config, f"has the activation {activation}")
    return family
