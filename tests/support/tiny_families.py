# SPDX-License-Identifier: Apache-2.0
"""Tiny models of every family that is computed, in all that its configurations may say.

Each is described by transformers' own configuration class, and what differs from SIZES.
"""

import tiny_mixtures
import transformers
from family_files import TEXT_PARTS, class_of

SIZES = dict(
    vocab_size=128,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)


def rope(kind="default", theta=10000.0, **others):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **others))


def two_tables(window_theta, **full):
    """Of layers with full attention, and of those with a window."""
    return dict(
        rope_parameters=dict(
            full_attention=dict(rope_type="default", rope_theta=5e4) | full,
            sliding_attention=dict(rope_type="default", rope_theta=window_theta),
        )
    )


# With a base of 500 and heads of 16, one wave is kept, two are between, the others stretched; the
# longest document goes beyond the original context.
LLAMA3 = dict(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
YARN = dict(factor=4.0, original_max_position_embeddings=16)
FACTORS = [1.0 + 0.5 * i for i in range(8)]  # Of the frequencies of a head of 16.
LONG = dict(
    short_factor=FACTORS,
    long_factor=[2.0 * factor for factor in FACTORS],
    original_max_position_embeddings=64,
)
HALF_LONG = {key: value[:4] if isinstance(value, list) else value for key, value in LONG.items()}

# name: model_type, what differs from SIZES
CASES = {
    "llama, llama3 positions, tied": (
        "llama",
        dict(tie_word_embeddings=True, **rope("llama3", 500.0, **LLAMA3)),
    ),
    "llama, all biases, one key-value head": (
        "llama",
        dict(attention_bias=True, mlp_bias=True, num_key_value_heads=1, **rope()),
    ),
    "llama, linear positions, no grouping, gelu": (
        "llama",
        dict(num_key_value_heads=4, hidden_act="gelu", **rope("linear", factor=4.0)),
    ),
    "llama, yarn": ("llama", rope("yarn", 500.0, **YARN)),
    "llama, dynamic positions": ("llama", rope("dynamic", factor=2.0)),
    "mistral, sliding window, three layers": (
        "mistral",
        dict(sliding_window=5, num_hidden_layers=3, **rope()),
    ),
    "qwen2, window in the upper layer, tied": (
        "qwen2",
        dict(
            use_sliding_window=True,
            sliding_window=4,
            max_window_layers=1,
            tie_word_embeddings=True,
            rms_norm_eps=1e-5,
            **rope(theta=1e6),
        ),
    ),
    "qwen3, wide heads, yarn": (
        "qwen3",
        dict(
            head_dim=24,
            num_attention_heads=6,
            num_key_value_heads=3,
            **rope("yarn", 1e6, **YARN, mscale=0.7, mscale_all_dim=0.5, truncate=False),
        ),
    ),
    "internlm3, biases": (
        "internlm3",
        dict(attention_bias=True, mlp_bias=True, head_dim=20, **rope("dynamic", factor=6.0)),
    ),
    "ministral, windows": (
        "ministral",
        dict(sliding_window=5, layer_types=["full_attention", "sliding_attention"], head_dim=20),
    ),
    "ministral3, defaults' positions": ("ministral3", dict(head_dim=16)),
    "ministral3, growing queries": (
        "ministral3",
        dict(head_dim=16, **rope("yarn", **YARN, llama_4_scaling_beta=0.3)),
    ),
    "smollm3, without positions in the second layer": (
        "smollm3",
        dict(no_rope_layer_interval=2, attention_bias=True, mlp_bias=True),
    ),
    "smollm3, windows": (
        "smollm3",
        dict(no_rope_layers=[0, 1], use_sliding_window=True, sliding_window=6),
    ),
    "ernie4_5": ("ernie4_5", dict(head_dim=24)),
    "ernie4_5, biases, untied": (
        "ernie4_5",
        dict(use_bias=True, head_dim=16, tie_word_embeddings=False),
    ),
    "granite": ("granite", dict(attention_bias=True, mlp_bias=True, **tiny_mixtures.MULTIPLIERS)),
    "granite, tied, defaults' multipliers": ("granite", dict(tie_word_embeddings=True)),
    "gemma": ("gemma", dict(head_dim=24, num_key_value_heads=1)),
    "gemma2, tight bounds": (
        "gemma2",
        dict(
            head_dim=24,
            sliding_window=6,
            query_pre_attn_scalar=20,
            attn_logit_softcapping=1.5,
            final_logit_softcapping=2.0,
        ),
    ),
    "gemma2, no bounds": (
        "gemma2",
        dict(head_dim=16, attn_logit_softcapping=None, final_logit_softcapping=None),
    ),
    "gemma3_text, windows with positions of their own": (
        "gemma3_text",
        dict(
            head_dim=20,
            sliding_window=6,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            num_hidden_layers=3,
            **two_tables(500.0, rope_type="linear", factor=4.0),
        ),
    ),
    "starcoder2, window": ("starcoder2", dict(sliding_window=7)),
    "nemotron": ("nemotron", dict(attention_bias=True, mlp_bias=True)),
    "arcee, yarn": ("arcee", rope("yarn", 500.0, **YARN)),
    "phi3, window": ("phi3", dict(sliding_window=6)),
    "phi3, short longrope": ("phi3", rope("longrope", **LONG) | dict(
        original_max_position_embeddings=64, max_position_embeddings=256)),
    "phi3, long longrope, part of a head": (
        "phi3",
        rope("longrope", partial_rotary_factor=0.5, **HALF_LONG)
        | dict(original_max_position_embeddings=8, max_position_embeddings=256),
    ),
    "olmo2": ("olmo2", dict(attention_bias=True)),
    "olmo3, yarn where attention is full": (
        "olmo3",
        dict(
            sliding_window=6,
            layer_types=["sliding_attention", "full_attention"],
            **two_tables(5e5, rope_type="yarn", **YARN),
        ),
    ),
    "glm": ("glm", dict(head_dim=24, eos_token_id=[1, 2])),
    "glm4, no biases": ("glm4", dict(head_dim=24, attention_bias=False, eos_token_id=[1, 2])),
    "exaone4, windows": (
        "exaone4",
        dict(sliding_window=6, layer_types=["sliding_attention", "full_attention"]),
    ),
    "exaone4, no window": (
        "exaone4",
        dict(sliding_window=None, layer_types=["full_attention", "full_attention"]),
    ),
    "cohere": ("cohere", dict(logit_scale=0.3)),
    "cohere2, windows": (
        "cohere2",
        dict(
            logit_scale=0.8, sliding_window=6, layer_types=["sliding_attention", "full_attention"]
        ),
    ),
    "gpt2": ("gpt2", dict(n_inner=96)),
    "gpt2, untied, odd heads, scores as they are": (
        "gpt2",
        dict(hidden_size=60, scale_attn_weights=False, tie_word_embeddings=False),
    ),
    "gpt_neox": ("gpt_neox", rope(partial_rotary_factor=0.5)),
    "gpt_neox, one after the other, tied": (
        "gpt_neox",
        dict(use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True),
    ),
    "phi": ("phi", dict(num_key_value_heads=2)),
    "phi, tied": ("phi", dict(tie_word_embeddings=True, **rope(partial_rotary_factor=0.25))),
    "falcon, one key-value head": ("falcon", dict(ffn_hidden_size=96, bias=True)),
    "falcon, a key for each head, one after the other": (
        "falcon",
        dict(multi_query=False, parallel_attn=False, tie_word_embeddings=False),
    ),
    "falcon, new": ("falcon", dict(new_decoder_architecture=True, num_kv_heads=2)),
    "falcon, new, one norm": (
        "falcon",
        dict(
            new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1, bias=True
        ),
    ),
    "olmo, bounded": ("olmo", dict(clip_qkv=0.3, attention_bias=True)),
    "olmo, tied": ("olmo", dict(tie_word_embeddings=True)),
    "stablelm": ("stablelm", dict(use_qkv_bias=True)),
    "stablelm, parallel": ("stablelm", dict(use_parallel_residual=True)),
    "exaone": (
        "exaone",
        dict(attention_bias=True, mlp_bias=True, **rope("llama3", 500.0, **LLAMA3)),
    ),
    "gemma3, with a part that sees": (
        "gemma3",
        dict(head_dim=24, sliding_window=6, layer_types=["sliding_attention", "full_attention"]),
    ),
    "mistral3, with a part that sees": (
        "mistral3",
        dict(head_dim=20, sliding_window=None, tie_word_embeddings=False),
    ),
    "mistral3, with ministral3's text": (
        "mistral3",
        dict(
            model_type="ministral3",
            head_dim=16,
            tie_word_embeddings=True,
            **rope("yarn", **YARN, llama_4_scaling_beta=0.3),
        ),
    ),
    "hunyuan_v1_dense, stretched base": (
        "hunyuan_v1_dense",
        dict(head_dim=16, **rope("dynamic", factor=1.0, alpha=1000.0)),
    ),
    **tiny_mixtures.CASES,
}  # fmt: skip

# What keys are called in files of who published a family first.
ALIASES = {
    "internlm3": {"attention_bias": "qkv_bias", "mlp_bias": "bias"},
    "gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    "exaone": {
        "num_hidden_layers": "num_layers",
        "rms_norm_eps": "layer_norm_epsilon",
        "hidden_act": "activation_function",
    },
    "qwen3_moe": {"num_local_experts": "num_experts"},
}

