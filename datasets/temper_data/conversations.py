# SPDX-License-Identifier: Apache-2.0
"""JSON records of the three common layouts to one: messages with role and content."""

import json
from dataclasses import dataclass

SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
}


class RecordRefusal(Exception):
    """A record that is dropped: `reason` is what is counted, `detail` says more."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Conversation:
    messages: list[dict]
    tools: list | None = None

    def assistant_turns(self) -> list[int]:
        """Indices of the assistant's messages."""
        return [i for i, message in enumerate(self.messages) if message["role"] == "assistant"]


def read_conversation(record: dict, layout: str, field: str, system: str) -> Conversation:
    """Raises RecordRefusal. `system` is put before conversations without a system message."""
    if layout == "instruction":
        messages = from_instruction(record)
    elif layout == "sharegpt":
        messages = from_sharegpt(record, field)
    else:
        messages = from_messages(record, field)
    if system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}] + messages
    conversation = Conversation(messages, read_tools(record))
    if not conversation.assistant_turns():
        raise RecordRefusal("no assistant turn")
    for index in conversation.assistant_turns():
        if not has_answer(messages[index]):
            raise RecordRefusal("empty answer", f"message {index}")
    return conversation


def has_answer(message: dict) -> bool:
    content = message.get("content")
    text = isinstance(content, str) and content.strip()
    return bool(text or isinstance(content, list) and content or message.get("tool_calls"))


def from_messages(record: dict, field: str) -> list[dict]:
    messages = field_list(record, field)
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RecordRefusal("malformed record", f"message {index} has no role")
        if not isinstance(message.get("content", ""), (str, list, type(None))):
            raise RecordRefusal("malformed record", f"content of message {index} is no text")
    return messages


def from_sharegpt(record: dict, field: str) -> list[dict]:
    messages = system_of(record)
    for index, turn in enumerate(field_list(record, field)):
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise RecordRefusal("malformed record", f"turn {index} has no text under value")
        role = SHAREGPT_ROLES.get(turn.get("from"))
        if role is None:
            raise RecordRefusal("malformed record", f"turn {index} is from {turn.get('from')!r}")
        messages.append({"role": role, "content": turn["value"]})
    return messages


def from_instruction(record: dict) -> list[dict]:
    messages = system_of(record)
    for pair in record.get("history") or []:
        if not isinstance(pair, list) or len(pair) != 2 or not all_text(*pair):
            raise RecordRefusal("malformed record", "history is no list of [question, answer]")
        messages.append({"role": "user", "content": pair[0]})
        messages.append({"role": "assistant", "content": pair[1]})
    question, extra = record.get("instruction"), record.get("input") or ""
    if not all_text(question, extra, record.get("output")):
        raise RecordRefusal("malformed record", "instruction, input or output is no text")
    if not (question + extra).strip():
        raise RecordRefusal("empty question")
    messages.append({"role": "user", "content": f"{question}\n{extra}" if extra else question})
    messages.append({"role": "assistant", "content": record["output"]})
    return messages


def all_text(*values) -> bool:
    return all(isinstance(value, str) for value in values)


def system_of(record: dict) -> list[dict]:
    """The system message of layouts that have it in a field of its own."""
    text = record.get("system")
    return [{"role": "system", "content": text}] if isinstance(text, str) and text else []


def field_list(record: dict, field: str) -> list:
    value = record.get(field)
    if not isinstance(value, list) or not value:
        raise RecordRefusal("malformed record", f"{field} is no list of messages")
    return value


def read_tools(record: dict) -> list | None:
    """Tool descriptions; some data sets keep them as JSON text."""
    tools = record.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise RecordRefusal("malformed record", "tools is no JSON") from error
    if tools and not isinstance(tools, list):
        raise RecordRefusal("malformed record", "tools is no list")
    return tools or None
