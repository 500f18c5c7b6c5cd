# SPDX-License-Identifier: Apache-2.0
"""The chat template of shards in what a run exports, as transformers opens it."""

import json
from pathlib import Path

import pytest
import tiny_run
from tiny_run import assert_refused, temper
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

CONFIGURATION, DATA = 11, 12
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>ä {{ m['content'] }}{% endfor %}"
LORA = ("method=lora", "lora={rank: 2, targets: [q_proj]}")
ASKED = "data.chat_template=shard"


def tokenizer_text() -> bytes:
    """One that transformers opens, of the tiny model's size."""
    words = {f"w{i}": i for i in range(tiny_run.VOCAB - 1)} | {"?": tiny_run.VOCAB - 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str().encode()


def write_run(folder: Path, template: str = TEMPLATE, **config) -> Path:
    """A run on conversations; `config` goes into the model's tokenizer_config.json."""
    path = tiny_run.write_run(folder)
    (folder / "model" / "tokenizer.json").write_bytes(tokenizer_text())
    keys = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "?"} | config
    (folder / "model" / "tokenizer_config.json").write_text(json.dumps(keys))
    replace_shard(folder / "train.h5", template)
    return path


def replace_shard(path: Path, template: str, **options) -> None:
    path.unlink(missing_ok=True)
    tiny_run.write_conversations(path, template, tokenizer_text(), **options)


def templates_of(folder: Path):
    return AutoTokenizer.from_pretrained(folder).chat_template


def train(config: Path, *overrides: str) -> str:
    done = temper("train", config, *overrides)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def give_templates(model: Path) -> None:
    """All places that transformers looks for templates in."""
    (model / "chat_template.jinja").write_text("own")
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tool_use.jinja").write_text("own, with tools")


def test_a_base_without_a_template_gets_that_of_the_data(tmp_path):
    config = write_run(tmp_path)
    said = temper("check", config).stdout
    assert "template    exports get the chat template of the training data, " in said
    assert 'chat_template="exports get the chat template of the training data' in train(config)
    final = tmp_path / "run" / "final"
    assert templates_of(tmp_path / "model") is None
    assert templates_of(final) == TEMPLATE
    turns = [{"role": "user", "content": "w1"}]
    rendered = AutoTokenizer.from_pretrained(final).apply_chat_template(turns, tokenize=False)
    assert rendered == "<user>ä w1"
    # Where the data's template is the model's by now, nothing is taken.
    other = [f"model.path={final}", f"run.folder={tmp_path}/second", ASKED]
    assert "chat_template=" not in train(config, *other)
    assert templates_of(tmp_path / "second" / "final") == TEMPLATE


def test_all_exports_have_the_template_of_the_data_alone(tmp_path):
    config = write_run(tmp_path, chat_template=[{"name": "default", "template": "old"}])
    give_templates(tmp_path / "model")
    assert_refused(temper("train", config), DATA, "was rendered by the chat template ",
                   "set data.chat_template to shard")  # fmt: skip
    train(config, ASKED, "checkpoint.every_steps=2")
    steps = tmp_path / "run" / "checkpoints"
    assert temper("export", steps / "step-00000002", tmp_path / "exported").returncode == 0
    resumed = [f"run.folder={tmp_path}/resumed", f"checkpoint.resume={steps}/step-00000002"]
    assert "resumed step=2" in train(config, ASKED, *resumed)
    final = tmp_path / "run" / "final"
    for folder in (
        final, steps / "step-00000002" / "model", tmp_path / "exported",
        tmp_path / "resumed" / "final",
    ):  # fmt: skip
        assert templates_of(folder) == TEMPLATE, folder
        assert not (folder / "additional_chat_templates").exists()
        kept = json.loads((folder / "tokenizer_config.json").read_text())
        assert "chat_template" not in kept and kept["unk_token"] == "?"
    assert (final / "tokenizer.json").read_bytes() == tokenizer_text()
    shards = tiny_run.evaluating(tmp_path / "train.h5")
    assert temper("eval", config, *shards).returncode == 0  # The exported model has it as its own.


