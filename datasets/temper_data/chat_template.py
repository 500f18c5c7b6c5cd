# SPDX-License-Identifier: Apache-2.0
"""Renders conversations with a model's own Jinja template, as transformers does, in a sandbox."""

import json
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import DataError, printable
from .limits import bounded_memory
from .reasoning import FIELDS as REASONING_FIELDS
from .template_wants import TemplateWants

REASONING = frozenset(REASONING_FIELDS)
GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")
MAX_REPEATED = 10_000_000  # characters or items that `*` may make; arbitrary, far above need
MAX_EXPONENT = 1000  # arbitrary
COMPILE_BYTES = 1 << 30  # memory for compiling a template, which computes its constants; arbitrary


class TemplateRefusal(Exception):
    """The template failed on, or refused, one conversation. The text says why."""


class GenerationTag(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`: notes which characters the assistant writes."""

    tags = {"generation"}

    def __init__(self, environment: jinja2.Environment):
        super().__init__(environment)
        environment.extend(rendered_blocks=[], generation_spans=[])

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_note_span")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _note_span(self, caller: Callable[[], str]) -> str:
        text = caller()
        begin = sum(len(block) for block in self.environment.rendered_blocks)
        self.environment.generation_spans.append((begin, begin + len(text)))
        return text


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with a clear message where a short expression asks for gigabytes.

    Other ways to the same end are stopped by the limits of the process that renders.
    """

    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and abs(right) > MAX_EXPONENT:
            raise jinja2.exceptions.SecurityError(f"exponent {right} is too large")
        for value, count in ((left, right), (right, left)):
            if operator == "*" and isinstance(value, (str, list, tuple)):
                if len(value) * count > MAX_REPEATED:
                    raise jinja2.exceptions.SecurityError(f"repeats a value {count} times")
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if type(obj) is jinja2.runtime.LoopContext:  # What Jinja says too, after much longer.
            return not attr.startswith("_")
        return super().is_safe_attribute(obj, attr, value)


class SafeNamespace(jinja2.utils.Namespace):
    """`namespace()` without names that lead into Python's internals."""

    def __init__(*args, **values):  # No named self: `namespace(self=1)` is legal.
        self, *rest = args
        names = dict(*rest, **values)
        for name in names:
            SafeNamespace.check(name)
        jinja2.utils.Namespace.__init__(self, names)

    def __setitem__(self, name: str, value: Any) -> None:
        SafeNamespace.check(name)
        super().__setitem__(name, value)

    @staticmethod
    def check(name: str) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"namespace must not hold {name!r}")


def raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    """Plain JSON: Jinja's own filter would escape HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


class ChatTemplate:
    """One compiled template with the special tokens it may name.

    `today` is what strftime_now() tells, so that equal input gives equal text on any day; None
    stands for the real clock.
    """

    def __init__(self, source: str, named_tokens: dict[str, str], today: date | None = None):
        self.source = source
        self.named_tokens = named_tokens
        self.marks_generation = GENERATION_TAG.search(source) is not None
        self._environment = BoundedSandbox(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[GenerationTag, jinja2.ext.loopcontrols],
        )
        self._environment.filters["tojson"] = to_json
        self._environment.globals["raise_exception"] = raise_exception
        self._environment.globals["strftime_now"] = lambda form: clock(today).strftime(form)
        self._environment.globals["namespace"] = SafeNamespace
        self._template = self._compile()
        self._given = dict(self._template.globals) | named_tokens
        self.wants = TemplateWants(self._probe)

    def _compile(self) -> jinja2.Template:
        """Raises DataError. Jinja hands its translation to Python, whose errors come through."""
        try:
            with bounded_memory(COMPILE_BYTES):
                return self._environment.from_string(self.source)
        except (jinja2.TemplateError, SyntaxError, ValueError) as error:
            problem = printable(f"{error}")
        except (RecursionError, MemoryError, OverflowError) as error:
            problem = f"{type(error).__name__}, it is nested too deeply or computes too much"
        raise DataError(
            f"the chat template does not compile: {problem}",
            "check chat_template.jinja of the model folder against the original",
        )

    def render(
        self,
        messages: list[dict],
        tools: list | None,
        generation_prompt: bool,
        variables: dict | None = None,
    ) -> str:
        """The conversation as text, with `variables` of its own. Raises TemplateRefusal."""
        return self.render_adapted(self.adapt(messages), tools, generation_prompt, variables)

    def adapt(self, messages: list[dict]) -> list[dict]:
        """Messages as the template reads them, which costs as much as rendering them."""
        try:
            return [self.wants.adapt(with_reasoning(message)) for message in messages]
        except (ValueError, RecursionError) as error:
            raise TemplateRefusal(f"{error}") from None

    def render_adapted(
        self,
        messages: list[dict],
        tools: list | None,
        generation_prompt: bool,
        variables: dict | None = None,
    ) -> str:
        """As `render`, of messages that were adapted before."""
        return self._generate(messages, tools, generation_prompt, variables or {})

    def _probe(self, messages: list[dict], tools: list | None) -> str | None:
        """A small conversation as text; None if the template refuses it."""
        try:
            return self._generate(messages, tools, False, {})
        except TemplateRefusal:
            return None

    def _generate(self, messages, tools, generation_prompt: bool, variables: dict) -> str:
        values = {
            **self._given, **variables, "messages": messages, "tools": tools,
            "add_generation_prompt": generation_prompt, "documents": None,
        }  # fmt: skip
        blocks = self._environment.rendered_blocks
        blocks.clear()
        self._environment.generation_spans.clear()
        try:
            # What Jinja's render() does, less two copies of the values.
            context = self._template.new_context(values, shared=True)
            made = self._template.root_render_func(context)
            if not self.marks_generation:
                return "".join(made)
            for block in made:
                blocks.append(block)
            return "".join(blocks)
        except (jinja2.TemplateError, RecursionError) as error:
            raise TemplateRefusal(f"{error}") from None
        except Exception as error:  # Of whatever Python function the template calls.
            raise TemplateRefusal(f"{type(error).__name__}: {error}") from None

    def generation_spans(self) -> list[tuple[int, int]]:
        """Character ranges inside generation tags in the text rendered last."""
        return list(self._environment.generation_spans)


def clock(today: date | None) -> datetime:
    return datetime.now() if today is None else datetime(today.year, today.month, today.day)


def with_reasoning(message: dict) -> dict:
    """Copies reasoning to the names that templates read; drops keys without a value."""
    if None not in message.values() and REASONING.isdisjoint(message):
        return message
    message = {key: value for key, value in message.items() if value is not None}
    given = [message[key] for key in REASONING_FIELDS if key in message]
    if given:
        message = {"thinking": given[0], **message, "reasoning_content": given[0]}
    return message
