# SPDX-License-Identifier: Apache-2.0
"""The tokenizer inside a GGUF file as the files that `AutoTokenizer` and `tokenizers` read."""

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from .errors import DataError

CONTROL_TOKEN = 3  # gguf.TokenType.CONTROL


def read_field(reader: GGUFReader, key: str):
    """The value under `key`. Raises DataError if it is missing."""
    field = reader.get_field(key)
    if field is None:
        raise DataError(
            f"the GGUF file has no field {key}", "use the file that the package carries"
        )
    return field.contents()


def build_tokenizer(reader: GGUFReader) -> Tokenizer:
    """Byte-level BPE as SmolLM has it: each digit alone, then GPT-2's split, no prefix space.

    Raises DataError for another kind of tokenizer.
    """
    kind = read_field(reader, "tokenizer.ggml.model"), read_field(reader, "tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise DataError(
            f"the GGUF file's tokenizer is {kind[0]!r} with pre-tokenizer {kind[1]!r}",
            "use a SmolLM or SmolLM2 file ('gpt2' with 'smollm')",
        )
    tokens = read_field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in read_field(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel(
        add_prefix_space=True, trim_offsets=True, use_regex=True
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in control_tokens(reader)]
    )
    return tokenizer


def control_tokens(reader: GGUFReader) -> list[str]:
    """The special tokens, in the order of their ids."""
    tokens = read_field(reader, "tokenizer.ggml.tokens")
    types = read_field(reader, "tokenizer.ggml.token_type")
    return [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL_TOKEN]


def special_tokens(reader: GGUFReader) -> dict[str, str]:
    """`bos_token`, `eos_token`, `unk_token`, `pad_token` as text."""
    tokens = read_field(reader, "tokenizer.ggml.tokens")
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    return {
        f"{short}_token": tokens[read_field(reader, f"tokenizer.ggml.{long}_token_id")]
        for short, long in names.items()
    }


def tokenizer_config(reader: GGUFReader) -> dict:
    """What `tokenizer_config.json` says.

    The class is the generic one: transformers 5's GPT2Tokenizer would replace the pre-tokenizer
    of tokenizer.json by GPT-2's own, which does not split digits.
    """
    control = set(control_tokens(reader))
    added = {
        str(index): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for index, token in enumerate(read_field(reader, "tokenizer.ggml.tokens"))
        if token in control
    }
    special = special_tokens(reader)
    return special | {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": [special["bos_token"], special["eos_token"]],
        "clean_up_tokenization_spaces": False,
        "model_max_length": read_field(reader, "llama.context_length"),
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
