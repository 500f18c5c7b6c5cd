# SPDX-License-Identifier: Apache-2.0
"""A configuration of another trainer as a whole: read, recognised, translated, written."""

import difflib
import json
from pathlib import Path

import yaml
from temper_data.errors import DataError, printable
from temper_data.yaml_tree import one_line, read_bounded

from .data import translate_data
from .method import translate_method
from .parts import (
    NAMES, refuse_other_methods, translate_batch, translate_evaluation, translate_length,
    translate_optimizer, translate_parallel, translate_precision, translate_saves,
    translate_schedule, translate_seeds,
)  # fmt: skip
from .tables import DEFAULTS, TABLES
from .translation import Translation

LLAMA_FACTORY_KEYS = {"stage", "finetuning_type", "template", "cutoff_len", "dataset_dir"}
# The order of sections and keys in what is written.
SECTIONS = (
    "run", "model", "method", "adapter", "lora", "quantise", "data", "train", "early_stop",
    "optimizer", "schedule", "parallel", "checkpoint",
)  # fmt: skip


def read_source(path: Path) -> dict:
    """YAML or JSON. Raises DataError."""
    data = read_bounded(path)
    try:
        source = json.loads(data) if path.suffix == ".json" else yaml.safe_load(data)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        said = one_line(error) if isinstance(error, yaml.YAMLError) else str(error)
        raise DataError(f"{path} cannot be read: {printable(said)}", "correct the file") from error
    if not isinstance(source, dict):
        raise DataError(f"{path} holds no keys", "name a configuration of Axolotl, LLaMA-Factory "
                        "or TRL, as YAML or JSON")  # fmt: skip
    return {str(key): value for key, value in source.items() if value is not None}


def recognise(path: Path, source: dict) -> str:
    """Raises DataError."""
    if "base_model" in source:
        return "axolotl"
    if LLAMA_FACTORY_KEYS & source.keys():
        return "llama-factory"
    if "model_name_or_path" in source or "per_device_train_batch_size" in source:
        return "trl"
    raise DataError(
        f"{path} has none of the keys by which trainers are told apart: base_model (Axolotl), "
        "stage or finetuning_type (LLaMA-Factory), model_name_or_path (TRL)",
        "say whose it is: --from axolotl, llama-factory or trl",
    )


def translate(source: dict, kind: str, beside: Path, num_devices: int) -> Translation:
    """Every key of `source` is in `done` or in `left` of what is returned. Raises DataError."""
    made, names = Translation(source), NAMES[kind]
    for ours, value in DEFAULTS[kind].items():
        made.config[ours] = value
    for key in source:
        if key in TABLES[kind]:
            TABLES[kind][key].apply(key, made)
        else:
            near = difflib.get_close_matches(key, TABLES[kind], 1, 0.85)
            made.leave(key, f"not known here; is it {near[0]}?" if near else "not known here")
    translate_batch(made, names, num_devices)
    translate_length(made, names)
    translate_schedule(made, names)
    translate_optimizer(made, names)
    translate_precision(made, names)
    translate_parallel(made)
    translate_method(made, kind)
    refuse_other_methods(made)
    translate_seeds(made)
    translate_saves(made, names)
    translate_evaluation(made, translate_data(made, kind, beside))
    if not made.has({"axolotl": "base_model"}.get(kind, "model_name_or_path")):
        made.config["model.path"] = "MODEL"
    if not Path(str(made.config["model.path"])).is_dir():
        made.notes.append(
            f"model.path is {made.config['model.path']}, which is no folder here: fetch the model, "
            "such as by huggingface-cli download --local-dir"
        )
    for key in source.keys() - made.done.keys() - made.left.keys():
        made.leave(key, "it has no effect beside the other keys")
    made.done = {key: ours for key, ours in made.done.items() if key not in made.left}
    return made


def write_config(made: Translation) -> str:
    """As a file of ours."""
    root: dict = {}
    order = sorted(made.config, key=lambda key: SECTIONS.index(key.split(".")[0]))
    for key in order:
        section, _, name = key.partition(".")
        if name:
            root.setdefault(section, {})[name] = made.config[key]
        else:
            root[section] = made.config[key]
    return to_yaml(root)


def to_yaml(value) -> str:
    return yaml.dump(value, Dumper=Writer, sort_keys=False, allow_unicode=True, width=1000)


class Writer(yaml.SafeDumper):
    """Numbers with as many digits as they were written with."""

    def represent_float(self, value: float) -> yaml.Node:
        text = f"{value:.12g}"
        if "." not in text:  # Else it would need a tag, or be a whole number, in YAML 1.1.
            text = text.replace("e", ".0e") if "e" in text else f"{text}.0"
        return self.represent_scalar("tag:yaml.org,2002:float", text)


Writer.add_representer(float, Writer.represent_float)
