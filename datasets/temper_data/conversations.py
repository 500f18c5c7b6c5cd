# SPDX-License-Identifier: Apache-2.0
"""A record as a conversation, with what of it is to be learnt."""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property

from .columns import rename
from .conversation_options import OWN_VARIABLES
from .errors import RecordRefusal
from .layouts import read_messages
from .message_parts import MALFORMED, parse_json, text_of
from .reasoning import drop_thoughts
from .recipe import Recipe, Source
from .training_flags import check_row, take_flags

UNTRAINED = "flagged as not to be trained"


@dataclass(frozen=True)
class Conversation:
    messages: list[dict]
    tools: list | None = None
    untrained: frozenset[int] = frozenset()  # messages that are context only
    variables: dict = field(default_factory=dict)  # what recipe and row set for the template

    @cached_property
    def assistant_turns(self) -> list[int]:
        """Indices of the assistant's messages."""
        return [i for i, message in enumerate(self.messages) if message["role"] == "assistant"]

    @cached_property
    def trained_turns(self) -> list[int]:
        return [index for index in self.assistant_turns if index not in self.untrained]

    def up_to(self, index: int) -> "Conversation":
        """The conversation that ends with message `index`."""
        return replace(self, messages=self.messages[: index + 1])

    def key(self) -> str:
        """Equal for equal conversations; for the hold-out."""
        return json.dumps([self.messages, self.tools], sort_keys=True)


def read_conversation(record: dict, source: Source, recipe: Recipe) -> Conversation:
    """The conversation that a record of `source` holds. Raises RecordRefusal."""
    record = rename(record, source.columns)
    check_row(record)
    messages = read_messages(record, source.format, source.field)
    if recipe.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": recipe.system}] + messages
    messages, untrained = take_flags(messages)
    options = recipe.conversations
    if options.reasoning == "drop":
        messages = drop_thoughts(messages)
    variables = options.template_kwargs | read_variables(record)
    conversation = Conversation(messages, read_tools(record), untrained, variables)
    if options.train_on == "last":
        earlier = conversation.assistant_turns[:-1]
        conversation = replace(conversation, untrained=untrained | frozenset(earlier))
    require_answers(conversation)
    return conversation


def require_answers(conversation: Conversation) -> None:
    """Raises RecordRefusal unless there are turns to be trained, and each says something."""
    if not conversation.assistant_turns:
        raise RecordRefusal("no assistant turn")
    if not conversation.trained_turns:
        raise RecordRefusal(UNTRAINED, "no assistant turn is left")
    for index in conversation.trained_turns:
        if not has_answer(conversation.messages[index]):
            raise RecordRefusal("empty answer", f"message {index}")


def has_answer(message: dict) -> bool:
    return bool(text_of(message).strip() or message.get("tool_calls"))


def read_tools(record: dict) -> list | None:
    """Tool descriptions; some data sets keep them as JSON text. An empty list stays one, since
    transformers chooses a template by whether there is a list."""
    tools = record.get("tools")
    tools = None if isinstance(tools, str) and not tools.strip() else parse_json(tools, "tools")
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
