# SPDX-License-Identifier: Apache-2.0
"""Which tokens are targets: by hand-made spans, and against transformers' assistant masks."""

import json

import pytest
import templates
from conftest import write_model
from transformers import AutoTokenizer

from temper_data.chat_template import ChatTemplate
from temper_data.conversations import Conversation, RecordRefusal
from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.target_mask import mask_tokens, render_with_spans

SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "First answer."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Second answer."},
]


def make_mask(folder, messages, tools=None):
    """(ids, mask, text of the targets with | between runs) of a conversation."""
    model = load_model_tokenizer(folder)
    template = ChatTemplate(model.chat_template, model.named_tokens)
    text, spans = render_with_spans(template, Conversation(messages, tools))
    encoding = model.tokenizer.encode(text, add_special_tokens=False)
    mask = mask_tokens(encoding.ids, encoding.offsets, text, spans, model.special_ids())
    runs, before = [], 0
    for index, (token, target) in enumerate(zip(encoding.ids, mask, strict=True)):
        if target and not before:
            runs.append([])
        if target:
            runs[-1].append(token)
        before = mask[index]
    shown = "|".join(model.tokenizer.decode(run, skip_special_tokens=False) for run in runs)
    return encoding.ids, mask.tolist(), shown


CHATML_TARGETS = "First answer.<|im_end|>|Second answer.<|im_end|>"


@pytest.mark.parametrize(
    ("name", "messages", "targets"),
    [
        ("CHATML", TURNS, CHATML_TARGETS),
        ("CHATML", [SYSTEM, *TURNS], CHATML_TARGETS),
        ("LLAMA3", [SYSTEM, *TURNS], "First answer.<|eot_id|>|Second answer.<|eot_id|>"),
        ("MISTRAL", TURNS, " First answer.</s>| Second answer.</s>"),
        # What precedes the first answer renders otherwise: another answer shows the borders.
        ("MISTRAL", [SYSTEM, *TURNS], "First answer.</s>| Second answer.</s>"),
        ("GENERATION", [SYSTEM, *TURNS], CHATML_TARGETS),
        ("COUNTED_GENERATION", TURNS, CHATML_TARGETS),
        ("THINKING", TURNS,
         "First answer.<|im_end|>|<think>\n\n</think>\n\nSecond answer.<|im_end|>"),
        # Consecutive answers and an answer before any question.
        ("CHATML", [TURNS[1], TURNS[0], TURNS[3], TURNS[3]],
         "First answer.<|im_end|>|Second answer.<|im_end|>|Second answer.<|im_end|>"),
        # An answer that is repeated by the user is a target once.
        ("CHATML", [TURNS[0], {"role": "assistant", "content": "One?"}], "One?<|im_end|>"),
    ],
)  # fmt: skip
def test_targets_are_the_answers_with_their_end(tmp_path, name, messages, targets):
    folder = write_model(tmp_path / "model", getattr(templates, name))
    assert make_mask(folder, messages)[2] == targets


def test_thoughts_of_earlier_turns_are_no_targets_when_the_template_drops_them(tmp_path):
    folder = write_model(tmp_path / "model", templates.THINKING)
    turns = [dict(turn) for turn in TURNS]
    turns[1]["content"] = "<think>secret</think>\n\nFirst answer."
    turns[3]["reasoning_content"] = "thought"
    shown = make_mask(folder, turns)[2]
    assert shown == (
        "First answer.<|im_end|>|<think>\nthought\n</think>\n\nSecond answer.<|im_end|>"
    )


def test_tool_calls_are_targets_and_tool_results_are_not(tmp_path):
    folder = write_model(tmp_path / "model", templates.TOOLS)
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    messages = [TURNS[0], call, {"role": "tool", "content": "42"}, TURNS[3]]
    shown = make_mask(folder, messages, [{"name": "f"}])[2]
    body = json.dumps(call["tool_calls"][0]["function"])
    assert body + "<|im_end|>" in shown and shown.endswith("Second answer.<|im_end|>")
    assert "42" not in shown


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("SUMMED", "changes the text of other messages"),
        ("TWICE", "is rendered 2 times"),
        ("REVERSED", "message 3 adds no text after the one before"),
    ],
)
def test_a_template_without_visible_turns_is_refused(tmp_path, name, says):
    source = "{{ messages | length }}" + getattr(templates, name)  # No prefix fits.
    folder = write_model(tmp_path / "model", source)
    with pytest.raises(RecordRefusal) as caught:
        make_mask(folder, TURNS)
    assert "template does not show the assistant's turns" in caught.value.reason
    assert says in caught.value.detail


@pytest.mark.parametrize("name", ["GENERATION", "COUNTED_GENERATION"])
def test_masks_equal_transformers_on_real_tokens(smollm2, tmp_path, name):
    source = getattr(templates, name)
    oracle = AutoTokenizer.from_pretrained(smollm2)
    model = load_model_tokenizer(smollm2)
    template = ChatTemplate(source, model.named_tokens)
    contents = ["Hi", " leading space", "emoji 👩‍🚀 end", "1234\r\n", "ends in newline\n", "日本"]
    for content in contents:
        messages = [TURNS[0], {"role": "assistant", "content": content}, *TURNS[2:]]
        expected = oracle.apply_chat_template(
            messages, chat_template=source, return_assistant_tokens_mask=True, return_dict=True
        )
        text, spans = render_with_spans(template, Conversation(messages))
        encoding = model.tokenizer.encode(text, add_special_tokens=False)
        mask = mask_tokens(encoding.ids, encoding.offsets, text, spans, model.special_ids())
        assert encoding.ids == expected["input_ids"]
        assert mask.tolist() == expected["assistant_masks"], content


def test_the_real_templates_prompt_is_never_a_target(smollm2):
    ids, mask, shown = make_mask(smollm2, TURNS)
    assert shown == CHATML_TARGETS
    oracle = AutoTokenizer.from_pretrained(smollm2)
    assert ids == oracle.apply_chat_template(TURNS, return_dict=False)
    prompt = oracle.apply_chat_template(TURNS[:3], add_generation_prompt=True, return_dict=False)
    assert ids[: len(prompt)] == prompt and sum(mask[len(prompt) :]) == len(mask) - len(prompt) - 1


def test_a_token_across_a_border_is_a_target_and_the_first_token_never():
    offsets = [(0, 2), (2, 5), (5, 6), (6, 8), (8, 9)]
    ids = [10, 11, 12, 13, 14]

    def mask(spans, text="abcdefghi"):
        return mask_tokens(ids, offsets, text, spans, {13}).tolist()

    assert mask([(3, 6)]) == [0, 1, 1, 0, 0]
    assert mask([(0, 9)]) == [0, 1, 1, 1, 1]
    assert mask([(5, 9)], "abcdefgh\n") == [0, 0, 1, 1, 0]  # blank after the special token 13
    assert mask([(5, 6), (6, 9)], "abcdefghi") == [0, 0, 1, 1, 1]
    assert mask([]) == [0, 0, 0, 0, 0]
