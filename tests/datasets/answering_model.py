# SPDX-License-Identifier: Apache-2.0
"""A tiny model that answers: random weights beside the byte tokenizer of these tests."""

from pathlib import Path

import templates
import torch
from conftest import byte_tokenizer, write_model
from transformers import AutoModelForCausalLM, LlamaConfig

POSITIONS = 512


def write_answering_model(folder: Path, template: str | None = templates.CHATML) -> Path:
    """Its answers end by <|im_end|>, or by its end token."""
    write_model(folder, template)
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=POSITIONS, tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id("<s>"),
        eos_token_id=[tokenizer.token_to_id(text) for text in ("</s>", "<|im_end|>")],
    )  # fmt: skip
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config).float()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.3)
    model.save_pretrained(folder)
    return folder


def greedy_text(folder: Path, tokenizer, ids: list[int], count: int) -> str:
    """What transformers answers, without special tokens."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = torch.tensor([ids])
    found = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=count,
                           do_sample=False, pad_token_id=0)  # fmt: skip
    return tokenizer.decode(found[0, len(ids) :].tolist(), skip_special_tokens=True)
