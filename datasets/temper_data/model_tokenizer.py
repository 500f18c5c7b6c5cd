# SPDX-License-Identifier: Apache-2.0
"""A model folder's tokenizer and chat template, as transformers would use them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from .errors import DataError

NAMED_TOKENS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip


@dataclass(frozen=True)
class ModelTokenizer:
    """What preparation needs to know of a model."""

    tokenizer: Tokenizer
    sha256: str  # of the bytes of tokenizer.json
    vocab_size: int  # largest id, added tokens included, plus 1
    bos_ids: tuple[int, ...]  # what this tokenizer puts before a text by itself
    eos_id: int
    named_tokens: dict[str, str]  # "eos_token": "</s>", ...; only those that are set
    chat_template: str | None

    def special_ids(self) -> set[int]:
        added = self.tokenizer.get_added_tokens_decoder()
        return {index for index, token in added.items() if token.special}


def load_model_tokenizer(folder: Path, eos_token: str = "") -> ModelTokenizer:
    """Reads tokenizer.json, tokenizer_config.json and chat_template.jinja of a model folder.

    `eos_token` overrides the configured end token. Raises DataError.
    """
    data = read_file(folder / "tokenizer.json")
    tokenizer = build(folder, data)
    config = read_json(folder / "tokenizer_config.json")
    check_added_tokens(folder, tokenizer, config)
    named = find_named_tokens(config, read_json(folder / "special_tokens_map.json"))
    eos_text = eos_token or named.get("eos_token", "")
    eos_id = tokenizer.token_to_id(eos_text) if eos_text else None
    if eos_id is None:
        raise DataError(
            f"the end token {eos_text!r} is not in the vocabulary of {folder}/tokenizer.json",
            "set eos_token in the recipe, or complete tokenizer_config.json",
        )
    return ModelTokenizer(
        tokenizer=tokenizer,
        sha256=hashlib.sha256(data).hexdigest(),
        vocab_size=max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1,
        bos_ids=find_bos(tokenizer, config, named),
        eos_id=eos_id,
        named_tokens=named,
        chat_template=find_template(folder, config),
    )


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}", "name a Hugging Face model folder with a tokenizer.json"
        ) from error


def read_json(path: Path) -> dict:
    """The object in `path`; empty if the file does not exist. Raises DataError."""
    if not path.exists():
        return {}
    try:
        value = json.loads(read_file(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}", "copy the model folder again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object", "copy the model folder again")
    return value


def build(folder: Path, data: bytes) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # The library raises bare Exception.
        raise DataError(
            f"{folder}/tokenizer.json is not usable: {error}",
            "copy it again, or save it with a current version of transformers",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def check_added_tokens(folder: Path, tokenizer: Tokenizer, config: dict) -> None:
    """Raises DataError where transformers would see other added tokens than tokenizer.json."""
    for index, token in config.get("added_tokens_decoder", {}).items():
        found = tokenizer.token_to_id(token["content"])
        if found != int(index):
            raise DataError(
                f"{folder}: token {token['content']!r} has id {index} in tokenizer_config.json "
                f"but {found} in tokenizer.json",
                "save the tokenizer again with transformers, so that both files agree",
            )


def find_named_tokens(config: dict, special_map: dict) -> dict[str, str]:
    """`bos_token` and the like as text; tokenizer_config.json goes before the older map."""
    named = {}
    for key in NAMED_TOKENS:
        value = config.get(key, special_map.get(key))
        if isinstance(value, dict):
            value = value.get("content")
        if value is not None:
            named[key] = str(value)
    return named


def find_bos(tokenizer: Tokenizer, config: dict, named: dict[str, str]) -> tuple[int, ...]:
    """The ids this tokenizer puts in front of a text: `add_bos_token`, else its post-processor."""
    wanted = config.get("add_bos_token")
    if wanted is False:
        return ()
    plain = tokenizer.encode("x", add_special_tokens=False).ids
    full = tokenizer.encode("x", add_special_tokens=True).ids
    for begin in range(len(full) - len(plain) + 1):
        if full[begin : begin + len(plain)] == plain and begin > 0:
            return tuple(full[:begin])
    bos_id = tokenizer.token_to_id(named.get("bos_token", "")) if wanted else None
    return () if bos_id is None else (bos_id,)


def find_template(folder: Path, config: dict) -> str | None:
    """chat_template.jinja if there is one, else the configuration's (the one named default)."""
    path = folder / "chat_template.jinja"
    if path.exists():
        try:
            return read_file(path).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8: {error}", "copy the file again") from error
    template = config.get("chat_template")
    if isinstance(template, list):
        return {item["name"]: item["template"] for item in template}.get("default")
    return template
