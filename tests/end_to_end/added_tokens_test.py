# SPDX-License-Identifier: Apache-2.0
"""New tokens from the folder that datasets/add_tokens.py makes, through shards and training, to
what transformers and peft open."""

import json
import sys
from pathlib import Path

import peft
import pytest
import torch
import workspace
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen3Config

sys.path.insert(0, str(workspace.ROOT / "tests" / "datasets"))
import conftest  # noqa: E402
from shard_reader import Shard  # noqa: E402

TOKENS = ["<|tool|>", "<|result|>"]
IDS = [268, 269]  # behind the tokenizer's own
TEXTS = ["call <|tool|>sum 1 2<|result|>3 and <|tool|>sum 3 4<|result|>7",
         "then <|tool|>sum 2 2<|result|>4 and <|tool|>sum 1 4<|result|>5"]  # fmt: skip
SIZES = dict(
    vocab_size=268, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128,
)  # fmt: skip
FAMILIES = {
    "tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "untied": Qwen3Config(**SIZES, head_dim=16),
}

# Each of the two documents fills a row: the loss is that of transformers.
CONFIG = """\
run: {{folder: {folder}/run}}
model: {{path: {folder}/new, dtype: float32}}
data:
  train: [{{path: {folder}/shards/train.h5}}]
  sequence_length: {length}
  global_batch: 2
  micro_batch: 1
train: {{max_steps: 1}}
optimizer: {{learning_rate: 0.01}}
checkpoint: {{model_dtype: float32}}
"""


@pytest.fixture(params=FAMILIES)
def prepared(request, tmp_path):
    """A folder with a model, the same with new tokens, a shard for it and a configuration."""
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(FAMILIES[request.param]).save_pretrained(tmp_path / "base")
    conftest.write_model(tmp_path / "base")
    tokens = [word for token in TOKENS for word in ("--token", token)]
    workspace.python(
        "datasets/add_tokens.py", str(tmp_path / "base"), str(tmp_path / "new"), *tokens
    )
    conftest.write_lines(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"kind: pretrain\nmodel: {tmp_path}/new\noutput: {tmp_path}/shards\n"
        f"sources: [{{path: {tmp_path}/texts.jsonl}}]\n"
    )
    workspace.python("datasets/prepare.py", str(recipe))
    ids = Shard(tmp_path / "shards" / "train.h5").documents()
    (tmp_path / "run.yaml").write_text(CONFIG.format(folder=tmp_path, length=len(ids[0])))
    return tmp_path, torch.tensor(ids)


def train(folder: Path, *options: str) -> float:
    """One step on two ranks; returns its loss."""
    config = folder / "run.yaml"
    workspace.run(2, "train", config, *options)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return next(line["loss"] for line in map(json.loads, lines) if line["kind"] == "step")


def loss_of(model, ids: torch.Tensor) -> float:
    with torch.no_grad():
        return model(input_ids=ids, labels=ids).loss.item()


def test_shards_have_one_id_for_each_and_final_opens(prepared):
    folder, ids = prepared
    assert [ids.tolist()[0].count(index) for index in IDS] == [2, 2]
    base = AutoModelForCausalLM.from_pretrained(folder / "new")
    assert train(folder) == pytest.approx(loss_of(base, ids), rel=1e-5)
    final = folder / "run" / "final"
    model, info = AutoModelForCausalLM.from_pretrained(final, output_loading_info=True)
    assert not any(info.values()), info
    tokenizer = AutoTokenizer.from_pretrained(final)
    assert [tokenizer.encode(text) for text in TEXTS] == ids[:, :-1].tolist()
    assert set(TOKENS) <= set(tokenizer.all_special_tokens)
    assert loss_of(model, ids) < loss_of(base, ids)
    moved = model.get_input_embeddings().weight != base.get_input_embeddings().weight
    assert moved[IDS].all()


def test_lora_trains_their_rows_and_peft_opens_the_adapter(prepared):
    folder, ids = prepared
    base = AutoModelForCausalLM.from_pretrained(folder / "new")
    before = loss_of(base, ids)
    assert train(
        folder, "method=lora", "lora.rank=2", f"lora.trainable_tokens={json.dumps(IDS)}"
    ) == pytest.approx(before, rel=1e-5)
    final = folder / "run" / "final"
    rows = [value for name, value in load_file(final / "adapter_model.safetensors").items()
            if "trainable_tokens_delta" in name]  # fmt: skip
    is_tied = base.config.tie_word_embeddings
    assert [row.shape for row in rows] == [(2, 32)] * (1 if is_tied else 2)
    assert not torch.equal(rows[0], base.get_input_embeddings().weight[IDS])
    model = peft.PeftModel.from_pretrained(base, final)
    assert loss_of(model, ids) < before


def test_a_shard_with_the_new_tokens_is_refused_beside_the_old_folder(prepared):
    folder, _ = prepared
    config = folder / "run.yaml"
    config.write_text(config.read_text().replace(f"{folder}/new", f"{folder}/base"))
    with pytest.raises(RuntimeError, match="ended with 12"):
        workspace.run(1, "train", config)
