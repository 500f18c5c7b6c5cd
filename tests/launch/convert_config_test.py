# SPDX-License-Identifier: Apache-2.0
"""launch/convert-config: every key of theirs is translated or named, and the program takes it."""

import ast
import importlib.util
import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from runs import ROOT, launch

from temper_data.errors import DataError
from temper_data.recipe import load_recipe
from temper_runs.convert.rules import InPart, No
from temper_runs.convert.tables import DEFAULTS, TABLES, TRAINING_ARGUMENTS
from temper_runs.convert.translate import recognise, translate

# Written after the documentation of each, with the keys that their examples have.
AXOLOTL = """\
base_model: NousResearch/Llama-3.2-1B
load_in_8bit: false
load_in_4bit: true
datasets:
  - path: data/alpaca.jsonl
    type: alpaca
    split: train
  - path: data/chats.jsonl
    type: chat_template
    field_messages: conversations
    message_property_mappings: {role: from, content: value}
dataset_prepared_path: last_run_prepared
val_set_size: 0.1
output_dir: ./outputs/qlora
adapter: qlora
lora_model_dir:
sequence_len: 2048
sample_packing: true
pad_to_sequence_len: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
lora_modules_to_save: [embed_tokens, lm_head]
wandb_project: mine
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 3
optimizer: paged_adamw_8bit
lr_scheduler: cosine
cosine_min_lr_ratio: 0.1
learning_rate: 2e-4
train_on_inputs: false
bf16: auto
fp16:
tf32: false
gradient_checkpointing: true
logging_steps: 1
flash_attention: true
chat_template: chatml
warmup_steps: 10
eval_steps: 50
saves_per_epoch: 1
deepspeed: deepspeed_configs/zero2.json
weight_decay: 0.01
special_tokens: {pad_token: <|end_of_text|>}
seed: 7
my_own_key: 1
"""
LLAMA_FACTORY = """\
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
trust_remote_code: true
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: identity,alpaca_en_demo
template: llama3
cutoff_len: 2048
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16
output_dir: saves/llama3-8b/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
val_size: 0.1
eval_strategy: steps
eval_steps: 500
deepspeed: examples/deepspeed/ds_z3_config.json
"""
TRL = {
    "model_name_or_path": "Qwen/Qwen2.5-0.5B", "dataset_name": "trl-lib/Capybara",
    "learning_rate": 2.0e-5, "max_steps": 200, "num_train_epochs": 1, "packing": True,
    "per_device_train_batch_size": 2, "gradient_accumulation_steps": 8, "max_length": 1024,
    "eval_strategy": "steps", "eval_steps": 100, "output_dir": "Qwen2-0.5B-SFT", "optim": "lion",
    "lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
    "warmup_steps": 0.1, "gradient_checkpointing": True, "push_to_hub": True, "save_steps": 50,
    "completion_only_loss": False, "seed": 1,
}  # fmt: skip


def convert(folder: Path, text: str, name: str = "theirs.yaml", *more: str) -> tuple:
    """Our configuration and recipe as maps, and what was printed."""
    (folder / name).write_text(text)
    done = launch("convert-config", folder / name, "-o", folder / "ours.yaml", *more)
    assert done.returncode == 0, done
    load_recipe(folder / "ours-data.yaml", [])  # It takes the keys, or says what is wrong.
    config = yaml.safe_load((folder / "ours.yaml").read_text())
    return config, yaml.safe_load((folder / "ours-data.yaml").read_text()), done.stdout


