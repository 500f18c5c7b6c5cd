# SPDX-License-Identifier: Apache-2.0
"""Which method of ours theirs is, and the options of LoRA."""

from temper_data.errors import DataError, printable

from .tables import LORA_DEFAULTS, OTHER_METHOD
from .translation import Translation, to_number

ADAPTER_KEYS = ("lora.", "quantise.", "adapter.")
PEFT_DEFAULT = ["q_proj", "v_proj"]  # Of the families that temper has.


def translate_method(made: Translation, kind: str) -> None:
    """Raises DataError for a stage or a method that temper does not have."""
    word, keys, is_four_bit = READERS[kind](made)
    if word not in ("full", "lora"):
        raise DataError(f"the method is {printable(word)}, {OTHER_METHOD}", "choose another one")
    method = "qlora" if word == "lora" and is_four_bit else word
    made.config["method"] = method
    for key in keys:
        if made.has(key):
            made.done[key] = "method"
    if method == "full" and is_four_bit:
        for key in ("load_in_4bit", "quantization_bit"):
            made.leave(key, "four bits are for an adapter: set method to qlora")
    if method == "full":
        drop_adapter_options(made)
        return
    for key, value in LORA_DEFAULTS[kind].items():
        made.config.setdefault(key, value)
    if kind == "llama-factory":
        made.config.setdefault("lora.alpha", 2 * made.config["lora.rank"])
    translate_targets(made)
    translate_start(made)
    translate_quantisation(made, method)


def drop_adapter_options(made: Translation) -> None:
    for key, ours in list(made.done.items()):
        if ours.startswith(ADAPTER_KEYS):
            del made.done[key]
            made.leave(key, "it has no effect: the method is full")
    for ours in [key for key in made.config if key.startswith(ADAPTER_KEYS)]:
        del made.config[ours]
    for key in LORA_KEYS:
        made.leave(key, "it has no effect: the method is full")


def of_axolotl(made: Translation) -> tuple[str, tuple, bool]:
    if made.source.get("rl"):
        raise DataError(f"rl is {printable(str(made.source['rl']))}, which temper does not have",
                        "translate a configuration of pretraining or SFT")  # fmt: skip
    word = str(made.source.get("adapter", "full"))
    is_four_bit = made.flag("load_in_4bit") or word == "qlora"
    return ("lora" if word == "qlora" else word), ("adapter", "load_in_4bit", "rl"), is_four_bit


def of_llama_factory(made: Translation) -> tuple[str, tuple, bool]:
    stage = str(made.source.get("stage", "sft"))
    if stage not in ("pt", "sft"):
        raise DataError(f"stage is {printable(stage)}, which temper does not have: pt and sft",
                        "translate a configuration of pretraining or SFT")  # fmt: skip
    bits = made.number("quantization_bit")
    if bits not in (None, 4):
        made.leave("quantization_bit", "of quantised bases temper has four bits (method qlora)")
    keys = ("stage", "finetuning_type") + (("quantization_bit",) if bits == 4 else ())
    return str(made.source.get("finetuning_type", "lora")), keys, bits == 4


def of_trl(made: Translation) -> tuple[str, tuple, bool]:
    word = "lora" if made.flag("use_peft") else "full"
    return word, ("use_peft", "load_in_4bit"), made.flag("load_in_4bit")


READERS = {"axolotl": of_axolotl, "llama-factory": of_llama_factory, "trl": of_trl}
TARGET_KEYS = ("lora_target", "lora_target_modules")
SAVED_KEYS = ("additional_target", "lora_modules_to_save")
LAYER_KEYS = ("peft_layers_to_transform", "lora_layers_to_transform")
LORA_KEYS = (
    *TARGET_KEYS, *SAVED_KEYS, *LAYER_KEYS, "lora_target_linear", "peft_init_lora_weights",
    "pissa_init", "pissa_iter", "bnb_4bit_quant_type", "use_bnb_nested_quant",
    "quantization_type", "double_quantization",
)  # fmt: skip


def translate_targets(made: Translation) -> None:
    names, found = [], False
    for key in TARGET_KEYS:
        if made.has(key):
            names, found = names + made.names(key), True
            made.done[key] = "lora.targets"
    if made.has("lora_target_linear"):
        found = found or made.flag("lora_target_linear")
        names += ["all-linear"] * made.flag("lora_target_linear")
        made.done["lora_target_linear"] = "lora.targets"
    names = ["all-linear" if name == "all" else name for name in names]
    if "all-linear" in names:
        names = ["all-linear"]
    is_llama_factory = "finetuning_type" in made.source or "cutoff_len" in made.source
    made.config["lora.targets"] = names or (["all-linear"] if is_llama_factory else PEFT_DEFAULT)
    if not found:
        made.notes.append("lora.targets is the default of theirs, since the file names none")
    for key in SAVED_KEYS:
        if made.has(key):
            made.put(key, "lora.modules_to_save", made.names(key))
    for key in LAYER_KEYS:
        if made.has(key):
            made.put(key, "lora.layers", [int(to_number(key, name)) for name in made.names(key)])


def translate_start(made: Translation) -> None:
    init = str(made.source.get("peft_init_lora_weights", "true")).lower()
    if made.flag("pissa_init") or init.startswith("pissa"):
        made.config["lora.init"] = "pissa"
        rounds = made.number("pissa_iter", 16 if made.has("pissa_init") else 0)
        if "_niter_" in init:
            rounds = to_number("peft_init_lora_weights", init.rsplit("_", 1)[1])
        made.config["lora.pissa_niter"] = max(0, int(rounds))
    elif init in ("true", "gaussian"):
        made.config["lora.init"] = "gaussian" if init == "gaussian" else "kaiming"
    else:
        made.leave("peft_init_lora_weights", "temper begins by kaiming, gaussian or pissa")
    for key in ("pissa_init", "pissa_iter", "peft_init_lora_weights"):
        if made.has(key) and key not in made.left:
            made.done[key] = "lora.init"


def translate_quantisation(made: Translation, method: str) -> None:
    kinds = ("bnb_4bit_quant_type", "quantization_type")
    doubles = ("use_bnb_nested_quant", "double_quantization")
    if method == "lora":
        for key in (*kinds, *doubles):
            made.leave(key, "it has no effect: the base is not quantised")
        return
    made.config["quantise.type"] = next(
        (str(made.source[key]) for key in kinds if made.has(key)), "nf4"
    )
    # TRL's default is single; Axolotl and LLaMA-Factory quantise the scales, too.
    default = "use_peft" not in made.source
    made.config["quantise.double"] = next(
        (made.flag(key) for key in doubles if made.has(key)), default
    )
    for keys, ours in ((kinds, "quantise.type"), (doubles, "quantise.double")):
        made.done.update({key: ours for key in keys if made.has(key)})
