# SPDX-License-Identifier: Apache-2.0
"""New tokens in the files of a tokenizer, with the ids that transformers gives them."""

import json
from pathlib import Path

from tokenizers import AddedToken

from .errors import DataError, is_unicode, printable
from .json_text import write_json
from .model_tokenizer import build, read_file, read_json
from .tokenizer_config import EXTRA_TOKENS


def check_tokens(folder: Path, tokens: list[str], used: dict[str, int]) -> None:
    """Raises DataError for what cannot become a new token."""
    if not tokens:
        raise DataError("no token is named", "name them with --token or --tokens-file")
    for token in tokens:
        problem = None
        if not token or not is_unicode(token):
            problem = "is empty or no valid UTF-8"
        elif tokens.count(token) > 1:
            problem = "is named twice"
        elif token in used:
            problem = f"is a token of {folder} already, with id {used[token]}"
        if problem:
            raise DataError(f"token {printable(repr(token))} {problem}", "leave it out")


def extend_tokenizer(folder: Path, tokens: list[str], is_special: bool) -> tuple[dict, list[dict]]:
    """tokenizer.json with the tokens, and their entries in it: ids as transformers gives them.

    Raises DataError.
    """
    data = read_file(folder / "tokenizer.json")
    tokenizer = build(folder, data)
    used = tokenizer.get_vocab(with_added_tokens=True)
    check_tokens(folder, tokens, used)
    added = [AddedToken(token, normalized=not is_special, special=is_special) for token in tokens]
    (tokenizer.add_special_tokens if is_special else tokenizer.add_tokens)(added)
    entries = [e for e in json.loads(tokenizer.to_str())["added_tokens"] if e["content"] in tokens]
    ids = set(used.values())
    for entry in entries:
        index, token = entry["id"], entry["content"]
        if index in ids or tokenizer.encode(token, add_special_tokens=False).ids != [index]:
            raise DataError(
                f"{folder}: the text {printable(repr(token))} would not become the token {index}",
                "choose one that neither holds another token nor is changed by the normalizer",
            )
    source = json.loads(data)
    source["added_tokens"] = [*(source.get("added_tokens") or []), *entries]
    return source, entries


def write_tokenizer(source: Path, folder: Path, tokenizer: dict, entries: list[dict]) -> None:
    """tokenizer.json, and what the files beside it say of added tokens."""
    write_json(folder / "tokenizer.json", tokenizer, sort_keys=False)
    specials = [entry["content"] for entry in entries if entry["special"]]
    config = read_json(source / "tokenizer_config.json")
    special_map = read_json(source / "special_tokens_map.json")
    if "added_tokens_decoder" in config:
        config["added_tokens_decoder"] |= {
            str(entry["id"]): {key: value for key, value in entry.items() if key != "id"}
            for entry in entries
        }
    lists = [(part, key) for part in (config, special_map) for key in EXTRA_TOKENS
             if isinstance(part.get(key), list)]  # fmt: skip
    for part, key in lists or [(config, "additional_special_tokens")]:
        if specials:
            part[key] = [*part.get(key, []), *specials]
    if config:
        write_json(folder / "tokenizer_config.json", config, sort_keys=False)
    if special_map:
        write_json(folder / "special_tokens_map.json", special_map, sort_keys=False)
    if ids := read_json(source / "added_tokens.json"):
        ids |= {entry["content"]: entry["id"] for entry in entries}
        write_json(folder / "added_tokens.json", ids, sort_keys=False)