def resolved(folder: Path) -> dict:
    """As the program reads it."""
    command = [os.environ["TEMPER_BINARY"], "check", folder / "ours.yaml", "--print-config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return yaml.safe_load(done.stdout)


def test_axolotl(tmp_path):
    _, recipe, printed = convert(tmp_path, AXOLOTL, "theirs.yaml", "--devices", "2")
    ours = resolved(tmp_path)
    assert ours["method"] == "qlora" and ours["quantise"] == {"type": "nf4", "double": True}
    assert ours["lora"]["targets"] == ["all-linear"] and ours["lora"]["rank"] == 32
    assert ours["lora"]["modules_to_save"] == ["embed_tokens", "lm_head"]
    assert ours["data"]["global_batch"] == 2 * 4 * 2 and ours["data"]["micro_batch"] == 2
    assert ours["data"]["seed"] == 7 and ours["data"]["chat_template"] == "shard"
    assert float(ours["optimizer"]["learning_rate"]) == 2e-4
    assert ours["optimizer"]["state_dtype"] == "int8" and ours["optimizer"]["beta2"] == 0.999
    schedule = {key: ours["schedule"][key] for key in ("name", "warmup_steps", "floor_ratio")}
    assert schedule == {"name": "cosine", "warmup_steps": 10, "floor_ratio": 0.1}
    assert ours["parallel"]["stage"] == 2 and ours["train"]["evaluate_every_steps"] == 50
    assert ours["train"]["recompute"] and ours["train"]["epochs"] == 3
    assert recipe["holdout"] == {"fraction": 0.1} and recipe["chat_template"] == "chatml"
    assert [source["format"] for source in recipe["sources"]] == ["instruction", "sharegpt"]
    for key in ("my_own_key: not known here", "saves_per_epoch: temper counts in steps",
                "special_tokens: datasets/add_tokens.py", "datasets[0].split: say it"):  # fmt: skip
        assert f"not translated  {key}" in printed, printed
        assert f"# not translated: {key}" in (tmp_path / "ours.yaml").read_text()


def test_llama_factory(tmp_path):
    (tmp_path / "data").mkdir()
    index = {"identity": {"file_name": "identity.json"}, "other": {},
             "alpaca_en_demo": {"file_name": "demo.json", "formatting": "sharegpt"}}  # fmt: skip
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(index))
    _, recipe, printed = convert(tmp_path, LLAMA_FACTORY)
    ours = resolved(tmp_path)
    assert ours["method"] == "lora" and ours["lora"]["targets"] == ["all-linear"]
    assert (ours["lora"]["rank"], ours["lora"]["alpha"]) == (8, 16)  # Twice the rank by default.
    assert ours["data"]["global_batch"] == 8 and ours["data"]["sequence_length"] == 2048
    assert ours["model"]["dtype"] == "bfloat16" and ours["parallel"]["stage"] == 3
    assert ours["checkpoint"]["every_steps"] == 500
    assert recipe["chat_template"] == "llama3"
    assert recipe["sources"] == [{"path": "data/identity.json", "format": "instruction"},
                                 {"path": "data/demo.json", "format": "sharegpt"}]  # fmt: skip
    assert "not translated  max_samples: " in printed and "holds more of them" in printed


def test_trl(tmp_path):
    _, recipe, printed = convert(tmp_path, json.dumps(TRL), "theirs.json")
    ours = resolved(tmp_path)
    assert ours["method"] == "full" and ours["train"]["max_steps"] == 200
    assert ours["schedule"]["warmup_ratio"] == 0.1 and ours["schedule"]["floor_ratio"] == 0.1
    assert ours["data"]["global_batch"] == 16 and ours["checkpoint"]["every_steps"] == 50
    assert recipe["sources"] == [{"path": "trl-lib/Capybara"}]
    for key in ("num_train_epochs: max_steps goes before it", "optim: temper has AdamW",
                "eval_steps: no evaluation set", "completion_only_loss: of prompt"):  # fmt: skip
        assert f"not translated  {key}" in printed, printed


def trainers_defaults() -> dict:
    """Of transformers' TrainingArguments, by its source, since to import it takes seconds."""
    package = Path(importlib.util.find_spec("transformers").origin).parent
    tree = ast.parse((package / "training_args.py").read_text())
    (chosen,) = [node for node in tree.body if getattr(node, "name", "") == "TrainingArguments"]
    found = {}
    for item in (item for item in chosen.body if isinstance(item, ast.AnnAssign)):
        keywords = {word.arg: word.value for word in getattr(item.value, "keywords", [])}
        default = keywords.get("default")
        found[item.target.id] = default.value if isinstance(default, ast.Constant) else None
    return found


