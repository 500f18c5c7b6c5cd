# SPDX-License-Identifier: Apache-2.0
"""Which tokens of a rendered conversation the model shall learn: the assistant's turns."""

import os.path
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from .chat_template import ChatTemplate, TemplateRefusal
from .conversations import Conversation
from .errors import RecordRefusal
from .message_parts import text_of
from .piece_encoder import Tokens

PROBE = "\ue000temper-probe\ue001"  # Private-use characters: in no text by accident.
NO_SPANS = "template does not show the assistant's turns"
# How a turn ends that no special token ends; beside ids of tokens, so negative.
TEXT_END = -1  # With a text of the template.
NO_END = -2  # With the answer itself.

Span = tuple[int, int]  # Characters [begin, end).
BEGIN, END = itemgetter(0), itemgetter(1)


class Turn(NamedTuple):
    """One assistant turn in the text."""

    begin: int
    end: int
    index: int | None  # of its message; None if the template's tags do not tell
    ends_with_text: bool = False  # the template's, not the answer's


def render_with_turns(template: ChatTemplate, conversation: Conversation) -> tuple[str, list[Turn]]:
    """The whole text and, in order, each assistant turn that is to be learnt.

    A turn begins where the generation prompt of the messages before it ends, and ends where the
    rendering of the messages up to it ends. Where the template renders a prefix of the
    conversation in another way than the whole, its generation tags decide, and without such tags
    a rendering with another answer shows the borders. Raises TemplateRefusal, RecordRefusal.
    """
    adapted = template.adapt(conversation.messages)
    text = render_adapted(template, conversation, adapted, False)
    marked = template.generation_spans()
    spans: list[Span] = []
    for index in conversation.assistant_turns:
        begin, end = find_prefixes(template, conversation, adapted, index, text)
        if (begin is None or end is None) and template.marks_generation:
            spans = tagged_spans(conversation, marked)
            break
        if begin is None or end is None:
            probed_begin, probed_end = probe_turn(template, conversation, index, text)
            begin = probed_begin if begin is None else begin
            end = probed_end if end is None else end
        if begin >= end or spans and begin < spans[-1][1]:
            raise RecordRefusal(NO_SPANS, f"message {index} adds no text after the one before")
        spans.append((begin, end))
    indices = conversation.assistant_turns
    if len(spans) != len(indices):
        return text, [Turn(begin, end, None) for begin, end in spans]
    turns = [Turn(begin, end, i) for i, (begin, end) in zip(indices, spans, strict=True)]
    return text, [turn for turn in turns if turn.index not in conversation.untrained]


def render(
    template: ChatTemplate, conversation: Conversation, messages: list[dict], prompt: bool
) -> str:
    return render_adapted(template, conversation, template.adapt(messages), prompt)


def render_adapted(
    template: ChatTemplate, conversation: Conversation, adapted: list[dict], prompt: bool
) -> str:
    """As `render`, of messages that were adapted before."""
    return template.render_adapted(adapted, conversation.tools, prompt, conversation.variables)


def tagged_spans(conversation: Conversation, marked: list[Span]) -> list[Span]:
    """What the generation tags enclose. Raises RecordRefusal if not all of it is to be learnt and
    the tags are not one for each turn."""
    if conversation.untrained and len(marked) != len(conversation.assistant_turns):
        raise RecordRefusal(NO_SPANS, f"{len(marked)} generation tags, so no turn can be left out")
    return marked


def find_prefixes(
    template: ChatTemplate, conversation: Conversation, adapted: list[dict], index: int, text: str
) -> tuple[int | None, int | None]:
    """Begin and end of turn `index` by rendering what precedes; None where that is no prefix.

    `adapted` are the messages as the template reads them, and `text` is their rendering.
    """
    ends: list[int | None] = []
    for count, prompt in ((index, True), (index + 1, False)):
        if count == len(adapted) and not prompt:
            ends.append(len(text) or None)
            continue
        try:
            prefix = render_adapted(template, conversation, adapted[:count], prompt)
        except TemplateRefusal:  # Many templates refuse an empty or unfinished conversation.
            prefix = None
        ends.append(len(prefix) if prefix and text.startswith(prefix) else None)
    return ends[0], ends[1]