# What sees, and what makes it the text's size.
VISION = dict(
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=28,
    patch_size=14,
)

# The largest context that a test has.
LONGEST_CONTEXT = 64


def make_config(model_type: str, changes: dict):
    if model_type not in TEXT_PARTS:
        return transformers.AutoConfig.for_model(
            model_type, **(SIZES | changes), attn_implementation="eager"
        )
    part = TEXT_PARTS[model_type]
    vision = dict(model_type="pixtral") | VISION if model_type == "mistral3" else VISION
    tied = {key: changes[key] for key in ("tie_word_embeddings",) if key in changes}
    return transformers.AutoConfig.for_model(
        model_type,
        text_config=dict(model_type=part) | SIZES | changes,
        vision_config=vision,
        attn_implementation="eager",
        **tied,
        **({"mm_tokens_per_image": 1} if model_type == "gemma3" else {}),
    )


def bare_config(model_type: str) -> dict:
    """A file with no key but a model's sizes."""
    if model_type in TEXT_PARTS:
        text = {"model_type": TEXT_PARTS[model_type], **SIZES}
        return {"model_type": model_type, "text_config": text}
    return {"model_type": model_type, **SIZES}


def make_model(config):
    """A model that drops nothing."""
    return class_of(config.model_type).from_config(config).eval()


def num_experts(config) -> int | None:
    """Of each layer that has some; None where a family has none."""
    return getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None)


def in_old_spelling(config: dict) -> dict:
    """The same configuration with rotary keys as transformers wrote them before 5.0."""
    config = dict(config)
    if "text_config" in config:
        return config | {"text_config": in_old_spelling(config["text_config"])}
    if "rope_parameters" not in config:
        return config
    full = config.pop("rope_parameters")
    if "full_attention" in full:
        config["rope_local_base_freq"] = full["sliding_attention"]["rope_theta"]
        full = full["full_attention"]
    full = dict(full)
    for key in ("rope_theta", "partial_rotary_factor"):
        if key in full:
            config[key] = full.pop(key)
    kind = full.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else full | {"type": kind}
    for new, old in ALIASES.get(config["model_type"], {}).items():
        if new in config:
            config[old] = config.pop(new)
    return config


def longest_context(name: str) -> int:
    """What temper is told of a case: the reference decides by each text alone."""
    return LONGEST_CONTEXT if "long longrope" in name else 1
