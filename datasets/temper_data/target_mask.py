# SPDX-License-Identifier: Apache-2.0
"""Which tokens of a rendered conversation the model shall learn: the assistant's turns."""

from collections.abc import Sequence

import numpy as np

from .chat_template import ChatTemplate, TemplateRefusal
from .conversations import Conversation, RecordRefusal

PROBE = "\ue000temper-probe\ue001"  # Private-use characters: in no text by accident.
NO_SPANS = "template does not show the assistant's turns"

Span = tuple[int, int]  # Characters [begin, end).


def render_with_spans(template: ChatTemplate, conversation: Conversation) -> tuple[str, list[Span]]:
    """The whole text and, in order, the range of each assistant turn, end-of-turn token included.

    A turn begins where the generation prompt of the messages before it ends, and ends where the
    rendering of the messages up to it ends. Where the template renders a prefix of the
    conversation in another way than the whole, its generation tags decide, and without such tags
    a rendering with another answer shows the borders. Raises TemplateRefusal, RecordRefusal.
    """
    text = template.render(conversation.messages, conversation.tools, False)
    marked = template.generation_spans()
    spans = []
    for index in conversation.assistant_turns():
        begin, end = find_prefixes(template, conversation, index, text)
        if (begin is None or end is None) and template.marks_generation:
            return text, marked
        if begin is None or end is None:
            probed_begin, probed_end = probe_turn(template, conversation, index, text)
            begin = probed_begin if begin is None else begin
            end = probed_end if end is None else end
        if begin >= end or spans and begin < spans[-1][1]:
            raise RecordRefusal(NO_SPANS, f"message {index} adds no text after the one before")
        spans.append((begin, end))
    return text, spans


def find_prefixes(
    template: ChatTemplate, conversation: Conversation, index: int, text: str
) -> tuple[int | None, int | None]:
    """Begin and end of turn `index` by rendering what precedes; None where that is no prefix."""
    ends: list[int | None] = []
    for count, prompt in ((index, True), (index + 1, False)):
        try:
            prefix = template.render(conversation.messages[:count], conversation.tools, prompt)
        except TemplateRefusal:  # Many templates refuse an empty or unfinished conversation.
            prefix = None
        ends.append(len(prefix) if prefix and text.startswith(prefix) else None)
    return ends[0], ends[1]


def probe_turn(
    template: ChatTemplate, conversation: Conversation, index: int, text: str
) -> Span:
    """Begin and end of the answer of turn `index`, found by putting another answer in its place.

    What follows the answer when the conversation stops there, less white space, is the
    end-of-turn mark. Raises RecordRefusal if the two renderings differ elsewhere, too.
    """
    messages = list(conversation.messages)
    if not isinstance(messages[index].get("content"), str):
        raise RecordRefusal(NO_SPANS, f"message {index} is no plain text")
    messages[index] = dict(messages[index], content=PROBE)
    before, after = split_at_probe(template.render(messages, conversation.tools, False), index)
    stopped = template.render(messages[: index + 1], conversation.tools, False)
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


def mask_tokens(
    ids: Sequence[int],
    offsets: Sequence[Span],
    text: str,
    spans: list[Span],
    special_ids: set[int],
) -> np.ndarray:
    """1 for each token that has a character inside a span, 0 for others and for the first token.

    White space after a turn's last special token (the newline that templates put after the
    end-of-turn token) is no target: the model has stopped by then.
    Shapes: ids [n], offsets [n] of character ranges in `text`; result [n], uint8.
    """
    mask = np.zeros(len(ids), np.uint8)
    first = 0
    for begin, end in spans:
        while first < len(ids) and offsets[first][1] <= begin:
            first += 1
        stop = first
        while stop < len(ids) and offsets[stop][0] < end:
            stop += 1
        mask[first : trim_end(ids, offsets, text, first, stop, special_ids)] = 1
        first = stop
    mask[:1] = 0
    return mask


def trim_end(ids, offsets, text: str, first: int, stop: int, special_ids: set[int]) -> int:
    """`stop`, less the white space that follows the last special token of [first, stop)."""
    for last in range(stop - 1, first - 1, -1):
        if ids[last] in special_ids:
            return last + 1
        if text[offsets[last][0] : offsets[last][1]].strip():
            return stop
    return stop
