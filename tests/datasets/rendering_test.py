# SPDX-License-Identifier: Apache-2.0
"""How conversations are rendered: thoughts, variables, content, tool calls, templates by name."""

import json
import shutil

import pytest
import templates
from conftest import ROOT, write_model
from prepared import END, ONE, PLAIN, A, B, Q, chatml, made, refusal
from shard_reader import Shard
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer

from temper_data.model_tokenizer import load_model_tokenizer

THINKS = {"role": "assistant", "content": "A", "reasoning_content": "why"}
TAGGED = {"role": "assistant", "content": "<think>\nwhy\n</think>\n\nA"}
NO_THOUGHT, THOUGHT = "<think>\n\n</think>\n\nA", "<think>\nwhy\n</think>\n\nA"


@pytest.mark.parametrize(
    ("template", "choice", "messages", "answers"),
    [
        ("CHATML", "as_rendered", [Q, THINKS], ["A"]),
        ("CHATML", "as_rendered", [Q, TAGGED], [THOUGHT]),
        ("CHATML", "drop", [Q, THINKS, Q, TAGGED], ["A", "A"]),
        ("CHATML", "keep", [Q, THINKS, Q, TAGGED, Q, A], [THOUGHT, THOUGHT, "A"]),
        ("THINKING", "as_rendered", [Q, THINKS, Q, THINKS], ["A", THOUGHT]),
        ("THINKING", "drop", [Q, THINKS], [NO_THOUGHT]),
        ("THINKING", "keep", [Q, THINKS], [THOUGHT]),
        ("THINKING", "keep", [Q, A, Q, THINKS], ["A", THOUGHT]),
        ("THINKING", "keep", [Q, THINKS, Q, THINKS], "leaves out that of message 1: set train_on"),
        ("CHATML", "drop", [Q, {"role": "assistant", "content": "<think>why"}], "empty answer"),
    ],
)
def test_thoughts_are_kept_or_dropped(tmp_path, template, choice, messages, answers):
    recipe, source = ONE + f"reasoning: {choice}\n", getattr(templates, template)
    write_model(tmp_path / "model", source)
    if isinstance(answers, str):
        assert answers in refusal(tmp_path, [{"messages": messages}], recipe)
        return
    found, learnt, _ = made(tmp_path, [{"messages": messages}], recipe)
    assert found == ["".join(PLAIN.replace("\nA<", f"\n{said}<") for said in answers)]
    assert learnt == ["".join(said + END for said in answers)]


def test_variables_of_recipe_and_row_reach_the_template(tmp_path):
    source = "{{ [thinking, level, names] }}\n" + templates.CHATML
    recipe = ONE + "template_kwargs: {thinking: false, level: 2, names: [a]}\n"
    own = {"messages": [Q, A], "chat_template_kwargs": {"level": 3}}
    made(tmp_path, [{"messages": [Q, A]}, own], recipe, source)
    oracle = AutoTokenizer.from_pretrained(tmp_path / "model")
    for ids, level in zip(Shard(tmp_path / "out" / "train.h5").documents(), (2, 3), strict=True):
        values = {"thinking": False, "level": level, "names": ["a"]}
        expected = oracle.apply_chat_template([Q, A], return_dict=False, **values)
        assert list(ids) == expected


def with_tokens(folder, *tokens):
    write_model(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in tokens])
    tokenizer.save(str(folder / "tokenizer.json"))


S = {"role": "system", "content": "S"}
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\nQ\n\n### Response:\nA</s>\n\n"
)
HEAD, TAIL = "<|start_header_id|>", "<|end_header_id|>\n\n"


