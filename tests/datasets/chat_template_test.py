# SPDX-License-Identifier: Apache-2.0
"""Rendering against transformers' own apply_chat_template, and what the sandbox keeps out."""

import resource
from datetime import date

import pytest
import templates
from conftest import write_model
from transformers import AutoTokenizer

from temper_data.chat_template import ChatTemplate, TemplateRefusal
from temper_data.errors import DataError
from temper_data.limits import BoundedBlocks, bounded_memory
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


D, U, OTHER = "default", "for tools", "other"
NAMED = [{"name": "default", "template": D}, {"name": "tool_use", "template": U}]


@pytest.mark.parametrize(
    ("config", "files"),
    [
        (NAMED, {}),
        (NAMED[::-1] + [{"name": "rag", "template": OTHER}], {}),
        ({"default": D, "tool_use": U}, {}),
        (NAMED[1:], {}),
        ([{"name": "rag", "template": OTHER}], {}),
        ("only one", {}),
        ("hidden", {"chat_template.jinja": D, "additional_chat_templates/tool_use.jinja": U}),
        (NAMED, {"chat_template.jinja": OTHER}),
        (NAMED, {"additional_chat_templates/tool_use.jinja": OTHER}),
        (None, {"additional_chat_templates/default.jinja": D, "chat_template.jinja": OTHER}),
        (None, {"additional_chat_templates/rag.jinja": OTHER, "chat_template.jinja": D}),
    ],
)
def test_the_template_is_the_one_that_transformers_takes(tmp_path, config, files):
    folder = write_model(tmp_path / "model", chat_template=config)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    oracle, model = AutoTokenizer.from_pretrained(folder), load_model_tokenizer(folder)
    for tools in (None, [], [{"name": "f"}]):
        try:
            expected = oracle.get_chat_template(None, tools)
        except ValueError:  # None is named default.
            expected = None
        assert model.templates.get(model.template_name(tools)) == expected


@pytest.mark.parametrize(
    "config",
    [5, [5], [{"template": D}], [{"name": "default"}], {"default": 5}, "half \ud83d", "NUL \0"],
)
def test_a_template_that_is_none_is_named(tmp_path, config):
    folder = write_model(tmp_path / "model", chat_template=config)
    with pytest.raises(DataError, match="chat.template"):
        load_model_tokenizer(folder)


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


@pytest.mark.parametrize(
    "expression",
    ["'%10000000000d' % 1", "'{:10000000000d}'.format(1)", "'x'.ljust(10000000000)",
     "'x'|center(10000000000)", "(['x' * 9999999] * 9999) | join"],
)  # fmt: skip
def test_a_process_with_limits_survives_any_amount_of_memory(expression):
    with bounded_memory(1 << 28), pytest.raises(TemplateRefusal, match="MemoryError"):
        ChatTemplate(f"{{{{ {expression} }}}}", {}).render([], None, False)


def test_each_of_many_blocks_has_its_limit():
    """Which none of them reaches beyond, and which counts what came between from `renew` on."""
    blocks, before = BoundedBlocks(1 << 28), resource.getrlimit(resource.RLIMIT_AS)
    for _ in range(3):
        with blocks:
            assert len(bytearray(1 << 26)) == 1 << 26
        with blocks, pytest.raises(MemoryError):
            bytearray(1 << 29)
        assert resource.getrlimit(resource.RLIMIT_AS) == before
    kept = bytearray(1 << 28)
    with blocks, pytest.raises(MemoryError):
        bytearray(1 << 26)
    blocks.renew()
    with blocks:
        assert len(kept) > len(bytearray(1 << 26))


@pytest.mark.parametrize(
    "source",
    ["{% for %}", "{% break %}", "{{ " + "(" * 5000 + ")" * 5000 + " }}",
     "{{ a." + "b." * 9000 + "c }}",
     "{% for a in b %}" * 30 + "{% endfor %}" * 30, "{% if a %}" * 400 + "{% endif %}" * 400],
)  # fmt: skip
def test_a_template_that_does_not_compile_is_an_error(source):
    with pytest.raises(DataError, match="does not compile") as caught:
        ChatTemplate(source, {})
    assert "try: check chat_template.jinja" in str(caught.value)
