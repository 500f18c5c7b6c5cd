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
    with pytest.raises(DataError, match="set eos_token in the recipe"):
        load_model_tokenizer(folder)
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