@pytest.mark.parametrize(
    ("name", "text", "end"),
    [
        ("chatml", chatml(("system", "S")) + PLAIN * 2, END),
        ("llama3", f"<s>{HEAD}system{TAIL}S<|eot_id|>"
         + f"{HEAD}user{TAIL}Q<|eot_id|>{HEAD}assistant{TAIL}A<|eot_id|>" * 2, "<|eot_id|>"),
        ("mistral", "<s>[INST] S\n\nQ[/INST] A</s>[INST] Q[/INST] A</s>", "</s>"),
        ("gemma", "<s><start_of_turn>user\nS\n\nQ<end_of_turn>\n<start_of_turn>model\nA"
         "<end_of_turn>\n<start_of_turn>user\nQ<end_of_turn>\n<start_of_turn>model\nA"
         "<end_of_turn>\n", "<end_of_turn>"),
        ("alpaca", "<s>S\n\n" + ALPACA[ALPACA.index("###") :] * 2, "</s>"),
    ],
)  # fmt: skip
def test_templates_by_name(tmp_path, name, text, end):
    with_tokens(tmp_path / "model", "<start_of_turn>", "<end_of_turn>")
    rows = [{"messages": [S, Q, A, Q, A]}, {"messages": [Q, A, Q, A]}]
    found, learnt, _ = made(tmp_path, rows, ONE + f"chat_template: {name}\n")
    assert found[0] == text
    space = " " * (name == "mistral")  # It stands between the question's end and the answer.
    assert learnt == [f"{space}A{end}" * 2] * 2
    shard = Shard(tmp_path / "out" / "train.h5")
    source = (ROOT / f"datasets/temper_data/templates/{name}.jinja").read_text()
    assert shard["chat_template"] == source
    oracle = AutoTokenizer.from_pretrained(tmp_path / "model")
    for row, ids in zip(rows, shard.documents(), strict=True):
        options = {"chat_template": source, "return_dict": False}
        assert list(ids) == oracle.apply_chat_template(row["messages"], **options)
    tokenizer = load_model_tokenizer(tmp_path / "model").tokenizer
    assert shard["end_of_turn_id"] == tokenizer.token_to_id(end)


def test_alpaca_introduces_itself_without_a_system_message(tmp_path):
    rows = [{"instruction": "Q", "input": "", "output": "A"}]
    write_model(tmp_path / "model", bos_token=None)
    found, learnt, _ = made(tmp_path, rows, ONE + "chat_template: alpaca\n")
    assert found == [ALPACA] and learnt == ["A</s>"]


def test_a_template_that_does_not_fit_the_tokenizer_is_refused(tmp_path, smollm2):
    shutil.copytree(smollm2, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    rows = [{"messages": [Q, A]}]
    found = refusal(tmp_path, rows, ONE + "chat_template: llama3\n")
    assert "which writes <|start_header_id|>, <|end_header_id|>, <|eot_id|>, and" in found
    assert "set chat_template in the recipe to chatml or alpaca, which fit" in found
    (tmp_path / "model" / "chat_template.jinja").unlink()
    assert "or set chat_template in the recipe to chatml or alpaca" in refusal(tmp_path, rows)
    found = refusal(tmp_path, rows, ONE + "chat_template: chatlm\n")
    assert "chat_template is chatlm, which is no file" in found and "one of: chatml" in found
    (tmp_path / "empty.jinja").write_text(" \n")
    found = refusal(tmp_path, rows, ONE + "chat_template: '{tmp}/empty.jinja'\n")
    assert "empty.jinja is empty" in found
    made(tmp_path, rows, ONE + "chat_template: chatml\n")


def test_a_mark_that_is_no_special_token_does_not_do(tmp_path):
    path = write_model(tmp_path / "model") / "tokenizer.json"
    settings = json.loads(path.read_text())
    next(t for t in settings["added_tokens"] if t["content"] == END)["special"] = False
    path.write_text(json.dumps(settings))
    found = refusal(tmp_path, [{"messages": [Q, A]}], ONE + "chat_template: chatml\n")
    assert f"writes {END}, and the tokenizer has no such special token" in found


def test_a_template_file_takes_the_place_of_all_of_the_models(tmp_path):
    listed = [{"name": "default", "template": "x"}, {"name": "tool_use", "template": "y"}]
    write_model(tmp_path / "model", chat_template=listed)
    (tmp_path / "own.jinja").write_text(templates.CHATML)
    rows = [{"messages": [Q, A]}, {"messages": [Q, B], "tools": [{"name": "f"}]}]
    recipe = ONE + "chat_template: '{tmp}/own.jinja'\n"
    found, _, report = made(tmp_path, rows, recipe)
    assert found == [PLAIN, PLAIN.replace("A<", "B<")]
    note = f"rendered by {tmp_path}/own.jinja, not by the model's own chat template: set"
    assert note in report["notes"][0]
    write_model(tmp_path / "model", templates.CHATML, chat_template=None)
    assert not any("own.jinja" in note for note in made(tmp_path, rows, recipe)[2]["notes"])
    assert Shard(tmp_path / "out" / "train.h5")["chat_template"] == templates.CHATML


PARTS_ONLY = templates.CHATML.replace(
    "message['content']",
    "(message['content'] | selectattr('type', 'equalto', 'text') | map(attribute='text') | join)",
)


@pytest.mark.parametrize(
    ("template", "form"),
    [("CHATML", "text"), ("TOOLS", "given"), ("PARTS_ONLY", "parts")],
)
def test_content_is_text_or_parts_as_the_template_reads_it(tmp_path, template, form):
    source = PARTS_ONLY if template == "PARTS_ONLY" else getattr(templates, template)
    parts = [{"type": "text", "text": "  Two"}, {"type": "text", "text": " parts"}]
    image = [Q | {"content": [{"type": "image_url", "image_url": {}}]}, A]
    odd = [Q | {"content": [{"type": "thinking", "text": "x"}]}, A]
    rows = [[Q | {"content": parts}, A], [Q, A | {"content": parts}]]
    given = [{"messages": messages} for messages in [*rows, image, odd]]
    found, learnt, report = made(tmp_path, given, ONE, source)
    assert learnt == ["A" + END, "  Two parts" + END]
    assert report["dropped"] == {"content that is no text": 2}
    oracle = AutoTokenizer.from_pretrained(tmp_path / "model")
    for messages, ids in zip(rows, Shard(tmp_path / "out" / "train.h5").documents(), strict=True):
        whole = [dict(m, content=text(m["content"])) for m in messages]
        each = [dict(m, content=[{"type": "text", "text": m["content"]}]) for m in whole]
        expected = {"text": whole, "given": messages, "parts": each}[form]
        assert list(ids) == oracle.apply_chat_template(expected, return_dict=False)


def text(content) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def calling(written: str) -> str:
    """A template that writes tool calls in its family's manner."""
    return (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content or '') }}"
        "{% for call in m.tool_calls or [] %}{{ '[INST]' + call.function.name + ' ' }}"
        + written
        + "{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )


