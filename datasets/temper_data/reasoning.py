# SPDX-License-Identifier: Apache-2.0
"""The assistant's thoughts: in fields of their own, or between <think> tags before the answer."""

import re

from .errors import RecordRefusal
from .message_parts import text_of

FIELDS = ("reasoning_content", "thinking", "reasoning")
THOUGHT = re.compile(r"\s*<think>(.*?)(?:</think>\s*|\Z)", re.DOTALL)  # One cut off has no end.
LOST = "reasoning is not rendered"


def thoughts_of(message: dict) -> str:
    """What the message thinks before it answers; empty if nothing."""
    given = [message[key] for key in FIELDS if message.get(key)]
    if given and isinstance(given[0], str):
        return given[0].strip()
    found = THOUGHT.match(text_of(message))
    return found[1].strip() if found else ""


def without_thoughts(message: dict) -> dict:
    message = {key: value for key, value in message.items() if key not in FIELDS}
    found = THOUGHT.match(text_of(message))
    return message | {"content": text_of(message)[found.end() :]} if found else message


def drop_thoughts(messages: list[dict]) -> list[dict]:
    return [without_thoughts(m) if m["role"] == "assistant" else m for m in messages]


def write_thoughts(messages: list[dict]) -> list[dict]:
    """Puts thoughts that have a field of their own before the answer, between tags, for templates
    that do not read the field."""
    return [write_thought(m) if m["role"] == "assistant" else m for m in messages]


def write_thought(message: dict) -> dict:
    thoughts, plain = thoughts_of(message), without_thoughts(message)
    if not thoughts:
        return message
    return plain | {"content": f"<think>\n{thoughts}\n</think>\n\n{text_of(plain)}"}


def require_thoughts(message: dict, index: int, rendered: str) -> None:
    """Raises RecordRefusal if the turn as `rendered` lacks what its message thinks."""
    if thoughts_of(message) not in rendered:
        remedy = "set train_on: last if it is so in earlier turns only, or reasoning: drop"
        raise RecordRefusal(LOST, f"the template leaves out that of message {index}: {remedy}")
