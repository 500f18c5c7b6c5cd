# SPDX-License-Identifier: Apache-2.0
"""How transformers opens a family's files, and how tensors are called in them."""

import transformers

# Families of models that see, too, and what reads text in them.
TEXT_PARTS = {"gemma3": "gemma3_text", "mistral3": "mistral"}

EXAONE_NAMES = {
    "model.embed_tokens.": "transformer.wte.",
    "model.layers.": "transformer.h.",
    "model.norm.": "transformer.ln_f.",
    ".self_attn.": ".attn.attention.",
    ".o_proj.": ".out_proj.",
    ".input_layernorm.": ".ln_1.",
    ".post_attention_layernorm.": ".ln_2.",
    ".gate_proj.": ".c_fc_0.",
    ".up_proj.": ".c_fc_1.",
    ".down_proj.": ".c_proj.",
}


def class_of(model_type: str):
    """That by which transformers opens a model's files."""
    sees = model_type in TEXT_PARTS
    return transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM


def open_model(folder, **options):
    config = transformers.AutoConfig.from_pretrained(folder)
    return class_of(config.model_type).from_pretrained(folder, **options)


def file_names(model) -> dict[str, str]:
    """From transformers' names of a model's parameters to those of its files' tensors, without the
    parameters that are not of the part that reads text."""
    model_type = model.config.model_type
    names = {name: name for name, _ in model.named_parameters()}
    if model_type in TEXT_PARTS:
        start = "model.language_model."
        names = {
            name: name.replace(start, "language_model.model.").replace(
                "lm_head.", "language_model.lm_head."
            )
            for name in names
            if name.startswith((start, "lm_head."))
        }
    if model_type == "gpt_neox":
        names = {name: name.replace("lm_head.", "embed_out.") for name in names}
    if model_type == "exaone":
        for module, file in EXAONE_NAMES.items():
            names = {name: old.replace(module, file) for name, old in names.items()}
    return names