def test_the_template_keeps_its_bytes(tmp_path):
    """Line ends too, which transformers takes for one another; also in four bits."""
    template = TEMPLATE + "{# \r\n #}\r\n\r{{ 1 }}\n"
    train(write_run(tmp_path, template))
    newest, written = tmp_path / "run" / "checkpoints" / "latest", template.encode()
    for options in ([], ["--quantize", "nf4"]):
        folder = tmp_path / f"exported{len(options)}"
        assert temper("export", newest, folder, *options).returncode == 0
        assert (folder / "chat_template.jinja").read_bytes() == written
        assert templates_of(folder) == template.replace("\r\n", "\n").replace("\r", "\n")
    assert (tmp_path / "run" / "final" / "chat_template.jinja").read_bytes() == written


def test_any_template_leaves_the_model_its_own(tmp_path):
    config = write_run(tmp_path)
    give_templates(tmp_path / "model")
    assert "chat_template=" not in train(config, "data.chat_template=any")
    own = {"default": "own", "tool_use": "own, with tools"}
    assert templates_of(tmp_path / "run" / "final") == own


@pytest.fixture(scope="module")
def adapted(tmp_path_factory) -> Path:
    """A base with templates of its own, and adapters that were trained with others."""
    folder = tmp_path_factory.mktemp("adapted")
    config = write_run(folder)
    give_templates(folder / "model")
    train(config, ASKED, *LORA)
    replace_shard(folder / "other.h5", "another")
    others = (f"data.train=[{{path: {folder}/other.h5}}]", f"run.folder={folder}/other")
    train(config, ASKED, *LORA, *others)
    return folder


def test_an_adapter_is_opened_with_the_template_that_it_was_trained_with(adapted, tmp_path):
    final = adapted / "run" / "final"
    assert templates_of(final) == TEMPLATE
    newest = adapted / "run" / "checkpoints" / "step-00000003"
    assert temper("export", newest, tmp_path / "exported").returncode == 0
    assert templates_of(tmp_path / "exported") == TEMPLATE
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {
        path.name for path in final.iterdir()
    }


def test_merging_keeps_the_template_of_the_adapter(adapted, tmp_path):
    base, final = adapted / "model", adapted / "run" / "final"
    assert temper("merge", base, final, tmp_path / "merged").returncode == 0
    assert templates_of(tmp_path / "merged") == TEMPLATE
    twice = ["--adapter", final, "--weight", "0.5", "--adapter", final, "--weight", "0.5"]
    assert temper("merge", *twice, base, tmp_path / "both").returncode == 0
    assert templates_of(tmp_path / "both") == TEMPLATE
    assert temper("merge", *twice, "--as-adapter", base, tmp_path / "one").returncode == 0
    assert templates_of(tmp_path / "one") == TEMPLATE
    mixed = ["--adapter", final, "--weight", 1, "--adapter", adapted / "other/final", "--weight", 1]
    assert_refused(temper("merge", *mixed, base, tmp_path / "mixed"), CONFIGURATION,
                   "have two different chat_template.jinja")  # fmt: skip
    assert not (tmp_path / "mixed").exists()


def two_templates(folder: Path) -> list[str]:
    replace_shard(folder / "other.h5", "another")
    return [f"data.train=[{{path: {folder}/train.h5}}, {{path: {folder}/other.h5}}]"]


def other_holdout(folder: Path) -> list[str]:
    replace_shard(folder / "other.h5", "another")
    return [f"data.holdout=[{{name: h, path: {folder}/other.h5}}]"]


def second_template(folder: Path) -> list[str]:
    replace_shard(folder / "train.h5", TEMPLATE, tool_use="with tools")
    return []


def text_alone(folder: Path) -> list[str]:
    (folder / "train.h5").unlink()
    tiny_run.write_shard(folder / "train.h5", tokenizer_text())
    return [ASKED]


@pytest.mark.parametrize(
    ("prepare", "code", "message"),
    [
        (two_templates, DATA, "the chat template that exports get must be one, and "),
        (other_holdout, DATA, ", and the training data's is "),
        (second_template, DATA, "conversations with tools by the one named tool_use"),
        (text_alone, CONFIGURATION, "no shard of data.train has a chat template"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_made(
    tmp_path, prepare, code, message
):
    config = write_run(tmp_path)
    overrides = prepare(tmp_path)
    for verb in ("check", "train"):
        assert_refused(temper(verb, config, *overrides), code, message)
    assert not (tmp_path / "run").exists()
