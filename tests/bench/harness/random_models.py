# SPDX-License-Identifier: Apache-2.0
"""A mixture of experts in Qwen3's form, and a dense model of its active size, both random."""

import json
import shutil
from pathlib import Path

from run import make_empty

SIZES = dict(
    num_attention_heads=9,
    num_key_value_heads=3,
    head_dim=64,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)


def make_models(source: Path, folder: Path, options) -> dict[str, Path]:
    """Both, with the tokenizer and the vocabulary of the model in `source`."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3MoeConfig

    vocabulary = json.loads((source / "config.json").read_text())["vocab_size"]
    sizes = SIZES | dict(
        vocab_size=vocabulary,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        intermediate_size=options.chosen * options.width,
    )
    configs = {
        "experts": Qwen3MoeConfig(
            **sizes,
            num_experts=options.experts,
            num_experts_per_tok=options.chosen,
            moe_intermediate_size=options.width,
            norm_topk_prob=True,
        ),
        "dense": Qwen3Config(**sizes),
    }
    models = {}
    for name, config in configs.items():
        torch.manual_seed(1)
        models[name] = make_empty(folder / name)
        AutoModelForCausalLM.from_config(config).float().save_pretrained(models[name])
        shutil.copy(source / "tokenizer.json", models[name])
    return models
