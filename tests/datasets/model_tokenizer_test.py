# SPDX-License-Identifier: Apache-2.0
"""Reading a model folder's tokenizer: beginning tokens, end tokens, damaged folders."""

import json

import pytest
from conftest import byte_tokenizer, write_model
from tokenizers import processors
from transformers import AutoTokenizer

from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer


def with_post_processor(folder, single: str):
    tokenizer = byte_tokenizer()
    special = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair="$A $B", special_tokens=special
    )
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("single", ["$A", "<s> $A", "<s> $A </s>", "$A </s>"])
def test_the_beginning_token_is_what_transformers_adds(tmp_path, single):
    folder = write_model(tmp_path)
    with_post_processor(folder, single)
    model = load_model_tokenizer(folder)
    ids = AutoTokenizer.from_pretrained(folder)("hello")["input_ids"]
    plain = model.tokenizer.encode("hello", add_special_tokens=False).ids
    assert list(model.bos_ids) == ids[: ids.index(plain[0])]


def test_the_configuration_decides_over_the_post_processor(tmp_path):
    folder = write_model(tmp_path, add_bos_token=True)
    assert load_model_tokenizer(folder).bos_ids == (byte_tokenizer().token_to_id("<s>"),)
    write_model(folder, add_bos_token=False)
    with_post_processor(folder, "<s> $A")
    assert load_model_tokenizer(folder).bos_ids == ()


def test_truncation_and_padding_of_the_file_are_ignored(tmp_path):
    folder = write_model(tmp_path)
    tokenizer = byte_tokenizer()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert len(load_model_tokenizer(folder).tokenizer.encode("hello").ids) == 5


def test_the_end_token_may_be_chosen_and_must_exist(tmp_path):
    folder = write_model(tmp_path)
    model = load_model_tokenizer(folder, "<|eot_id|>")
    assert model.eos_id == model.tokenizer.token_to_id("<|eot_id|>")
    assert model.vocab_size == 268
    with pytest.raises(DataError, match="end token '<none>' is not in the vocabulary"):
        load_model_tokenizer(folder, "<none>")
    write_model(folder, eos_token=None)
    assert load_model_tokenizer(folder).eos_id is None
    (folder / "special_tokens_map.json").write_text('{"eos_token": {"content": "</s>"}}')
    write_model(folder)
    assert load_model_tokenizer(folder).named_tokens["eos_token"] == "</s>"


def test_damaged_folders_are_named(tmp_path):
    folder = write_model(tmp_path / "model")
    with pytest.raises(DataError, match="name a Hugging Face model folder"):
        load_model_tokenizer(tmp_path / "none")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["added_tokens_decoder"] = {"5": {"content": "</s>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="'</s>' has id 5 in tokenizer_config.json but 257"):
        load_model_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(DataError, match="holds no JSON object"):
        load_model_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        load_model_tokenizer(folder)
    write_model(folder)
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(DataError, match="is not UTF-8"):
        load_model_tokenizer(folder)
    for damage in (b"{}", b"\x00", b'{"model": {"type": "BPE", "vocab": {}, "merges": ["a b"]}}'):
        (folder / "tokenizer.json").write_bytes(damage)
        with pytest.raises(DataError, match="tokenizer.json is not usable"):
            load_model_tokenizer(folder)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"added_tokens_decoder": [1]}, "added_tokens_decoder is no object"),
        ({"added_tokens_decoder": {"1": "</s>"}}, "no content for '1'"),
        ({"added_tokens_decoder": {"1": {}}}, "no content for '1'"),
        ({"added_tokens_decoder": {"x": {"content": "</s>"}}}, "'</s>' has id x in"),
        ({"added_tokens_decoder": {"1": {"content": "\ud83d"}}}, "has id 1 in"),
        ({"eos_token": 5}, "eos_token is 5, which is no text"),
        ({"eos_token": "\ud83d"}, "which is no text"),
        ({"bos_token": {"content": ["<s>"]}}, "which is no text"),
        ({"unk_token": True}, "unk_token is True"),
    ],
)
def test_malformed_entries_are_named(tmp_path, config, says):
    folder = write_model(tmp_path / "model", **config)
    with pytest.raises(DataError, match=says) as caught:
        load_model_tokenizer(folder)
    assert "tokenizer_config.json" in str(caught.value)


def test_files_nested_too_deeply_are_named(tmp_path):
    folder = write_model(tmp_path / "model")
    for name in ("tokenizer_config.json", "generation_config.json", "tokenizer.json"):
        before = (folder / name).read_bytes() if (folder / name).exists() else b"{}"
        (folder / name).write_text("[" * 99_999)
        with pytest.raises(DataError, match=name):
            load_model_tokenizer(folder)
        (folder / name).write_bytes(before)


def test_a_folder_with_another_kind_of_tokenizer_says_how_to_convert_it(tmp_path):
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(DataError, match="make it of tokenizer.model: .* save_pretrained"):
        load_model_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, {257}),
        ({"config.json": {"eos_token_id": 5}}, {5}),
        (
            {"config.json": {"eos_token_id": 5}, "generation_config.json": {"eos_token_id": [6]}},
            {6},
        ),
        ({"generation_config.json": {"eos_token_id": [6, 7]}}, {6, 7}),
        ({"config.json": {"eos_token_id": None}, "generation_config.json": {}}, {257}),
    ],
)
def test_generation_stops_where_the_model_says(tmp_path, files, expected):
    folder = write_model(tmp_path)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    assert load_model_tokenizer(folder).stop_ids == expected
