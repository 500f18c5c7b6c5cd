# SPDX-License-Identifier: Apache-2.0
"""In which form a chat template reads messages, found by rendering small ones.

Some templates read content as text, some as a list of parts, some both; some write the arguments
of a tool call as they are, so want JSON text, and some turn them into JSON, so want an object.
What a template reads it gets as the data have it, as with transformers; the rest is converted.
"""

import json
from collections.abc import Callable
from functools import cached_property

from .message_parts import text_of

MARK = "temper-probe"
ARGUMENTS = {MARK: 1}
CALL_ID = "temper000"  # Of nine letters or digits, as the templates of Mistral demand.
TOOL = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {}, "required": []},
    },
}
Render = Callable[[list[dict], list | None], str | None]  # None: the template refuses


class TemplateWants:
    """What one template reads. Everything is found when it is first asked for, since rendering is
    for processes with limits only."""

    def __init__(self, render: Render):
        self._render = render

    @cached_property
    def reads_parts(self) -> bool:
        text = self._ask([{"type": "text", "text": MARK}])
        return MARK in text and not shows_repr(text, "type")

    @cached_property
    def reads_text(self) -> bool:
        """Also where the small conversation is refused both ways: text is what most want."""
        return MARK in self._ask(MARK) or not self.reads_parts

    @cached_property
    def reads_objects(self) -> bool:
        text = self._ask_call(ARGUMENTS)
        return MARK in text and f"'{MARK}'" not in text

    @cached_property
    def reads_json(self) -> bool:
        return json.dumps(ARGUMENTS) in self._ask_call(json.dumps(ARGUMENTS))

    @cached_property
    def reads_reasoning(self) -> bool:
        """Whether an answer's thoughts are rendered from a field of their own."""
        answer = {"role": "assistant", "content": "a", "reasoning_content": MARK}
        question = {"role": "user", "content": self._content("q")}
        answer |= {"thinking": MARK, "content": self._content("a")}
        return MARK in (self._render([question, answer], None) or "")

    def adapt(self, message: dict) -> dict:
        """The message in a form that the template reads."""
        content, calls = message.get("content"), message.get("tool_calls")
        if isinstance(content, list) and not self.reads_parts:
            message = message | {"content": text_of(message)}
        elif isinstance(content, str) and not self.reads_text:
            message = message | {"content": self._content(content)}
        if isinstance(calls, list):
            message = message | {"tool_calls": [self._adapt_call(call) for call in calls]}
        return message

    def _adapt_call(self, call):
        function = call.get("function") if isinstance(call, dict) else None
        given = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(given, dict) and self.reads_json and not self.reads_objects:
            given = json.dumps(given, ensure_ascii=False)
        elif isinstance(given, str) and self.reads_objects and not self.reads_json:
            given = to_object(given)
        else:
            return call
        return call | {"function": function | {"arguments": given}}

    def _content(self, text: str):
        return text if self.reads_text else [{"type": "text", "text": text}]

    def _ask(self, content) -> str:
        return self._render([{"role": "user", "content": content}], None) or ""

    def _ask_call(self, arguments) -> str:
        call = {"name": "probe", "arguments": arguments}
        calls = [{"id": CALL_ID, "type": "function", "function": call}]
        answer = {"role": "assistant", "content": self._content(""), "tool_calls": calls}
        messages = [{"role": "user", "content": self._content("q")}, answer]
        found = self._render(messages, [TOOL])
        return found if found is not None else self._render(messages, None) or ""


def shows_repr(text: str, key: str) -> bool:
    """Whether a value was printed as Python or JSON has it, instead of being read."""
    return f"'{key}'" in text or f'"{key}"' in text


def to_object(text: str) -> dict:
    """Raises ValueError, which is a refusal of the conversation, if the text is no JSON object."""
    value = json.loads(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise ValueError("the arguments of a tool call are no JSON object")
    return value
