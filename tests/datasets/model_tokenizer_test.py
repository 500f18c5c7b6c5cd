# SPDX-License-Identifier: Apache-2.0
"""Reading a model folder's tokenizer: beginning tokens, end tokens, damaged folders."""

import inspect
import json
import re

import pytest
from conftest import byte_tokenizer, write_model
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerBase, Qwen2Tokenizer
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from temper_data.errors import DataError
from temper_data.model_tokenizer import load_model_tokenizer
from temper_data.tokenizer_config import is_known


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


def keys_of_the_installed_classes() -> set[str]:
    """All that their constructors take, by name or out of what is left of the configuration."""
    keys = set(PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES)
    for made in (PreTrainedTokenizerBase, TokenizersBackend, LlamaTokenizer, Qwen2Tokenizer):
        keys |= set(inspect.signature(made.__init__).parameters)
        taken = r'kwargs\.(?:pop|get|setdefault)\(\s*"(\w+)"|"(\w+)" in kwargs'
        for found in re.findall(taken, inspect.getsource(made.__init__)):
            keys |= set(found)
    return keys - {"", "self", "args", "kwargs"}


def test_each_key_that_the_installed_classes_take_is_known(tmp_path):
    """Honoured, harmless or refused for itself: a new one is to be looked at."""
    keys = keys_of_the_installed_classes()
    assert {"split_special_tokens", "fix_mistral_regex", "add_prefix_space", "legacy"} <= keys
    assert [key for key in sorted(keys) if not is_known(key, True)] == []
    folder = write_model(tmp_path, nobody_knows_this=1, nothing_is_set=None, image_token="<s>")
    assert load_model_tokenizer(folder).notes == (
        "tokenizer_config.json has keys that are ignored: nobody_knows_this",
    )


def with_unmerged_token(folder) -> None:
    """Puts "he" into the vocabulary, which text does not become by itself."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["he"] = 268
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "config",
    [
        {"extra_special_tokens": ["he"]},
        {"additional_special_tokens": [{"content": "he", "__type": "AddedToken"}]},
        {"model_specific_special_tokens": {"heart": "he"}},
        {"image_token": "he"},
        {"pad_token": "he"},
    ],
)
def test_a_special_token_by_configuration_is_one_token(tmp_path, config):
    folder = write_model(tmp_path, **config)
    with_unmerged_token(folder)
    text = "so he said </s>"
    ids = load_model_tokenizer(folder).tokenizer.encode(text, add_special_tokens=False).ids
    assert 268 in ids
    assert ids == AutoTokenizer.from_pretrained(folder).encode(text, add_special_tokens=False)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"split_special_tokens": True}, "split_special_tokens is true"),
        (
            {"added_tokens_decoder": {"257": {"content": "</s>", "lstrip": True, "special": True}}},
            "token '</s>' has another lstrip in tokenizer.json",
        ),
        (
            {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": True},
            "add_prefix_space is not what tokenizer.json does",
        ),
        ({"extra_special_tokens": ["[x]"]}, r"template writes '\[x\]', a special token by extra_"),
    ],
)
def test_other_ids_by_configuration_are_refused(tmp_path, config, says):
    folder = write_model(tmp_path, template="[x]{{ messages }}", **config)
    text = "[x] said </s>"
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(folder).encode(text, add_special_tokens=False)
    assert theirs != plain.encode(text, add_special_tokens=False).ids
    with pytest.raises(DataError, match=says):
        load_model_tokenizer(folder)


def test_settings_that_agree_with_the_file_are_no_problem(tmp_path):
    decoder = {"257": {"content": "</s>", "lstrip": False, "special": True}}
    for config in (
        {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False},
        {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": True},  # It ignores it.
        {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": True},  # Of bytes: the same.
        {"added_tokens_decoder": decoder, "split_special_tokens": False},
        {"pad_token": "</s>"},
    ):
        folder = write_model(tmp_path, **config)
        model = load_model_tokenizer(folder)
        theirs = AutoTokenizer.from_pretrained(folder)
        ours = model.tokenizer.encode("we </s>", add_special_tokens=False).ids
        assert ours == theirs.encode("we </s>", add_special_tokens=False), config
        assert model.notes == ()
    folder = write_model(tmp_path, template="{{ messages }}", pad_token="[PAD]")
    (note,) = load_model_tokenizer(folder).notes
    assert note.startswith("'[PAD]' (pad_token in tokenizer_config.json) is not in tokenizer.json")


def test_a_pattern_that_transformers_mends_must_be_mended_in_the_file(tmp_path):
    folder = write_model(tmp_path, fix_mistral_regex=True)
    (folder / "config.json").write_text('{"model_type": "mistral"}')
    with pytest.raises(DataError, match="fix_mistral_regex is true"):
        load_model_tokenizer(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    mended = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    split = {"type": "Split", "pattern": {"Regex": mended}, "behavior": "Isolated", "invert": False}
    parts = {"type": "Sequence", "pretokenizers": [split, content["pre_tokenizer"]]}
    (folder / "tokenizer.json").write_text(json.dumps(content | {"pre_tokenizer": parts}))
    assert load_model_tokenizer(folder).notes == ()
