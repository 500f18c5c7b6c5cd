# SPDX-License-Identifier: Apache-2.0
"""Conversations to tokens and targets, by the template that transformers would take."""

from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np

from .chat_template import ChatTemplate, TemplateRefusal
from .conversations import Conversation
from .errors import RecordRefusal
from .limits import BoundedBlocks
from .model_tokenizer import ModelTokenizer
from .piece_encoder import PieceEncoder
from .reasoning import require_thoughts, write_thoughts
from .recipe import Recipe
from .target_mask import NO_END, Turn, find_text_end, mask_tokens, render_with_turns
from .traces import Trace

RENDER_BYTES = 512 << 20  # memory for rendering a conversation, beside
RENDER_BYTES_PER_BYTE = 32  # of the longest record; both arbitrary, far above need
LONG_TEXT = 1 << 16  # characters, that may leave the process with more memory when encoded


@dataclass
class Document:
    """One document's tokens, which of them are targets, and where it goes."""

    ids: np.ndarray  # uint32 [n]
    mask: np.ndarray | None = None  # uint8 [n]; None for pretrain
    turn_ends: list[int] = field(default_factory=list)  # of each trained turn; see target_mask
    in_holdout: bool = False
    trace: Trace | None = None  # what is compared with other documents


@dataclass
class Encoded:
    """A conversation's document, and each trained turn with the token that it ends before."""

    document: Document
    turns: list[Turn]
    stops: list[int]  # [turn]


class ConversationEncoder:
    def __init__(self, recipe: Recipe, model: ModelTokenizer):
        self.model = model
        self.keeps_thoughts = recipe.conversations.reasoning == "keep"
        most = RENDER_BYTES + RENDER_BYTES_PER_BYTE * recipe.max_record_bytes
        self.memory = BoundedBlocks(most)
        self.pieces = PieceEncoder(model.tokenizer)
        named = model.named_tokens
        self.marks = model.special_ids()  # The special tokens that may end a turn.
        if named.get("bos_token") != named.get("eos_token"):
            self.marks.discard(model.tokenizer.token_to_id(named.get("bos_token", "")))
        today = date.fromisoformat(recipe.date) if recipe.date else None
        sources = model.templates if recipe.kind == "sft" else {}
        self.templates = {
            name: ChatTemplate(source, named, today)
            for name, source in sources.items()
            if name in ("default", "tool_use")
        }

    def encode(self, conversation: Conversation) -> Encoded:
        """Raises RecordRefusal."""
        name = self.model.template_name(conversation.tools)
        if name is None:
            names = ", ".join(sorted(self.model.templates))
            raise RecordRefusal("no chat template", f"none is named default, but {names}")
        try:
            return self._encode(conversation, self.templates[name])
        except TemplateRefusal as refusal:
            raise RecordRefusal("refused by the chat template", str(refusal)) from None

    def _encode(self, conversation: Conversation, template: ChatTemplate) -> Encoded:
        with self.memory:
            if self.keeps_thoughts and not template.wants.reads_reasoning:
                messages = write_thoughts(conversation.messages)
                conversation = replace(conversation, messages=messages)
            text, turns = render_with_turns(template, conversation)
        if self.keeps_thoughts:
            for turn in turns:
                if turn.index is not None:
                    message = conversation.messages[turn.index]
                    require_thoughts(message, turn.index, text[turn.begin : turn.end])
        tokens = self.pieces.encode(text)
        if len(text) > LONG_TEXT:
            self.memory.renew()
        mask, ends, stops = mask_tokens(tokens, text, turns, self.marks)
        if NO_END in ends:
            with self.memory:
                turns = [
                    find_text_end(template, conversation, turn, text) if end == NO_END else turn
                    for turn, end in zip(turns, ends, strict=True)
                ]
            mask, ends, stops = mask_tokens(tokens, text, turns, self.marks)
        known = [end for end in ends if end is not None]
        return Encoded(Document(tokens.ids, mask, known), turns, stops)

    def cut(self, conversation: Conversation, encoded: Encoded, limit: int) -> Document:
        """What the template renders of the conversation up to the last turn to be learnt with
        which it has at most `limit` tokens. Raises RecordRefusal if there is none."""
        for turn, stop in reversed(list(zip(encoded.turns, encoded.stops, strict=True))):
            if stop > limit or turn.index is None:
                continue
            shorter = self.encode(conversation.up_to(turn.index))
            document = shorter.document
            if shorter.stops and shorter.stops[-1] <= limit:
                # No target stands behind the turn's end, only what a template writes between two.
                document.ids, document.mask = document.ids[:limit], document.mask[:limit]
                return document
        detail = f"no answer to be learnt ends within max_tokens={limit}"
        raise RecordRefusal("too long to cut", detail)
