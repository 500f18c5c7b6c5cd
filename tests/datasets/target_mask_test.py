# SPDX-License-Identifier: Apache-2.0
"""Which tokens are targets: by hand-made spans, and against transformers' assistant masks."""

import json
import shutil

import pytest
import templates
from conftest import byte_tokenizer, write_model
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from temper_data.conversations import Conversation
from temper_data.documents import DocumentMaker
from temper_data.errors import RecordRefusal
from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.piece_encoder import PieceEncoder, TokensOfHeadAndRest, find_marks
from temper_data.recipe import load_recipe
from temper_data.target_mask import NO_END, TEXT_END, Turn, mask_tokens

SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "First answer."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Second answer."},
]


RECIPE = "kind: sft\nmodel: {}\noutput: o\nsources:\n  - path: a.jsonl\n"


def make_document(folder, conversation):
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(folder))
    model = load_model_tokenizer(folder)
    return model, DocumentMaker(load_recipe(path, []), model).encode_conversation(conversation)


def make_mask(folder, messages, tools=None, untrained=()):
    """(ids, mask, text of the targets with | between runs) of a conversation."""
    conversation = Conversation(messages, tools, frozenset(untrained))
    model, document = make_document(folder, conversation)
    runs, before = [], 0
    for token, target in zip(document.ids.tolist(), document.mask, strict=True):
        if target and not before:
            runs.append([])
        if target:
            runs[-1].append(token)
        before = target
    shown = "|".join(model.tokenizer.decode(run, skip_special_tokens=False) for run in runs)
    return document.ids.tolist(), document.mask.tolist(), shown


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


@pytest.mark.parametrize(
    ("name", "targets", "ends"),
    [
        ("CHATML", CHATML_TARGETS, ["<|im_end|>"] * 2),
        ("MISTRAL", " First answer.</s>| Second answer.</s>", ["</s>"] * 2),
        ("NEXT_MARK", "First answer.<|im_end|>|Second answer.", ["<|im_end|>", NO_END]),
        ("HEADER_MARK", "First answer.[INST]|Second answer.", ["[INST]", NO_END]),
        ("TEXT_MARK", "First answer.\n[end]\n|Second answer.\n[end]\n", [TEXT_END] * 2),
        ("NEXT_TEXT_MARK", "First answer.\n##|Second answer.", [TEXT_END, NO_END]),
        ("NO_MARK", "First answer.\n\n|Second answer.\n\n", [NO_END] * 2),
        ("TAGGED_CONTENT", CHATML_TARGETS, ["<|im_end|>"] * 2),
    ],
)
def test_the_mark_that_ends_a_turn_is_a_target_wherever_it_is(tmp_path, name, targets, ends):
    folder = write_model(tmp_path / "model", getattr(templates, name))
    assert make_mask(folder, TURNS)[2] == targets
    model, document = make_document(folder, Conversation(TURNS))
    token = model.tokenizer.token_to_id
    assert document.turn_ends == [token(end) if isinstance(end, str) else end for end in ends]
    oracle = AutoTokenizer.from_pretrained(folder)
    assert document.ids.tolist() == oracle.apply_chat_template(TURNS, return_dict=False)


def test_a_beginning_token_of_the_next_message_is_no_mark(tmp_path):
    source = templates.NO_MARK.replace("'### Instruction", "bos_token + '### Instruction")
    folder = write_model(tmp_path / "model", source)
    assert make_mask(folder, TURNS)[2] == "First answer.\n\n|Second answer.\n\n"


def test_a_tool_call_without_text_ends_with_its_own_mark(tmp_path):
    folder = write_model(tmp_path / "model", templates.TOOLS)
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    messages = [TURNS[0], call, {"role": "tool", "content": "42"}, TURNS[3]]
    model, document = make_document(folder, Conversation(messages, [{"name": "f"}]))
    assert document.turn_ends == [model.tokenizer.token_to_id("<|im_end|>")] * 2


@pytest.mark.parametrize("name", ["CHATML", "NEXT_MARK", "COUNTED_GENERATION", "MISTRAL"])
def test_turns_that_are_only_context_are_no_targets(tmp_path, name):
    folder = write_model(tmp_path / "model", getattr(templates, name))
    ids, mask, shown = make_mask(folder, TURNS)
    kept_ids, kept_mask, kept = make_mask(folder, TURNS, untrained=[1])
    assert kept_ids == ids and shown.endswith("|" + kept) and "First" not in kept
    assert kept_mask == [0] * kept_mask.index(1) + mask[kept_mask.index(1) :]


