# SPDX-License-Identifier: Apache-2.0
"""Chat templates by well-known names, and those that a recipe gives in place of the model's own."""

from dataclasses import replace
from pathlib import Path

from .errors import DataError, printable
from .model_tokenizer import ModelTokenizer, check_template, read_text

FOLDER = Path(__file__).parent / "templates"
# What each template writes that must be one token each; the last of them ends a turn. A name that
# ends in _token is what tokenizer_config.json calls so.
TOKENS = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("bos_token", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": ("bos_token", "[INST]", "[/INST]", "eos_token"),
    "gemma": ("bos_token", "<start_of_turn>", "<end_of_turn>"),
    "alpaca": ("eos_token",),
}


def with_template(model: ModelTokenizer, wanted: str) -> ModelTokenizer:
    """The model with the template `wanted`, a well-known name or a file; "" leaves its own.

    It renders conversations with tools, too, as with transformers. Raises DataError.
    """
    if not wanted:
        return model
    if wanted not in TOKENS:
        return instead(model, Path(wanted), read_own(Path(wanted)))
    missing = missing_tokens(model, wanted)
    if missing:
        raise DataError(
            f"chat_template is {wanted}, which writes {', '.join(missing)}, and the tokenizer has "
            "no such special token",
            advice(model) + "; or train a model whose tokenizer has them",
        )
    path = FOLDER / f"{wanted}.jinja"
    return instead(model, path, read_text(path))


def instead(model: ModelTokenizer, path: Path, template: str) -> ModelTokenizer:
    if model.templates == {"default": template}:
        return model
    note = f"the conversations are rendered by {printable(str(path))}, " + (
        "not by the model's own chat template: set data.chat_template: shard in the run's "
        "configuration, so that checkpoints have it"
        if model.templates
        else "and checkpoints get it, since the model has no chat template of its own"
    )
    return replace(model, templates={"default": template}, notes=(*model.notes, note))


def read_own(path: Path) -> str:
    if not path.is_file():
        raise DataError(
            f"chat_template is {path}, which is no file",
            f"name a Jinja file, or one of: {', '.join(TOKENS)}",
        )
    template = check_template(path, read_text(path))
    if not template.strip():
        raise DataError(f"the chat template in {path} is empty", "name another file")
    return template


def missing_tokens(model: ModelTokenizer, name: str) -> list[str]:
    """What the template writes that is no special token of the tokenizer."""
    special, missing = model.special_ids(), []
    for token in TOKENS[name]:
        text = model.named_tokens.get(token, "") if token.endswith("_token") else token
        if not text or model.tokenizer.token_to_id(text) not in special:
            missing.append(token)
    return missing


def advice(model: ModelTokenizer) -> str:
    """What to set for a model that has no template, or not the one that was asked for."""
    fitting = [name for name in TOKENS if not missing_tokens(model, name)]
    if not fitting:
        return "set chat_template in the recipe to a Jinja file made for this tokenizer"
    names = " or ".join(fitting)
    return f"set chat_template in the recipe to {names}, which fit this tokenizer, or to a file"