ARGUMENTS = "call.function.arguments"
FAMILIES = {  # Qwen 2.5 and Llama 3.1; DeepSeek V3; Qwen 3; GLM 4.5
    "object": calling(f"{{{{ {ARGUMENTS} | tojson }}}}"),
    "text": calling(f"{{{{ '```json\\n' + {ARGUMENTS} + '```' }}}}"),
    "given": calling(
        f"{{% if {ARGUMENTS} is string %}}{{{{ {ARGUMENTS} }}}}"
        f"{{% else %}}{{{{ {ARGUMENTS} | tojson(indent=1) }}}}{{% endif %}}"
    ),
    "items": calling(f"{{% for k, v in {ARGUMENTS}.items() %}}{{{{ k ~ '=' ~ v }}}}{{% endfor %}}"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_arguments_of_tool_calls_are_json_or_an_object_as_the_template_reads_them(tmp_path, family):
    values, written = {"x": [1, "é"]}, '{"x": [1,"é"]}'  # Not as any program here would write it.

    def messages(arguments, flat=False):
        function = {"name": "f", "arguments": arguments}
        call = function if flat else {"type": "function", "function": function}
        return [Q, {"role": "assistant", "content": None, "tool_calls": [call]}]

    rows = [messages(written), messages(values), messages(values, flat=True), messages("[1]")]
    rows[2] = [rows[2][0], rows[2][1] | {"tool_calls": json.dumps(rows[2][1]["tool_calls"])}]
    recipe = ONE + "deduplicate: false\n"
    found, _, report = made(tmp_path, [{"messages": m} for m in rows], recipe, FAMILIES[family])
    dumped = json.dumps(values, ensure_ascii=False)
    expected = {
        "object": [values] * 3, "items": [values] * 3, "text": [written, dumped, dumped, "[1]"],
        "given": [written, values, values, "[1]"],
    }[family]  # fmt: skip
    oracle = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = [list(document) for document in Shard(tmp_path / "out" / "train.h5").documents()]
    assert ids == [oracle.apply_chat_template(messages(e), return_dict=False) for e in expected]
    refused = report["examples"].get("refused by the chat template", [])
    assert len(refused) == (len(expected) == 3)
    assert all("are no JSON object" in line for line in refused)


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        ("f(1)", "tool_calls of message 1 is no JSON"),
        ({"name": "f"}, "tool_calls of message 1 is no list"),
        ([{"arguments": {}}], "a tool call of message 1 has no name"),
        ([{"function": {"name": "f", "arguments": [1]}}], "neither JSON text nor an object"),
    ],
)
def test_tool_calls_that_are_none_are_refused(tmp_path, calls, says):
    assert says in refusal(tmp_path, [{"messages": [Q, A | {"tool_calls": calls}]}])
