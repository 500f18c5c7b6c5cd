# SPDX-License-Identifier: Apache-2.0
"""The recipe's keys that say how conversations are rendered and what of them is learnt."""

import json
from dataclasses import dataclass, field

from .section import INTEGER, NUMBER, Section
from .yaml_tree import Listing, Mapping, Scalar

# What transformers passes by itself; neither a recipe nor a record can set it.
OWN_VARIABLES = ("messages", "tools", "documents", "add_generation_prompt", "chat_template")
KEYS = ("train_on", "reasoning", "template_kwargs", "chat_template")
WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True)
class ConversationOptions:
    """How conversations become text, and which answers are targets."""

    train_on: str = "all"  # assistant messages: "all", or only the "last" of each conversation
    reasoning: str = "as_rendered"  # by the template; "keep": always; "drop": never
    template_kwargs: dict = field(default_factory=dict)  # variables of the template
    chat_template: str = ""  # a well-known name or a file; "": the model's own


def parse_conversation_options(section: Section, kind: str) -> ConversationOptions:
    variables = section.section("template_kwargs")
    for name in variables.tree.items:
        if name in OWN_VARIABLES:
            variables.reject(name, "is set by the program", "remove it")
    options = ConversationOptions(
        train_on=section.text("train_on", "all", ("all", "last")),
        reasoning=section.text("reasoning", "as_rendered", ("as_rendered", "keep", "drop")),
        template_kwargs={name: to_value(node) for name, node in variables.tree.items.items()},
        chat_template=section.path("chat_template") if section.has("chat_template") else "",
    )
    section.known.append("chat_template")
    if not is_json(options.template_kwargs):
        section.reject("template_kwargs", "holds what JSON cannot hold", "use finite numbers, text")
    for key in KEYS:
        if kind == "pretrain" and section.has(key):
            section.reject(key, "is for kind sft", "remove it")
    return options


def to_value(node):
    """The value that YAML's core schema gives; only what it leaves no doubt about is no text."""
    if isinstance(node, Mapping):
        return {key: to_value(item) for key, item in node.items.items()}
    if isinstance(node, Listing):
        return [to_value(item) for item in node.items]
    assert isinstance(node, Scalar)
    if node.quoted:
        return node.text
    if node.text in WORDS:
        return WORDS[node.text]
    if INTEGER.fullmatch(node.text):
        return int(node.text)
    return float(node.text) if NUMBER.fullmatch(node.text) else node.text


def is_json(value: dict) -> bool:
    """Whether a shard can hold the value: no half surrogate pairs, no infinity."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
        return True
    except ValueError:
        return False
