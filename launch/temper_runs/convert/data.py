# SPDX-License-Identifier: Apache-2.0
"""Their data sets as a recipe for datasets/prepare.py, and the shards that it will make."""

import json
from pathlib import Path

from temper_data.known_templates import TOKENS

from .parts import HOLDOUT
from .translation import Translation

AXOLOTL_TYPES = {
    "alpaca": "instruction", "chat_template": "messages", "sharegpt": "sharegpt",
    "completion": "pretrain",
}  # fmt: skip
LAYOUTS = {"alpaca": "instruction", "sharegpt": "sharegpt", "openai": "messages"}
HUB = (
    "{path} is no file here: fetch the data set, such as by huggingface-cli download --repo-type "
    "dataset, and name its files in the recipe"
)


def translate_data(made: Translation, kind: str, beside: Path) -> bool:
    """Whether something is held out. `beside` is the folder of their file."""
    sources, is_text = READERS[kind](made, beside)
    for source in sources:
        if not Path(source["path"]).exists():
            made.notes.append(HUB.format(path=source["path"]))
    folder = f"{made.config['run.folder']}-shards"
    made.recipe = {
        "kind": "pretrain" if is_text else "sft", "model": made.config.get("model.path", "MODEL"),
        "output": folder, "sources": sources or [{"path": "DATA"}],
    }  # fmt: skip
    if made.has("mask_history"):
        made.recipe["train_on"] = "last" if made.flag("mask_history") else "all"
        made.done["mask_history"] = "train_on of the recipe"
    if not sources:
        made.notes.append("no data set is named: put its files into the recipe instead of DATA")
    made.config["data.train"] = [{"path": f"{folder}/train.h5"}]
    translate_template(made, kind, is_text)
    packing = {"axolotl": "sample_packing"}.get(kind, "packing")
    if made.has(packing):
        made.done[packing] = "as temper does anyway"
    if not made.flag(packing) and not is_text:
        made.notes.append(
            "temper packs whole conversations into rows: a step of as many rows holds more of them "
            "than theirs, which has one in each"
        )
    has_holdout = translate_holdout(made, kind)
    if has_holdout:
        made.config["data.holdout"] = [{"name": HOLDOUT, "path": f"{folder}/holdout.h5"}]
    return has_holdout


def translate_holdout(made: Translation, kind: str) -> bool:
    key = {"axolotl": "val_set_size", "llama-factory": "val_size"}.get(kind, "")
    for name in ("test_datasets", "eval_dataset", "dataset_test_split"):
        made.leave(name, "prepare it by a recipe of its own, and name its shard in data.holdout")
    size = made.number(key, 0) if key else 0
    if 0 < size < 1:
        made.recipe["holdout"] = {"fraction": size}
        made.done[key] = "holdout.fraction of the recipe"
        return True
    if size >= 1:
        made.leave(key, "a recipe holds out a share: set holdout.fraction")
    elif made.has(key):
        made.done[key] = "holdout.fraction of the recipe"
    return False


def translate_template(made: Translation, kind: str, is_text: bool) -> None:
    key = {"axolotl": "chat_template", "llama-factory": "template"}.get(kind, "chat_template_path")
    if not made.has(key):
        return
    name = str(made.source[key])
    if is_text:
        made.leave(key, "it has no effect: the data are text")
    elif name in TOKENS:
        made.recipe["chat_template"] = name
        made.config["data.chat_template"] = "shard"
        made.done[key] = "chat_template of the recipe"
    elif name == "tokenizer_default":
        made.done[key] = "as temper does anyway"
    else:
        made.leave(key, f"the model's own template is taken; others are {', '.join(TOKENS)}, or "
                        "a file, as chat_template of the recipe")  # fmt: skip


def of_axolotl(made: Translation, _: Path) -> tuple[list[dict], bool]:
    key = "pretraining_dataset" if made.has("pretraining_dataset") else "datasets"
    told = made.source.get(key, [])
    entries = [{"path": told}] if isinstance(told, str) else told if isinstance(told, list) else []
    entries = [entry for entry in entries if isinstance(entry, dict)]
    is_text = key == "pretraining_dataset" or bool(entries) and all(
        entry.get("type") == "completion" for entry in entries
    )
    sources = []
    for place, entry in enumerate(entries):
        name = f"{key}[{place}]"
        source = {"path": str(entry.get("path", "DATA"))}
        layout = AXOLOTL_TYPES.get(str(entry.get("type", "")), "")
        if not is_text and layout not in ("", "pretrain"):
            source["format"] = layout
        elif not is_text and "type" in entry:
            made.left[f"{name}.type"] = "the layout is guessed; set format in the recipe"
        translate_entry(made, name, entry, source)
        sources.append(source)
    made.done.update({key: "sources of the recipe"} if made.has(key) else {})
    return sources, is_text


def translate_entry(made: Translation, name: str, entry: dict, source: dict) -> None:
    """One data set's own keys."""
    for key, value in entry.items():
        if value is None or key in ("path", "type"):
            continue
        if key == "data_files" and isinstance(value, str):
            source["path"] = value
        elif key in ("field", "field_messages"):
            source["field"] = str(value)
        elif key == "message_property_mappings" and isinstance(value, dict):
            if {"role": "from", "content": "value"}.items() <= value.items():
                source["format"] = "sharegpt"
            elif dict(value) != {"role": "role", "content": "content"}:
                made.left[f"{name}.{key}"] = "name the columns in the recipe: sources.columns"
        else:
            made.left[f"{name}.{key}"] = "say it in the recipe, where it has such a key"


def of_llama_factory(made: Translation, beside: Path) -> tuple[list[dict], bool]:
    folder = Path(str(made.source.get("dataset_dir", "data")))
    index = read_index(beside / folder / "dataset_info.json") or read_index(
        folder / "dataset_info.json"
    )
    is_text = str(made.source.get("stage", "sft")) == "pt"
    sources = []
    for name in made.names("dataset"):
        entry = index.get(name) if isinstance(index.get(name), dict) else {}
        source = {"path": str(folder / str(entry.get("file_name", f"{name}.json")))}
        if not is_text and entry:
            source["format"] = LAYOUTS.get(str(entry.get("formatting", "alpaca")), "auto")
        for key in set(entry) - {"file_name", "formatting"}:
            made.left[f"dataset_info.{name}.{key}"] = "say it in the recipe: columns, or format"
        sources.append(source)
    for key in ("dataset", "dataset_dir"):
        if made.has(key):
            made.done[key] = "sources of the recipe"
    for key in ("mix_strategy", "interleave_probs"):
        made.leave(key, "prepare the data sets apart, and give their shards weights in data.train")
    made.leave("enable_thinking", "set template_kwargs: {enable_thinking: ...} in the recipe")
    return sources, is_text


def read_index(path: Path) -> dict:
    """LLaMA-Factory's list of data sets; empty if it is not there."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def of_trl(made: Translation, _: Path) -> tuple[list[dict], bool]:
    made.leave("dataset_train_split", "name the files of that split in the recipe")
    if not made.has("dataset_name"):
        return [], False
    made.done["dataset_name"] = "sources of the recipe"
    return [{"path": str(made.source["dataset_name"])}], False


READERS = {"axolotl": of_axolotl, "llama-factory": of_llama_factory, "trl": of_trl}
