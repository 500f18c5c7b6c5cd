# SPDX-License-Identifier: Apache-2.0
"""A model folder's tokenizer and chat template as the keys of a GGUF file.

What cuts text into words is recognised by what tokenizer.json says, not by a list of known files: a
pre-tokenizer that llama.cpp does not have is refused.
Source: llama.cpp, src/llama-vocab.cpp (pre-tokenizers and their expressions).
"""

import json
from pathlib import Path

from gguf import GGUFWriter, SpecialVocab, TokenType
from temper_data.errors import DataError
from temper_data.model_tokenizer import read_json, told_stops

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = (
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
    r"|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS = {
    CONTRACTIONS + WORDS % "{1,3}": "dbrx",
    CONTRACTIONS + WORDS % "": "qwen2",
    CASED % (CONTRACTIONS + "?", CONTRACTIONS + "?", "{1,3}"): "gpt-4o",
    CASED % ("", "", ""): "tekken",
}
STOP_KINDS = ("eos", "eot", "eom")  # what a file calls end tokens, in their order
WORD_BEGIN = "\u2581"  # sentencepiece's blank


def refuse(what: str) -> None:
    raise DataError(
        f"the tokenizer {what}, which llama.cpp does not have",
        "use the Hugging Face folder: transformers, vLLM and SGLang open it as it is",
    )


def split_of(step: dict) -> str:
    """The kind of one step of a pre-tokenizer that works on bytes: "digits", "words", an
    expression's name, or "bytes". Raises DataError."""
    kind = step["type"]
    if kind == "Digits" and step.get("individual_digits"):
        return "digits"
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return "words" if step.get("use_regex", True) else "bytes"
    expression = step.get("pattern", {}).get("Regex")
    if kind == "Split" and expression in SPLITS and step.get("behavior") == "Isolated":
        return SPLITS[expression]
    return refuse(f"cuts text by {json.dumps(step)[:200]}")


def pre_tokenizer_name(tokenizer: dict) -> str:
    """llama.cpp's name for what cuts text into words. Raises DataError."""
    step = tokenizer.get("pre_tokenizer") or {"type": "nothing"}
    steps = step["pretokenizers"] if step["type"] == "Sequence" else [step]
    kinds = tuple(split_of(one) for one in steps)
    names = {("words",): "gpt-2", ("digits", "words"): "smollm"}
    names |= {(name, "bytes"): name for name in SPLITS.values()}
    if kinds not in names:
        refuse(f"cuts text by the steps {', '.join(kinds)}")
    normalizer = tokenizer.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        refuse(f"changes text by {json.dumps(normalizer)[:200]}")
    ignores_merges = bool(tokenizer["model"].get("ignore_merges"))
    name = names[kinds]
    if ignores_merges and name == "dbrx":
        return "llama-bpe"
    if ignores_merges != (name == "tekken"):
        refuse(f"{'takes' if ignores_merges else 'takes no'} whole words from the vocabulary and "
               f"cuts text as {name}")  # fmt: skip
    return name


def adds_blank(tokenizer: dict) -> bool:
    """Whether sentencepiece's tokenizer puts a blank before a text. Raises DataError."""
    normalizer = tokenizer.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    pre = tokenizer.get("pre_tokenizer") or {}
    if pre.get("type") == "Metaspace":
        return pre.get("prepend_scheme", "always") != "never"
    known = {("Prepend", "Replace"): True, ("Replace",): False}
    kinds = tuple(step["type"] for step in steps)
    if kinds not in known:
        refuse(f"changes text by {json.dumps(normalizer)[:200]}")
    return known[kinds]


def token_types(tokenizer: dict, vocab_size: int) -> tuple[list[str], list[TokenType]]:
    """Tokens by id, those that the model has beyond the tokenizer's as unused. Raises DataError."""
    added = {entry["id"]: entry for entry in tokenizer.get("added_tokens", [])}
    by_id = {index: token for token, index in tokenizer["model"]["vocab"].items()}
    by_id |= {index: entry["content"] for index, entry in added.items()}
    if by_id and max(by_id) >= vocab_size:
        raise DataError(
            f"the tokenizer has the token {max(by_id)}, and the model has {vocab_size} of them",
            "export the model with the tokenizer that it was trained with",
        )
    unknown = tokenizer["model"].get("unk_token")
    has_bytes = bool(tokenizer["model"].get("byte_fallback"))
    tokens, types = [], []
    for index in range(vocab_size):
        token = by_id.get(index)
        tokens.append(f"[PAD{index}]" if token is None else token)
        if token is None:
            types.append(TokenType.UNUSED)
        elif token == unknown and has_bytes:
            types.append(TokenType.UNKNOWN)
        elif index in added:
            special = added[index].get("special")
            types.append(TokenType.CONTROL if special else TokenType.USER_DEFINED)
        elif has_bytes and len(token) == 6 and token.startswith("<0x"):
            types.append(TokenType.BYTE)
        else:
            types.append(TokenType.NORMAL)
    return tokens, types


def scores_of(tokenizer: dict, tokens: list[str]) -> list[float]:
    """By which sentencepiece joins pieces: the rank of the first merge that makes a token."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(tokenizer["model"]["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        ranks.setdefault(left + right, rank)
    return [-float(ranks.get(token, len(ranks))) for token in tokens]


def add_special(folder: Path, is_byte_level: bool, vocab_size: int, writer: GGUFWriter) -> None:
    special = SpecialVocab(folder, load_merges=is_byte_level, n_vocab=vocab_size)
    stops = [token for token in told_stops(folder) if token < vocab_size]
    ids = special.special_token_ids
    if stops:
        if ids.get("eos") not in stops:
            ids["eos"] = stops[0]
        others = [token for token in stops if token != ids["eos"]]
        for kind, token in zip(STOP_KINDS[1:], others, strict=False):
            ids.setdefault(kind, token)
    template = folder / "chat_template.jinja"
    if template.is_file():  # It comes first, also where tokenizer_config.json has one, too.
        special.chat_template = template.read_text(encoding="utf-8")
    special.add_to_gguf(writer, quiet=True)


def add_tokenizer(folder: Path, vocab_size: int, writer: GGUFWriter) -> None:
    """Raises DataError for a tokenizer that llama.cpp does not have."""
    tokenizer = read_json(folder / "tokenizer.json")
    if tokenizer.get("model", {}).get("type") != "BPE":
        kind = tokenizer.get("model", {}).get("type", "of no tokenizer.json")
        refuse(f"is {kind}")
    tokens, types = token_types(tokenizer, vocab_size)
    is_byte_level = not tokenizer["model"].get("byte_fallback")
    if is_byte_level:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre_tokenizer_name(tokenizer))
    else:
        blank = adds_blank(tokenizer)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(scores_of(tokenizer, tokens))
        writer.add_add_space_prefix(blank)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    add_special(folder, is_byte_level, vocab_size, writer)
