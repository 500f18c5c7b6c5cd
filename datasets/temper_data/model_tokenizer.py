# SPDX-License-Identifier: Apache-2.0
"""A model folder's tokenizer and chat template, as transformers would use them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from .errors import DataError, is_unicode, printable
from .tokenizer_config import (
    add_special_tokens, check_keys, find_named_tokens, malformed, other_tokens,
)  # fmt: skip

OTHER_TOKENIZERS = ("tokenizer.model", "tekken.json", "tiktoken.model", "vocab.json")
MAX_TEMPLATE = 1 << 22  # characters; arbitrary, far above need
MAX_VOCABULARY = 1 << 31  # what the trainer reads
NO_UNICODE, HALF_PAIR = "invalid Unicode", "holds half a surrogate pair"


@dataclass(frozen=True)
class ModelTokenizer:
    """What preparation needs to know of a model."""

    tokenizer: Tokenizer
    sha256: str  # of the bytes of tokenizer.json
    vocab_size: int  # every id of a document is below: tokens, added ones too, that have a row
    lacks_rows: bool  # whether there are tokens that have none
    bos_ids: tuple[int, ...]  # what this tokenizer puts before a text by itself
    eos_id: int | None  # None if the folder names no end token
    named_tokens: dict[str, str]  # "eos_token": "</s>", ...; only those that are set
    templates: dict[str, str]  # "default", "tool_use", ...: chat templates by name
    stop_ids: frozenset[int]  # tokens at which generation with this model ends
    notes: tuple[str, ...]  # what a person should know of the folder

    @property
    def chat_template(self) -> str | None:
        """The template of conversations without tools."""
        return self.templates.get("default")

    def template_name(self, tools: list | None) -> str | None:
        """The template that transformers takes; None where it finds none."""
        if tools is not None and "tool_use" in self.templates:
            return "tool_use"
        return "default" if "default" in self.templates else None

    def special_ids(self) -> set[int]:
        added = self.tokenizer.get_added_tokens_decoder()
        return {index for index, token in added.items() if token.special}


def load_model_tokenizer(folder: Path, eos_token: str = "") -> ModelTokenizer:
    """Reads the tokenizer and the chat templates of a model folder.

    `eos_token` overrides the configured end token. Raises DataError.
    """
    data = read_file(folder / "tokenizer.json")
    tokenizer = build(folder, data)
    config = read_json(folder / "tokenizer_config.json")
    notes = check_keys(folder, tokenizer, config)
    special_map = read_json(folder / "special_tokens_map.json")
    named = find_named_tokens(folder, config, special_map)
    templates = find_templates(folder, config)
    eos_text = eos_token or named.get("eos_token", "")
    eos_id = tokenizer.token_to_id(eos_text) if eos_text else None
    if eos_text and eos_id is None:
        raise DataError(
            f"the end token {eos_text!r} is not in the vocabulary of {folder}/tokenizer.json",
            "set eos_token in the recipe (for text), or correct tokenizer_config.json",
        )
    tokens = {text: key for key, text in named.items()} | other_tokens(folder, config, special_map)
    notes += add_special_tokens(folder, tokenizer, tokens, templates)
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    rows = embedding_rows(folder, size)
    if rows < size:
        notes.append(
            f"the tokenizer has ids up to {size - 1}, the model's embedding {rows} rows: "
            "records with tokens that have none are dropped"
        )
    return ModelTokenizer(
        tokenizer=tokenizer,
        sha256=hashlib.sha256(data).hexdigest(),
        vocab_size=rows,
        lacks_rows=rows < size,
        bos_ids=find_bos(tokenizer, config, named),
        eos_id=eos_id,
        named_tokens=named,
        templates=templates,
        stop_ids=find_stops(folder, eos_id),
        notes=tuple(notes),
    )


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        others = [name for name in OTHER_TOKENIZERS if (path.parent / name).is_file()]
        remedy = "name a Hugging Face model folder with a tokenizer.json"
        if others:
            remedy = (
                f"make it of {others[0]}: load the folder with transformers.AutoTokenizer "
                "and save it with save_pretrained"
            )
        raise DataError(f"{path}: {error.strerror}", remedy) from error


def read_json(path: Path) -> dict:
    """The object in `path`; empty if the file does not exist. Raises DataError."""
    if not path.exists():
        return {}
    try:
        value = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}", "copy the model folder again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object", "copy the model folder again")
    return value


def build(folder: Path, data: bytes) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_buffer(data)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode("x")
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # The library raises bare Exception, and panics above it.
        raise DataError(
            f"{folder}/tokenizer.json is not usable: {printable(str(error))}",
            "copy it again, or save it with a current version of transformers",
        ) from error
    if not 0 <= largest < MAX_VOCABULARY:
        raise DataError(
            f"{folder}/tokenizer.json has token ids up to {largest}; "
            f"wanted 0 to {MAX_VOCABULARY - 1}",
            "copy it again",
        )
    return tokenizer


def told_stops(folder: Path) -> list[int]:
    """`eos_token_id` of generation_config.json or config.json, as listed; [] if neither has one."""
    for name in ("generation_config.json", "config.json"):
        value = read_json(folder / name).get("eos_token_id")
        values = value if isinstance(value, list) else [value]
        found = [item for item in values if isinstance(item, int)]
        if found:
            return found
    return []


def find_stops(folder: Path, eos_id: int | None) -> frozenset[int]:
    """What the folder's configuration tells, else the tokenizer's end token."""
    told = told_stops(folder)
    return frozenset(told or ([] if eos_id is None else [eos_id]))


def embedding_rows(folder: Path, tokens: int) -> int:
    """How many of the ids below `tokens` the model has a row for; all, if nothing says less."""
    config = read_json(folder / "config.json")
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        rows = part.get("vocab_size")
        if isinstance(rows, int) and 0 < rows < tokens:
            return rows
    return tokens


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


def find_templates(folder: Path, config: dict) -> dict[str, str]:
    """The files, if there are any, else the configuration's: one text, or several with names."""
    extra = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    files = {"default": folder / "chat_template.jinja"}
    files |= {path.name.removesuffix(".jinja"): path for path in extra}
    files = {name: path for name, path in files.items() if path.exists()}
    if files:
        return {name: check_template(path, read_text(path)) for name, path in files.items()}
    given = config.get("chat_template")
    if given is None:
        return {}
    if isinstance(given, str):
        given = {"default": given}
    if isinstance(given, list):
        if not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in given):
            raise malformed(folder, "chat_template is a list, but not of named templates")
        given = {item["name"]: item.get("template") for item in given}
    if not isinstance(given, dict):
        raise malformed(folder, f"chat_template is {given!r}")
    path = folder / "tokenizer_config.json"
    return {name: check_template(path, template) for name, template in given.items()}


def read_text(path: Path) -> str:
    try:
        return read_file(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}", "copy the file again") from error


def check_template(path: Path, template) -> str:
    """`template` if a shard can hold it. Raises DataError."""
    problem = None
    if not isinstance(template, str):
        problem = "is no text"
    elif len(template) > MAX_TEMPLATE:
        problem = f"has more than {MAX_TEMPLATE} characters"
    elif "\0" in template or not is_unicode(template):
        problem = "holds a NUL or half a surrogate pair"
    if problem:
        raise DataError(f"the chat template in {path} {problem}", "copy the model folder again")
    return template