def probe_turn(template: ChatTemplate, conversation: Conversation, index: int, text: str) -> Span:
    """Begin and end of the answer of turn `index`, found by putting another answer in its place.

    What follows the answer when the conversation stops there, less white space, is the
    end-of-turn mark. Raises RecordRefusal if the two renderings differ elsewhere, too.
    """
    messages = list(conversation.messages)
    if not isinstance(messages[index].get("content"), (str, list)):
        raise RecordRefusal(NO_SPANS, f"message {index} is no plain text")
    messages[index] = dict(messages[index], content=PROBE)
    before, after = split_at_probe(render(template, conversation, messages, False), index)
    stopped = render(template, conversation, messages[: index + 1], False)
    mark = split_at_probe(stopped, index)[1].rstrip()
    begin, end = len(before), len(text) - len(after)
    if begin > end or not (text.startswith(before) and text.endswith(after)):
        raise RecordRefusal(NO_SPANS, f"message {index} changes the text of other messages")
    if mark and text.startswith(mark, end):
        end += len(mark)
    return begin, end


def split_at_probe(text: str, index: int) -> tuple[str, str]:
    parts = text.split(PROBE)
    if len(parts) != 2:
        raise RecordRefusal(NO_SPANS, f"message {index} is rendered {len(parts) - 1} times")
    return parts[0], parts[1]


def find_text_end(
    template: ChatTemplate, conversation: Conversation, turn: Turn, text: str
) -> Turn:
    """A turn that no special token ends, with the text of the template that always ends it.

    That is what the turn has behind its answer, or, where the template writes it in front of the
    next message, what is common to that message and to another answer in its place.
    """
    if turn.index is None:
        return turn
    answer = text_of(conversation.messages[turn.index]).strip()
    found = text.rfind(answer, turn.begin, turn.end) if answer else -1
    if found >= 0 and text[found + len(answer) : turn.end].strip():
        return turn._replace(ends_with_text=True)
    try:
        messages = conversation.messages[: turn.index + 1]
        again = render(template, conversation, messages, True)
    except TemplateRefusal:
        return turn
    if again[: turn.end] != text[: turn.end]:
        return turn
    mark = whole_words(os.path.commonprefix([text[turn.end :], again[turn.end :]]))
    return turn._replace(end=turn.end + len(mark), ends_with_text=bool(mark))


def whole_words(text: str) -> str:
    """`text` less a last word that may be cut off, if there are others."""
    whole = re.match(r".*\s|", text, re.DOTALL)[0].rstrip()
    return whole or text.rstrip()


def mask_tokens(
    tokens: Tokens, text: str, turns: list[Turn], marks: set[int]
) -> tuple[np.ndarray, list[int | None], list[int]]:
    """The mask, how each turn ends, and behind which token.

    The mask is 1 for each token that has a character inside a turn, 0 for others and for the first
    token. A turn ends with the id of a special token (one of `marks`), TEXT_END or NO_END; the end
    is None for a turn whose tokens all belong to the turn before it, such as a mark that has a
    generation tag of its own.

    White space after a turn's last special token (the newline that templates put after the
    end-of-turn token) is no target: the model has stopped by then. A special token that follows a
    turn without one is a target: some templates write the mark in front of the next message.
    Shapes: `tokens` [n], of which neither begins nor ends ever fall; result [n], uint8.
    """
    endings = Endings(tokens, text, marks)
    mask = np.zeros(len(tokens), np.uint8)
    ends: list[int | None] = []
    stops: list[int] = []
    first = 0
    for turn in turns:
        low, spans = tokens.near(turn.begin)
        first = max(first, low + bisect_right(spans, turn.begin, key=END))
        low, spans = tokens.near(turn.end)
        stop = max(first, low + bisect_left(spans, turn.end, key=BEGIN))
        if first == stop:
            ends.append(None)
            stops.append(stop)
            continue
        stop, end = endings.find(first, stop)
        ends.append(TEXT_END if end == NO_END and turn.ends_with_text else end)
        stops.append(stop)
        mask[first:stop] = 1
        first = stop
    mask[:1] = 0
    return mask, ends, stops


@dataclass
class Endings:
    """Finds what ends turns among the tokens of a text."""

    tokens: Tokens
    text: str
    marks: set[int]

    def is_blank(self, index: int) -> bool:
        if self.is_mark(index):
            return False
        begin, end = self.tokens[index]
        return not self.text[begin:end].strip()

    def is_mark(self, index: int) -> bool:
        return int(self.tokens.ids[index]) in self.marks

    def find(self, first: int, stop: int) -> tuple[int, int]:
        """Where the turn [first, stop) ends with its mark, and the mark's id, or NO_END."""
        last = stop - 1
        while last >= first and self.is_blank(last):
            last -= 1
        if last >= first and self.is_mark(last):
            return last + 1, int(self.tokens.ids[last])
        after = stop
        while after < len(self.tokens) and self.is_blank(after):
            after += 1
        if after < len(self.tokens) and self.is_mark(after):
            return after + 1, int(self.tokens.ids[after])
        return stop, NO_END
