# SPDX-License-Identifier: Apache-2.0
"""What ends the assistant's turns, and whether generation will stop there."""

from collections import Counter

from .model_tokenizer import ModelTokenizer
from .target_mask import NO_END, TEXT_END


def end_of_turn(ends: Counter) -> int | None:
    """The special token that ends most turns; None where none does."""
    tokens = {end: count for end, count in ends.items() if end >= 0}
    return min(tokens, key=lambda end: (-tokens[end], end), default=None)


def notes_on_turns(ends: Counter, model: ModelTokenizer) -> list[str]:
    """What a person should know before training on these turns."""
    notes, total = [], ends.total()
    if ends[NO_END]:
        notes.append(
            f"{ends[NO_END]} of {total} trained turns end without a mark, since the chat template "
            "writes none there: the model does not learn from them to stop"
        )
    if ends[TEXT_END]:
        notes.append(
            f"{ends[TEXT_END]} of {total} trained turns end with plain text of the chat template, "
            "not with a special token: generation must be told to stop at that text"
        )
    token = end_of_turn(ends)
    if token is not None and model.stop_ids and token not in model.stop_ids:
        stops = ", ".join(describe(model, stop) for stop in sorted(model.stop_ids))
        notes.append(
            f"{ends[token]} of {total} trained turns end with {describe(model, token)}, which is "
            f"no end token of the model (its own: {stops}): generation does not stop there unless "
            "it is made one: by model.end_of_turn: add in the run's configuration, or in the "
            "eos_token_id of generation_config.json"
        )
    return notes


def describe(model: ModelTokenizer, token: int) -> str:
    return f"{model.tokenizer.id_to_token(token)!r} ({token})"
