# SPDX-License-Identifier: Apache-2.0
"""Tiny mixtures of experts: the cases of tiny_families.py that have some."""

YARN = dict(
    rope_type="yarn",
    rope_theta=150.0,
    factor=4.0,
    original_max_position_embeddings=16,
    truncate=False,
)
# Granite's, with experts or without.
MULTIPLIERS = dict(
    attention_multiplier=0.4,
    embedding_multiplier=3.0,
    residual_multiplier=0.6,
    logits_scaling=0.5,
)
WHOLE_HEADS = dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=1.0)

# name: model_type, what differs from SIZES
CASES = {
    "qwen3_moe, a dense layer, weights renormalised": (
        "qwen3_moe",
        dict(
            num_experts=7,
            num_experts_per_tok=3,
            moe_intermediate_size=40,
            norm_topk_prob=True,
            mlp_only_layers=[1],
            num_hidden_layers=3,
            head_dim=24,
        ),
    ),
    "qwen3_moe, windows, balanced": (
        "qwen3_moe",
        dict(
            num_experts=6,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            use_sliding_window=True,
            sliding_window=6,
            head_dim=16,
            output_router_logits=True,
            router_aux_loss_coef=0.3,
        ),
    ),
    "qwen2_moe, experts in each second layer": (
        "qwen2_moe",
        dict(
            num_experts=5,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            shared_expert_intermediate_size=48,
            decoder_sparse_step=2,
            num_hidden_layers=3,
            use_sliding_window=True,
            sliding_window=5,
            max_window_layers=2,
        ),
    ),
    "mixtral": ("mixtral", dict(num_local_experts=4, sliding_window=7)),
    "mixtral, balanced, one expert a token": (
        "mixtral",
        dict(
            num_local_experts=3,
            num_experts_per_tok=1,
            output_router_logits=True,
            router_aux_loss_coef=0.5,
        ),
    ),
    "olmoe": ("olmoe", dict(num_experts=6, num_experts_per_tok=3, attention_bias=True)),
    "granitemoe, balanced": (
        "granitemoe",
        dict(
            num_local_experts=5,
            num_experts_per_tok=3,
            output_router_logits=True,
            router_aux_loss_coef=0.2,
            **MULTIPLIERS,
        ),
    ),
    "granitemoeshared": (
        "granitemoeshared",
        dict(num_local_experts=4, shared_intermediate_size=40, tie_word_embeddings=True),
    ),
    "gpt_oss, windows, narrow bounds": (
        "gpt_oss",
        dict(
            num_local_experts=5,
            num_experts_per_tok=3,
            head_dim=16,
            sliding_window=6,
            num_hidden_layers=3,
            swiglu_limit=0.8,
            rope_parameters=YARN,
        ),
    ),
    "gpt_oss, no biases of attention, tied, balanced": (
        "gpt_oss",
        dict(
            num_local_experts=3,
            num_experts_per_tok=1,
            head_dim=24,
            attention_bias=False,
            tie_word_embeddings=True,
            output_router_logits=True,
            router_aux_loss_coef=0.3,
            layer_types=["full_attention", "sliding_attention"],
        ),
    ),
    "glm4_moe, groups, norms of heads": (
        "glm4_moe",
        dict(
            n_routed_experts=8,
            num_experts_per_tok=3,
            n_group=4,
            topk_group=2,
            moe_intermediate_size=24,
            n_shared_experts=2,
            routed_scaling_factor=2.5,
            use_qk_norm=True,
            attention_bias=True,
            num_hidden_layers=3,
            head_dim=24,
        ),
    ),
    "glm4_moe, experts in every layer, weights as they are": (
        "glm4_moe",
        dict(
            n_routed_experts=5,
            num_experts_per_tok=2,
            moe_intermediate_size=40,
            norm_topk_prob=False,
            first_k_dense_replace=0,
            tie_word_embeddings=True,
            rope_parameters=WHOLE_HEADS,
        ),
    ),
}
