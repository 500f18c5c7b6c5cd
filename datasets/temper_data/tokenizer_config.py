# SPDX-License-Identifier: Apache-2.0
"""What tokenizer_config.json says beside tokenizer.json, and what becomes of each of its keys.

Ids of text are those that transformers 5.24 gives with the whole folder. Where its configuration
changes them, it is followed, or refused if that is not done here.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from .errors import DataError, is_unicode, printable

NAMED_TOKENS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
EXTRA_TOKENS = (
    "extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens",
)  # fmt: skip
HONOURED = (
    *NAMED_TOKENS, *EXTRA_TOKENS, "add_bos_token", "add_prefix_space", "added_tokens_decoder",
    "chat_template", "fix_mistral_regex", "split_special_tokens", "tokenizer_class",
)  # fmt: skip
# They change no id of a text and no text of a template: bounds and padding of batches, how tokens
# become text again, what tokenizer.json says itself, what programs note for themselves. Preparation
# writes the end token behind each text, whatever `add_eos_token` says.
HARMLESS = (
    "_commit_hash", "_json_padding", "_json_truncation", "_spm_precompiled_charsmap",
    "add_eos_token", "auto_map", "backend", "chat_control_tokens", "clean_up_tokenization_spaces",
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", "device_map",
    "errors", "files_loaded", "from_slow", "gguf_file", "is_local", "legacy", "local_files_only",
    "max_len", "max_length", "merges", "model_input_names", "model_max_length", "name_or_path",
    "pad_to_multiple_of", "pad_token_type_id", "padding", "padding_side", "post_processor",
    "processor_class", "response_schema", "response_template", "sp_model_kwargs",
    "spaces_between_special_tokens", "special_tokens_map_file", "stride", "tokenizer",
    "tokenizer_file", "tokenizer_object", "tokenizer_padding", "tokenizer_truncation",
    "truncation", "truncation_side", "truncation_strategy", "unsloth_fixed",
    "use_default_system_prompt", "use_fast", "verbose", "unk_id", "vocab", "vocab_file",
)  # fmt: skip
# Classes that take all but vocabulary and added tokens from their own code, `add_prefix_space`
# included; others leave tokenizer.json as it is.
OWN_CLASSES = ("GPT2Tokenizer", "LlamaTokenizer", "Qwen2Tokenizer")
FLAGS_OF_TOKENS = ("lstrip", "rstrip", "single_word")
MENDED_REGEX = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*"  # Part of what fix_mistral_regex puts in.


def check_keys(folder: Path, tokenizer: Tokenizer, config: dict) -> list[str]:
    """Raises DataError where the configuration asks for other ids than tokenizer.json gives.

    Returns what a person should know: keys that are not known here.
    """
    check_added_tokens(folder, tokenizer, config)
    problem = None
    if config.get("split_special_tokens") is True:
        problem = "split_special_tokens is true: special tokens would be split like other text"
    elif config.get("fix_mistral_regex") is True and MENDED_REGEX not in parts_of(tokenizer):
        problem = "fix_mistral_regex is true, and tokenizer.json does not have the mended pattern"
    elif contradicts_prefix_space(tokenizer, config):
        problem = "add_prefix_space is not what tokenizer.json does"
    if problem:
        raise DataError(
            f"{folder}/tokenizer_config.json: {problem}",
            "save the tokenizer again with transformers, so that both files agree, or take the key "
            "out if tokenizer.json is right",
        )
    unknown = [key for key, value in config.items() if value and not is_known(key, value)]
    names = ", ".join(printable(key) for key in unknown[:20])
    return [f"tokenizer_config.json has keys that are ignored: {names}"] if unknown else []


def is_known(key: str, value) -> bool:
    return key in HONOURED or key in HARMLESS or is_named_token(key, value)


def is_named_token(key: str, value) -> bool:
    """Whether a key outside the lists names a special token of the model, such as image_token."""
    return key.endswith("_token") and key not in HONOURED and isinstance(value, str | dict)


def parts_of(tokenizer: Tokenizer) -> str:
    """All that splits and changes text, as JSON; the vocabulary is not part of it."""
    parts = (tokenizer.normalizer, tokenizer.pre_tokenizer)
    return json.dumps([json.loads(part.__getstate__()) for part in parts if part is not None],
                      ensure_ascii=False).replace("\\\\", "\\")  # fmt: skip


def contradicts_prefix_space(tokenizer: Tokenizer, config: dict) -> bool:
    """Whether transformers' own class would put a space before text where the file does not."""
    wanted, name = config.get("add_prefix_space"), config.get("tokenizer_class")
    name = name.removesuffix("Fast") if isinstance(name, str) else ""
    parts = parts_of(tokenizer)
    is_byte_level = '"ByteLevel"' in parts
    if not isinstance(wanted, bool) or name not in OWN_CLASSES:
        return False
    if name == "LlamaTokenizer" and is_byte_level:
        return False  # transformers takes the file then.
    writes = ('"add_prefix_space": true', '"prepend_scheme": "first"',
              '"prepend_scheme": "always"', '"type": "Prepend"')  # fmt: skip
    return wanted != any(text in parts for text in writes)


