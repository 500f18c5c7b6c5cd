# SPDX-License-Identifier: Apache-2.0
"""The parts of a message in one form: content as text or text parts, tool calls as transformers
has them."""

import json

from .errors import RecordRefusal

MALFORMED = "malformed record"
NO_TEXT = "content that is no text"
TEXT_TYPES = (None, "text", "input_text", "output_text")


def check_messages(name: str, messages: list) -> list[dict]:
    """`messages`, which the record has under `name`, in one form. Raises RecordRefusal."""
    return [normal_message(message, index, name) for index, message in enumerate(messages)]


def normal_message(message, index: int, name: str) -> dict:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or not role.strip():
        raise RecordRefusal(MALFORMED, f"message {index} of {name} has no role")
    if message.get("function_call") is not None:  # Templates read its successor only.
        raise RecordRefusal(MALFORMED, f"message {index} has function_call: use tool_calls")
    content, calls = message.get("content"), message.get("tool_calls")
    if isinstance(content, list):
        message = message | {"content": text_parts(content, index)}
    elif not isinstance(content, (str, type(None))):
        raise RecordRefusal(MALFORMED, f"content of message {index} is no text")
    if calls is not None:
        message = message | {"tool_calls": normal_calls(calls, index)}
    return message


def text_parts(content: list, index: int) -> list[dict]:
    """Each part as templates know it. Raises RecordRefusal for an image or anything else."""
    parts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else part
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(text, str) or kind not in TEXT_TYPES:
            shown = f"of type {kind!r}" if isinstance(part, dict) else "without text"
            raise RecordRefusal(NO_TEXT, f"message {index} has a part {shown}")
        parts.append({"type": "text", "text": text})
    return parts


def text_of(message: dict) -> str:
    """The content as one text; empty if there is none."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content if isinstance(content, str) else ""


def normal_calls(calls, index: int) -> list[dict]:
    """Tool calls as `{"type": "function", "function": {"name", "arguments"}}`, whose arguments stay
    what they are: JSON text or an object. The list itself may be JSON text."""
    calls = parse_json(calls, f"tool_calls of message {index}")
    if not isinstance(calls, list):
        raise RecordRefusal(MALFORMED, f"tool_calls of message {index} is no list")
    return [normal_call(call, index) for call in calls]


def normal_call(call, index: int) -> dict:
    if isinstance(call, dict) and "function" not in call:
        outer = {key: call[key] for key in ("id", "type") if call.get(key) is not None}
        inner = {key: value for key, value in call.items() if key not in ("id", "type")}
        call = {"type": "function"} | outer | {"function": inner}
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RecordRefusal(MALFORMED, f"a tool call of message {index} has no name")
    if not isinstance(function.get("arguments", {}), (str, dict)):
        problem = f"arguments of a tool call of message {index} are neither JSON text nor an object"
        raise RecordRefusal(MALFORMED, problem)
    return call


def parse_json(value, where: str):
    """The value of JSON text; what is no text stays. Raises RecordRefusal."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RecordRefusal(MALFORMED, f"{where} is no JSON") from error
