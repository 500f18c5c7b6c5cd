# SPDX-License-Identifier: Apache-2.0
"""Whether a model's texts end where its chat template ends turns."""

from pathlib import Path

from temper_data.chat_template import ChatTemplate, TemplateRefusal
from temper_data.model_tokenizer import ModelTokenizer, load_model_tokenizer
from temper_data.turn_ends import describe

from .tokenizer import STOP_KINDS

ANSWER = "Zq7"  # what no template says by itself
CONVERSATION = [{"role": "user", "content": "a"}, {"role": "assistant", "content": ANSWER}]


def turn_end(model: ModelTokenizer) -> int | None:
    """The special token that the chat template writes behind an answer; None if there is none."""
    try:
        text = ChatTemplate(model.chat_template, model.named_tokens).render(
            CONVERSATION, None, False
        )
    except TemplateRefusal:
        return None
    behind = text.rpartition(ANSWER)[2]
    ids = model.tokenizer.encode(behind, add_special_tokens=False).ids
    added = model.tokenizer.get_added_tokens_decoder()
    return ids[0] if ids and ids[0] in added and added[ids[0]].special else None


def notes_on_stops(folder: Path) -> list[str]:
    """What a person should know before serving the model. Raises DataError."""
    model, notes = load_model_tokenizer(folder), []
    if len(model.stop_ids) > len(STOP_KINDS):
        notes.append(
            f"a GGUF file has a place for {len(STOP_KINDS)} of the {len(model.stop_ids)} end "
            "tokens: name the others to the server, as stop words"
        )
    token = turn_end(model) if model.chat_template else None
    if token is not None and token not in model.stop_ids:
        notes.append(
            f"the chat template ends turns with {describe(model, token)}, which is no end token of "
            "the model: servers may not stop there; add it to eos_token_id in "
            "generation_config.json, or export the checkpoint with temper export --end-of-turn add"
        )
    return notes
