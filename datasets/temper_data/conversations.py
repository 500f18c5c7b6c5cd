# SPDX-License-Identifier: Apache-2.0
"""JSON records of the four common layouts to one: messages with role and content."""

import json
from dataclasses import dataclass, field

from .chat_template import OWN_VARIABLES
from .errors import RecordRefusal
from .training_flags import check_row, is_flag, take_flags

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
# A key that only one kind of row has, and what to say about a row of that kind.
KINDS = {
    "messages": "set format: messages",
    "conversations": "set format: sharegpt",
    "completion": "set format: prompt_completion",
    "instruction": "set format: instruction",
    "chosen": "preferences are no conversations to learn",
    "text": "plain text is for kind pretrain",
}
MALFORMED = "malformed record"


@dataclass(frozen=True)
class Conversation:
    messages: list[dict]
    tools: list | None = None
    untrained: frozenset[int] = frozenset()  # messages that are context only
    variables: dict = field(default_factory=dict)  # what the row sets for the template

    def assistant_turns(self) -> list[int]:
        """Indices of the assistant's messages."""
        return [i for i, message in enumerate(self.messages) if message["role"] == "assistant"]

    def trained_turns(self) -> list[int]:
        return [index for index in self.assistant_turns() if index not in self.untrained]

    def key(self) -> str:
        """Equal for equal conversations; for the hold-out."""
        return json.dumps([self.messages, self.tools], sort_keys=True)


def read_conversation(record: dict, layout: str, name: str, system: str) -> Conversation:
    """The conversation under the key `name` of a record. Raises RecordRefusal.

    `system` is put before conversations without a system message.
    """
    check_row(record)
    if layout == "instruction":
        messages = from_instruction(record)
    elif layout == "sharegpt":
        messages = from_sharegpt(record, name)
    elif layout == "prompt_completion":
        messages = from_prompt_completion(record)
    else:
        messages = check_messages(name, field_list(record, name))
    if system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}] + messages
    messages, untrained = take_flags(messages)
    conversation = Conversation(messages, read_tools(record), untrained, read_variables(record))
    if not conversation.assistant_turns():
        raise RecordRefusal("no assistant turn")
    if not conversation.trained_turns():
        raise RecordRefusal("flagged as not to be trained", "no assistant turn is left")
    for index in conversation.trained_turns():
        if not has_answer(messages[index]):
            raise RecordRefusal("empty answer", f"message {index}")
    return conversation


def has_answer(message: dict) -> bool:
    content = message.get("content")
    text = isinstance(content, str) and content.strip()
    return bool(text or isinstance(content, list) and content or message.get("tool_calls"))


def check_messages(name: str, messages: list) -> list[dict]:
    """`messages`, which the record has under `name`, if each is one. Raises RecordRefusal."""
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RecordRefusal(MALFORMED, f"message {index} of {name} has no role")
        if not isinstance(message.get("content", ""), (str, list, type(None))):
            raise RecordRefusal(MALFORMED, f"content of message {index} is no text")
        if message.get("function_call") is not None:  # Templates read its successor only.
            raise RecordRefusal(MALFORMED, f"message {index} has function_call: use tool_calls")
    return messages


def from_sharegpt(record: dict, name: str) -> list[dict]:
    messages = system_of(record)
    for index, turn in enumerate(field_list(record, name)):
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise RecordRefusal(MALFORMED, f"turn {index} has no text under value")
        speaker = turn.get("from")
        role = SHAREGPT_ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None:
            raise RecordRefusal(MALFORMED, f"turn {index} is from {speaker!r}")
        flags = {key: value for key, value in turn.items() if is_flag(key)}
        messages.append({"role": role, "content": turn["value"]} | flags)
    return messages


def from_instruction(record: dict) -> list[dict]:
    messages = system_of(record)
    history = record.get("history") or []
    if not isinstance(history, list):
        raise RecordRefusal(MALFORMED, "history is no list of [question, answer]")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2 or not all_text(*pair):
            raise RecordRefusal(MALFORMED, "history is no list of [question, answer]")
        messages.append({"role": "user", "content": pair[0]})
        messages.append({"role": "assistant", "content": pair[1]})
    question, extra = record.get("instruction"), record.get("input") or ""
    if not all_text(question, extra, record.get("output")):
        problem = "instruction, input or output is no text"
        raise RecordRefusal(MALFORMED, problem + hint(record, "instruction"))
    if not (question + extra).strip():
        raise RecordRefusal("empty question")
    messages.append({"role": "user", "content": f"{question}\n{extra}" if extra else question})
    messages.append({"role": "assistant", "content": record["output"]})
    return messages


def from_prompt_completion(record: dict) -> list[dict]:
    """Two texts are a question and its answer; of two lists of messages the second is learnt."""
    prompt, completion = record.get("prompt"), record.get("completion")
    if all_text(prompt, completion):
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    if not isinstance(prompt, list) or not isinstance(completion, list) or not prompt:
        problem = "prompt and completion are neither two texts nor two lists of messages"
        raise RecordRefusal(MALFORMED, problem + hint(record, "completion"))
    context = []
    for message in check_messages("prompt", prompt):
        context.append({k: v for k, v in message.items() if not is_flag(k)} | {"train": False})
    if context[-1]["role"] == "assistant":
        raise RecordRefusal(MALFORMED, "the prompt ends within the assistant's turn")
    return context + check_messages("completion", completion)


def all_text(*values) -> bool:
    return all(isinstance(value, str) for value in values)


def system_of(record: dict) -> list[dict]:
    """The system message of layouts that have it in a field of its own."""
    text = record.get("system")
    if text is not None and not isinstance(text, str):
        raise RecordRefusal(MALFORMED, "system is no text")
    return [{"role": "system", "content": text}] if text else []


def field_list(record: dict, name: str) -> list:
    value = record.get(name)
    if not isinstance(value, list) or not value:
        raise RecordRefusal(MALFORMED, f"{name} is no list of messages{hint(record, name)}")
    return value


def hint(record: dict, expected: str) -> str:
    """What a record seems to be that lacks the key its format is named for."""
    found = [say for key, say in KINDS.items() if key in record and key != expected]
    return f"; {found[0]}" if found and expected not in record else ""


def read_tools(record: dict) -> list | None:
    """Tool descriptions; some data sets keep them as JSON text. An empty list stays one, since
    transformers chooses a template by whether there is a list."""
    tools = record.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except (ValueError, RecursionError) as error:
            raise RecordRefusal(MALFORMED, "tools is no JSON") from error
    if tools is not None and not isinstance(tools, list):
        raise RecordRefusal(MALFORMED, "tools is no list")
    if not all(isinstance(tool, dict) for tool in tools or []):
        raise RecordRefusal(MALFORMED, "tools holds something that is no object")
    if tools is None and record.get("functions"):
        raise RecordRefusal(MALFORMED, "the row has functions: use tools")
    return tools


def read_variables(record: dict) -> dict:
    """What the row sets for the template, such as enable_thinking; as TRL reads it."""
    variables = record.get("chat_template_kwargs")
    if variables is None:
        return {}
    if not isinstance(variables, dict) or any(name in variables for name in OWN_VARIABLES):
        raise RecordRefusal(MALFORMED, "chat_template_kwargs holds no variables of its own")
    return variables