def check_added_tokens(folder: Path, tokenizer: Tokenizer, config: dict) -> None:
    """Raises DataError where transformers would see other added tokens than tokenizer.json."""
    tokens = config.get("added_tokens_decoder") or {}
    if not isinstance(tokens, dict):
        raise malformed(folder, "added_tokens_decoder is no object of ids")
    own = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
    for index, token in tokens.items():
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str):
            raise malformed(folder, f"added_tokens_decoder has no content for {index!r}")
        found = tokenizer.token_to_id(content) if is_unicode(content) else None
        differs = f"has id {index} in tokenizer_config.json but {found} in tokenizer.json"
        if str(found) == index:
            flags = [flag for flag in FLAGS_OF_TOKENS
                     if content in own and token.get(flag, False) != getattr(own[content], flag)]
            differs = f"has another {flags[0]} in tokenizer.json" if flags else ""
        if differs:
            raise DataError(
                f"{folder}: token {content!r} {differs}",
                "save the tokenizer again with transformers, so that both files agree",
            )


def find_named_tokens(folder: Path, config: dict, special_map: dict) -> dict[str, str]:
    """`bos_token` and the like as text; tokenizer_config.json goes before the older map."""
    named = {}
    for key in NAMED_TOKENS:
        value = text_of_token(folder, key, config.get(key, special_map.get(key)))
        if value is not None:
            named[key] = value
    return named


def text_of_token(folder: Path, key: str, value) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    if value is not None and not (isinstance(value, str) and is_unicode(value)):
        raise malformed(folder, f"{key} is {value!r}, which is no text")
    return value


def other_tokens(folder: Path, config: dict, special_map: dict) -> dict[str, str]:
    """The texts of special tokens that have no standard name, with the key that each is from."""
    found = {}
    for key in EXTRA_TOKENS:
        value = config.get(key, special_map.get(key)) or []
        if not isinstance(value, list | dict):
            raise malformed(folder, f"{key} is {value!r}, wanted a list or an object of tokens")
        values = value.values() if isinstance(value, dict) else value
        found |= {text_of_token(folder, key, item): key for item in values}
    for key, value in config.items():
        if is_named_token(key, value):
            found[text_of_token(folder, key, value)] = key
    return {text: key for text, key in found.items() if text}


def add_special_tokens(
    folder: Path, tokenizer: Tokenizer, tokens: dict[str, str], templates: dict[str, str]
) -> list[str]:
    """Makes one token of each text that is a special token only by the configuration.

    `tokens` are texts, each with its key. One that has no id would get a new one, which the model
    has no embedding for: raises DataError if a chat template writes it, and says so if not.
    """
    own = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    notes = []
    for text, key in tokens.items():
        if text in own:
            continue
        if tokenizer.token_to_id(text) is not None:
            tokenizer.add_special_tokens([AddedToken(text, normalized=False)])
        elif any(text in template or key in template for template in templates.values()):
            raise DataError(
                f"{folder}: the chat template writes {text!r}, a special token by {key} in "
                "tokenizer_config.json, and tokenizer.json does not have it",
                "save the tokenizer again with transformers, so that both files agree",
            )
        else:
            notes.append(f"{printable(repr(text))} ({key} in tokenizer_config.json) is not in "
                         "tokenizer.json: where a text has it, it is plain text")  # fmt: skip
    return notes


def malformed(folder: Path, problem: str) -> DataError:
    return DataError(
        f"{folder}/tokenizer_config.json: {printable(problem)}",
        "copy it again, or save the tokenizer again with transformers",
    )