def test_tags_that_do_not_match_the_turns_cannot_leave_one_out(tmp_path):
    source = templates.COUNTED_GENERATION.replace(
        "{{- message['content'] + '<|im_end|>' }}",
        "{{- message['content'] }}{% endgeneration %}{% generation %}{{- '<|im_end|>' }}",
    )
    folder = write_model(tmp_path / "model", source)
    assert make_mask(folder, TURNS)[2] == CHATML_TARGETS
    with pytest.raises(RecordRefusal) as caught:
        make_mask(folder, TURNS, untrained=[1])
    assert "4 generation tags" in caught.value.detail


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
    folder = tmp_path / "model"
    shutil.copytree(smollm2, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "chat_template.jinja").write_text(source)
    contents = ["Hi", " leading space", "emoji 👩‍🚀 end", "1234\r\n", "ends in newline\n", "日本"]
    for content in contents:
        messages = [TURNS[0], {"role": "assistant", "content": content}, *TURNS[2:]]
        expected = oracle.apply_chat_template(
            messages, chat_template=source, return_assistant_tokens_mask=True, return_dict=True
        )
        _, document = make_document(folder, Conversation(messages))
        assert document.ids.tolist() == expected["input_ids"]
        assert document.mask.tolist() == expected["assistant_masks"], content


def test_the_real_templates_prompt_is_never_a_target(smollm2):
    ids, mask, shown = make_mask(smollm2, TURNS)
    assert shown == CHATML_TARGETS
    oracle = AutoTokenizer.from_pretrained(smollm2)
    assert ids == oracle.apply_chat_template(TURNS, return_dict=False)
    prompt = oracle.apply_chat_template(TURNS[:3], add_generation_prompt=True, return_dict=False)
    assert ids[: len(prompt)] == prompt and sum(mask[len(prompt) :]) == len(mask) - len(prompt) - 1


def test_a_token_across_a_border_is_a_target_and_the_first_token_never():
    offsets = [(0, 2), (2, 5), (5, 6), (6, 8), (8, 9)]
    tokens = TokensOfHeadAndRest([10, 11, 12, 13, 14], offsets)

    def mask(spans, text="abcdefghi"):
        turns = [Turn(begin, end, None) for begin, end in spans]
        return mask_tokens(tokens, text, turns, {13})[0].tolist()

    assert mask([(3, 5)]) == [0, 1, 0, 0, 0]
    assert mask([(3, 6)]) == [0, 1, 1, 1, 0]  # and the special token behind it
    assert mask([(0, 9)]) == [0, 1, 1, 1, 1]
    assert mask([(5, 9)], "abcdefgh\n") == [0, 0, 1, 1, 0]  # blank after the special token 13
    assert mask([(5, 6), (8, 9)], "abcdefghi") == [0, 0, 1, 1, 1]
    assert mask([]) == [0, 0, 0, 0, 0]


HEADS = (
    "<|im_start|>system\nBe brief.<|im_end|>\n",
    "<|im_start|>",
    "  <s> a</s> <s>",
    "<s> <s><s>",
    "no marks",
    "",
)


@pytest.mark.parametrize("how", ["plain", "neighbours", "longest", "first word", "normalised"])
def test_tokens_of_head_and_rest_are_those_of_the_whole(how):
    """Whatever a tokenizer does at the beginning of a text and beside its added tokens."""
    tokenizer = byte_tokenizer()
    if how == "first word":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.model = models.WordLevel({"\u2581a": 0, "a": 1, "?": 2}, unk_token="?")
    if how == "neighbours":
        tokenizer.add_special_tokens([AddedToken("<s>", lstrip=True)])
        tokenizer.add_tokens([AddedToken("a<|im", normalized=False)])
    if how == "longest":
        tokenizer.add_special_tokens([AddedToken("<s><s>", normalized=False)])
    if how == "normalised":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("a"), normalizers.Lowercase()]
        )
    pieces = PieceEncoder(tokenizer)
    for head in HEADS * 2:  # Again, from what is remembered.
        for rest in (
            "",
            "<|im_start|>user\nÄ a<|im_end|>\n",
            "a<|im_start|>a",
            "</s> <|im_start|>",
        ):
            whole = tokenizer.encode(head + rest, add_special_tokens=False)
            found = pieces.encode(head + rest)
            assert (found.ids.tolist(), list(found)) == (whole.ids, whole.offsets)
    assert (find_marks(tokenizer) is None) == (how == "neighbours")
