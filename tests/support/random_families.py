# SPDX-License-Identifier: Apache-2.0
"""Random configurations of the families, from the keys that their classes know."""

import random

import transformers
from tiny_families import CASES, TEXT_PARTS

# Any of these, for any family whose class knows the key.
CHOICES = dict(
    tie_word_embeddings=[True, False],
    attention_bias=[True, False],
    mlp_bias=[True, False],
    use_bias=[True, False],
    num_key_value_heads=[1, 2, 4],
    head_dim=[8, 16, 20, 24],
    num_hidden_layers=[1, 1, 2, 4],
    hidden_act=["silu", "gelu", "gelu_pytorch_tanh", "relu", "relu2"],
    hidden_activation=["gelu_pytorch_tanh", "gelu", "silu"],
    sliding_window=[3, 6, 40],
    rms_norm_eps=[1e-6, 1e-2],
    norm_eps=[1e-5, 1e-2],
    norm_epsilon=[1e-5, 1e-2],
    layer_norm_eps=[1e-5, 1e-2],
    attention_multiplier=[0.1, 1.0],
    embedding_multiplier=[1.0, 12.0],
    residual_multiplier=[0.22, 1.0],
    logits_scaling=[1.0, 8.0],
    query_pre_attn_scalar=[16, 64],
    attn_logit_softcapping=[None, 2.0, 50.0],
    final_logit_softcapping=[None, 3.0, 30.0],
    logit_scale=[0.0625, 1.0],
    no_rope_layer_interval=[2, 4],
    use_sliding_window=[True, False],
    layer_norm_epsilon=[1e-5, 1e-2],
    use_parallel_residual=[True, False],
    use_qkv_bias=[True, False],
    clip_qkv=[None, 0.3, 3.0],
    bias=[True, False],
    multi_query=[True, False],
    parallel_attn=[True, False],
    num_kv_heads=[1, 2, 4],
    ffn_hidden_size=[None, 80],
    n_inner=[None, 80],
    activation=["gelu", "gelu_pytorch_tanh"],
    activation_function=["gelu_new", "relu"],
    scale_attn_weights=[True, False],
    max_window_layers=[0, 1, 2],
    num_experts_per_tok=[1, 2, 3],
    norm_topk_prob=[True, False],
    decoder_sparse_step=[1, 2],
    mlp_only_layers=[[], [0]],
    output_router_logits=[True, False],
    router_aux_loss_coef=[0.0, 0.01, 0.4],
    swiglu_limit=[0.5, 7.0],
    use_qk_norm=[True, False],
    routed_scaling_factor=[1.0, 2.5],
    first_k_dense_replace=[0, 1, 2],
)

# Always one of these, where a family's class knows the key: their defaults are large.
SMALL = dict(
    num_experts=[3, 4, 7],
    num_local_experts=[3, 4, 7],
    moe_intermediate_size=[16, 40],
    shared_expert_intermediate_size=[24, 48],
    shared_intermediate_size=[0, 40],
    num_experts_per_tok=[1, 2, 3],
    n_routed_experts=[4, 8],
    n_shared_experts=[1, 2],
)


def random_case(number: int) -> tuple[str, str, dict]:
    """Name, model_type and what differs from SIZES."""
    source = random.Random(number)
    families = {model_type for model_type, _ in CASES.values()} - TEXT_PARTS.keys()
    model_type = sorted(families)[number % len(families)]  # Each in its turn.
    known = vars(transformers.AutoConfig.for_model(model_type))
    changes = {
        key: source.choice(values)
        for key, values in CHOICES.items()
        if (key in known or key == "num_hidden_layers") and source.random() < 0.6
    }
    for key, values in SMALL.items():
        if key in known:
            changes.setdefault(key, source.choice(values))
    # Heads of what is given, or of hidden_size by the number of heads.
    if "head_dim" in known:
        changes.setdefault("head_dim", 16)
    # Without a layer that has experts transformers finds no logits of routers.
    if changes.get("num_hidden_layers") == 1 or "mlp_only_layers" in changes:
        changes.pop("decoder_sparse_step", None)
    if changes.get("num_hidden_layers") == 1:
        changes.pop("mlp_only_layers", None)
    # InternLM3's class wants both alike, and Exaone's has no pattern without a window.
    if model_type == "internlm3":
        changes["mlp_bias"] = changes["attention_bias"] = source.random() < 0.5
    # Its class has the key, and its code does not apply it: temper refuses it.
    if model_type == "gemma3_text":
        changes.pop("attn_logit_softcapping", None)
    # Its norms, a weight of each head's own, are refused.
    if model_type == "cohere":
        changes.pop("use_qk_norm", None)
    # Bounds behind norms of all heads are refused.
    if model_type == "olmoe":
        changes.pop("clip_qkv", None)
    if model_type.startswith("glm"):
        changes["eos_token_id"] = 1
    if model_type == "glm4_moe":
        groups = dict(zip(("n_group", "topk_group"), source.choice([(1, 1), (2, 1), (4, 2)])))
        most = changes["n_routed_experts"] * groups["topk_group"] // groups["n_group"]
        if most >= changes["num_experts_per_tok"] and changes["n_routed_experts"] > 4:
            changes |= groups
    if model_type == "falcon" and source.random() < 0.5:
        changes |= dict(new_decoder_architecture=True, parallel_attn=True)
        changes["num_ln_in_parallel_attn"] = source.choice([1, 2])
    return f"random {number}, {model_type}", model_type, changes
