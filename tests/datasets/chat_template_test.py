# SPDX-License-Identifier: Apache-2.0
"""Rendering against transformers' own apply_chat_template, and what the sandbox keeps out."""

from datetime import date

import pytest
import templates
from conftest import write_model
from transformers import AutoTokenizer

from temper_data.chat_template import ChatTemplate, TemplateRefusal
from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer

PLAIN = [
    {"role": "system", "content": "Be brief. "},
    {"role": "user", "content": "  Grüße <b>&amp;</b> \"quoted\" 👩‍🚀\r\n"},
    {"role": "assistant", "content": "Hello\n\n"},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "Two </think>", "reasoning": "because", "name": None},
]
CALLS = [
    {"role": "user", "content": [{"type": "text", "text": "a<b"}, {"type": "image"}]},
    {"role": "skip", "content": "not shown"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": {"x": "é<>"}}}],
    },
    {"role": "tool", "content": "1"},
    {"role": "assistant", "content": "One."},
]
TOOL = [{"type": "function", "function": {"name": "f", "description": "d'é<>&"}}]
CASES = [
    ("CHATML", PLAIN, None),
    ("LLAMA3", PLAIN, None),
    ("MISTRAL", PLAIN, None),
    ("GENERATION", PLAIN, None),
    ("COUNTED_GENERATION", PLAIN[:3], None),
    ("THINKING", PLAIN, None),
    ("TOOLS", PLAIN, None),
    ("TOOLS", CALLS, TOOL),
]


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize(("name", "messages", "tools"), CASES)
def test_text_and_ids_equal_transformers(tmp_path, name, messages, tools, prompt):
    folder = write_model(tmp_path / "model", getattr(templates, name))
    oracle = AutoTokenizer.from_pretrained(folder)
    model = load_model_tokenizer(folder)
    template = ChatTemplate(model.chat_template, model.named_tokens)
    options = {"tools": tools, "add_generation_prompt": prompt}
    expected = oracle.apply_chat_template(messages, tokenize=False, **options)
    text = template.render(messages, tools, prompt)
    assert text == expected
    ids = oracle.apply_chat_template(messages, return_dict=False, **options)
    assert model.tokenizer.encode(text, add_special_tokens=False).ids == ids


def test_the_file_goes_before_the_configuration(tmp_path):
    folder = write_model(tmp_path / "model", chat_template="from the configuration")
    assert load_model_tokenizer(folder).chat_template == "from the configuration"
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    write_model(folder, chat_template=named)
    assert load_model_tokenizer(folder).chat_template == "plain"
    (folder / "chat_template.jinja").write_text("from the file")
    assert load_model_tokenizer(folder).chat_template == "from the file"
    assert AutoTokenizer.from_pretrained(folder).chat_template == "from the file"


def test_the_day_is_the_recipes():
    text = ChatTemplate(templates.DATED, {}, date(2024, 7, 26)).render([], None, False)
    assert text == "26 Jul 2024\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{{ 'x' * 10**9 }}", "repeats a value"),
        ("{{ 10**9 * [1] }}", "repeats a value"),
        ("{{ 10 ** (10 ** 9) }}", "exponent"),
        ("{{ namespace(__init__=1) }}", "must not hold"),
        ("{{ raise_exception('only in pairs') }}", "only in pairs"),
        ("{{ undefined_name.attribute }}", "undefined_name"),
        ("{{ messages[0]['content'] + 1 }}", "TypeError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_a_hostile_or_failing_template_is_refused(source, says):
    with pytest.raises(TemplateRefusal, match=says):
        ChatTemplate(source, {}).render([{"role": "user", "content": "x"}], None, False)


def test_a_template_that_does_not_compile_is_an_error():
    with pytest.raises(DataError, match="does not compile") as caught:
        ChatTemplate("{% for %}", {})
    assert "try: check chat_template.jinja" in str(caught.value)
