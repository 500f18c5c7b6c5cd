# SPDX-License-Identifier: Apache-2.0
"""What is adapted, and how, in the tests beside peft."""

# name: family, what peft is told, the same for temper, how the base is quantised
CASES = {
    "all_linear": (
        "llama_tied",
        dict(r=4, lora_alpha=8, target_modules="all-linear"),
        "rank: 4, alpha: 8, targets: all-linear",
        None,
    ),
    "rank_stabilised": (
        "qwen2",
        dict(r=6, lora_alpha=5, target_modules=["q_proj", "v_proj"], use_rslora=True),
        "rank: 6, alpha: 5, targets: [q_proj, v_proj], use_rslora: true",
        None,
    ),
    "upper_block_only": (
        "qwen3",
        dict(
            r=3,
            lora_alpha=7.5,
            target_modules=["k_proj", "o_proj", "up_proj", "down_proj"],
            layers_to_transform=[1],
        ),
        "rank: 3, alpha: 7.5, targets: [k_proj, o_proj, up_proj, down_proj], layers: [1]",
        None,
    ),
    "patterns_and_biases": (
        "llama_biases",
        dict(
            r=8,
            lora_alpha=16,
            target_modules=r"model\.layers\.\d\.(self_attn\.(q|k)_proj|mlp\.(gate|down)_proj)",
            rank_pattern={"q_proj": 2, r"layers\.0\.mlp\.gate_proj": 3},
            # The first one that fits counts: the second changes nothing, unless they are sorted.
            alpha_pattern={
                "q_proj": 3,
                r"layers\.0\.self_attn\.q_proj": 30,
                "^model.*down_proj": 3,
            },
        ),
        r"rank: 8, alpha: 16, "
        r"target_pattern: 'model\.layers\.\d\.(self_attn\.(q|k)_proj|mlp\.(gate|down)_proj)', "
        r"rank_pattern: [{module: q_proj, rank: 2}, "
        r"{module: 'layers\.0\.mlp\.gate_proj', rank: 3}], "
        r"alpha_pattern: [{module: q_proj, alpha: 3}, "
        r"{module: 'layers\.0\.self_attn\.q_proj', alpha: 30}, "
        r"{module: '^model.*down_proj', alpha: 3}]",
        None,
    ),
    "decomposed": (
        "llama_biases",
        dict(r=4, lora_alpha=8, target_modules="all-linear", use_dora=True),
        "rank: 4, alpha: 8, targets: all-linear, use_dora: true",
        None,
    ),
    "decomposed_nf4": (
        "qwen3",
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], use_dora=True),
        "rank: 4, alpha: 8, targets: [q_proj, v_proj, down_proj], use_dora: true",
        ("nf4", False),
    ),
    "saved_modules": (
        "qwen3",
        dict(
            r=4,
            lora_alpha=8,
            target_modules=["q_proj"],
            modules_to_save=["embed_tokens", "lm_head", "norm"],
        ),
        "rank: 4, alpha: 8, targets: [q_proj], modules_to_save: [embed_tokens, lm_head, norm]",
        None,
    ),
    "saved_head": (
        "llama_tied",
        dict(
            r=4,
            lora_alpha=8,
            target_modules=["q_proj"],
            layers_to_transform=[1],
            modules_to_save=["lm_head"],
        ),
        "rank: 4, alpha: 8, targets: [q_proj], layers: [1], modules_to_save: [lm_head]",
        None,
    ),
    "saved_embedding": (
        "llama_tied",
        dict(r=4, lora_alpha=8, target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
        "rank: 4, alpha: 8, targets: [q_proj], modules_to_save: [embed_tokens]",
        None,
    ),
    "token_rows_tied": (
        "llama_tied",
        dict(
            r=4,
            lora_alpha=8,
            target_modules=["up_proj"],
            layers_to_transform=[1],
            trainable_token_indices=[5, 0, 9],
        ),
        "rank: 4, alpha: 8, targets: [up_proj], layers: [1], trainable_tokens: [5, 0, 9]",
        None,
    ),
    "token_rows": (
        "qwen3",
        dict(
            r=4,
            lora_alpha=8,
            target_modules=["up_proj"],
            trainable_token_indices={"embed_tokens": [5, 0], "lm_head": [5, 0]},
        ),
        "rank: 4, alpha: 8, targets: [up_proj], trainable_tokens: [5, 0]",
        None,
    ),
    "token_rows_of_the_embedding": (
        "qwen3",
        dict(r=4, lora_alpha=8, target_modules=["up_proj"], trainable_token_indices=[5, 0]),
        "rank: 4, alpha: 8, targets: [up_proj], trainable_tokens: [5, 0], train_head_rows: false",
        None,
    ),
    "nf4_double": (
        "llama_tied",
        dict(r=4, lora_alpha=8, target_modules="all-linear"),
        "rank: 4, alpha: 8, targets: all-linear",
        ("nf4", True),
    ),
    "four_norms": (
        "gemma3_text",
        dict(r=4, target_modules="all-linear", modules_to_save=["q_norm", "feedforward_layernorm"]),
        "rank: 4, alpha: 8, targets: all-linear, modules_to_save: [q_norm, feedforward_layernorm]",
        None,
    ),
    "transposed": (
        "gpt2",
        dict(r=4, lora_alpha=8, target_modules=["c_attn", "c_fc", "c_proj"], fan_in_fan_out=True),
        "rank: 4, alpha: 8, targets: all-linear",
        None,
    ),
    "by_heads": (
        "gpt_neox",
        dict(r=4, lora_alpha=8, target_modules=["query_key_value", "dense"]),
        "rank: 4, alpha: 8, targets: [query_key_value, dense]",
        None,
    ),
    "other_names": (
        "exaone",
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj"], modules_to_save=["norm"]),
        "rank: 4, alpha: 8, targets: [q_proj, o_proj], modules_to_save: [norm]",
        None,
    ),
    "part_that_reads": (
        "gemma3",
        dict(r=4, lora_alpha=8, target_modules=r".*language_model.*(q_proj|up_proj)"),
        "rank: 4, alpha: 8, target_pattern: '.*language_model.*(q_proj|up_proj)'",
        None,
    ),
    "beside_experts": (
        "mixtral",
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
        "rank: 4, alpha: 8, targets: all-linear",
        None,
    ),
    "beside_experts_nf4": (
        "qwen2_moe",
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
        "rank: 4, alpha: 8, targets: all-linear",
        ("nf4", True),
    ),
    "beside_sinks_nf4": (
        "gpt_oss",
        dict(r=4, lora_alpha=8, target_modules="all-linear"),
        "rank: 4, alpha: 8, targets: all-linear",
        ("nf4", False),
    ),
    "beside_corrections": (
        "glm4_moe",
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
        "rank: 4, alpha: 8, targets: all-linear",
        None,
    ),
    "fp4": (
        "qwen2",
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"]),
        "rank: 4, alpha: 8, targets: [q_proj, up_proj]",
        ("fp4", False),
    ),
}