def test_the_table_has_every_key_of_the_trainer_and_its_defaults():
    theirs = trainers_defaults()
    assert len(theirs) > 100 and set(theirs) <= set(TRAINING_ARGUMENTS)
    made = translate({"model_name_or_path": "m", "stage": "sft"}, "llama-factory", Path(), 1)
    for key, ours in (("learning_rate", "optimizer.learning_rate"),
                      ("adam_beta2", "optimizer.beta2"), ("max_grad_norm", "train.max_grad_norm"),
                      ("num_train_epochs", "train.epochs"), ("lr_scheduler_type", "schedule.name"),
                      ("per_device_train_batch_size", "data.micro_batch"), ("seed", "data.seed"),
                      ("save_steps", "checkpoint.every_steps")):  # fmt: skip
        assert made.config[ours] == theirs[key], key
    assert theirs["adam_beta1"] == 0.9 and theirs["adam_epsilon"] == 1e-8  # As ours.


BEGIN = {"axolotl": {"base_model": "m"}, "trl": {"model_name_or_path": "m"},
         "llama-factory": {"model_name_or_path": "m", "stage": "sft"}}  # fmt: skip
VALUES = (
    1, 2.5, -1, 0, True, False, "x", "1e-4", "4", "lora", "pt", [], ["x"], {}, {"x": 1},
    [{"path": "x"}], [1],
)  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_every_key_is_translated_or_named_whatever_its_value_is(kind):
    accepted = set()
    for key in [*TABLES[kind], "novel"]:
        for value in VALUES:
            source = {**BEGIN[kind], key: value}
            try:
                made = translate(source, kind, Path(), 1)
            except DataError as error:
                assert error.problem and error.remedy
                continue
            accepted.add(key)
            assert (key in made.done) != (key in made.left), (key, value)
    assert accepted == {*TABLES[kind], "novel"}


def test_tables_say_something_of_every_key():
    for kind, table in TABLES.items():
        assert recognise(Path("f"), BEGIN[kind]) == kind and kind in DEFAULTS
        assert all(rule.why for rule in table.values() if isinstance(rule, No))
        assert any(isinstance(rule, InPart) for rule in table.values())


@pytest.mark.parametrize("text, words", [
    ("a: [", "cannot be read"), ("- 1", "holds no keys"), ("a: 1", "has none of the keys"),
    ("base_model: m\nrl: dpo", "rl is dpo"), ("stage: dpo", "stage is dpo"),
    ("stage: sft\nfinetuning_type: oft", "the method is oft"),
    ("base_model: m\nlearning_rate: fast", "learning_rate is 'fast', wanted a number"),
])
def test_what_cannot_be_translated_is_refused(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    done = launch("convert-config", tmp_path / "a.yaml")
    assert done.returncode == 1 and words in done.stderr and "\n  try: " in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_nothing_is_written_over(tmp_path):
    convert(tmp_path, LLAMA_FACTORY)
    done = launch("convert-config", tmp_path / "theirs.yaml", "-o", tmp_path / "ours.yaml")
    assert done.returncode == 1 and "is there already" in done.stderr
    convert(tmp_path, LLAMA_FACTORY, "theirs.yaml", "--force")


def test_each_schedule_and_method_is_one_that_the_program_takes(tmp_path):
    base = {"model_name_or_path": "m", "stage": "pt", "dataset": "text", "save_strategy": "no"}
    for name in ("linear", "cosine", "constant", "constant_with_warmup", "warmup_stable_decay",
                 "polynomial"):  # fmt: skip
        theirs = base | {"lr_scheduler_type": name, "warmup_ratio": 0.1, "bf16": False,
                         "finetuning_type": "full" if name == "linear" else "lora",
                         "quantization_bit": 4 if name == "cosine" else None,
                         "pissa_init": name == "constant", "use_dora": True,
                         "load_best_model_at_end": True, "val_size": 0.2,
                         "eval_strategy": "steps" if name == "linear" else "epoch"}  # fmt: skip
        convert(tmp_path, yaml.safe_dump(theirs), "theirs.yaml", "--force")
        ours = resolved(tmp_path)
        assert ours["checkpoint"]["final"] == ("best" if name == "linear" else "newest")
        assert ours["model"]["dtype"] == "float32"
        assert ours["schedule"]["name"] in ("linear", "cosine", "constant", "wsd")
