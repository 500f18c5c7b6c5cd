# SPDX-License-Identifier: Apache-2.0
"""What hangs on several keys of theirs: batches, length, schedule, optimizer, precision, saves."""

import re
from dataclasses import dataclass

from .tables import OTHER_METHOD, PRECISION, RESUME, STEPS
from .translation import Translation, to_number, whole

HOLDOUT = "validation"  # the name of ours
OPTIMIZERS = {
    "float32": ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused",
                "paged_adamw_32bit", "paged_adamw", "adamw_torch_npu_fused", "adamw_torch_xla"),
    "int8": ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "adamw_torch_8bit"),
}  # fmt: skip
SCHEDULES = {
    "linear": "linear", "cosine": "cosine", "constant": "constant",
    "constant_with_warmup": "constant", "cosine_with_min_lr": "cosine",
    "warmup_stable_decay": "wsd",
}  # fmt: skip


@dataclass(frozen=True)
class Names:
    """Their keys, and their defaults, of what all three have."""

    micro_batch: str = "per_device_train_batch_size"
    epochs: str = "num_train_epochs"
    optimizer: str = "optim"
    schedule: str = "lr_scheduler_type"
    default_schedule: str = "linear"
    default_micro_batch: int = 8
    default_epochs: float = 3
    default_save_steps: int = 500
    default_bfloat16: bool = False


NAMES = {
    "trl": Names(default_bfloat16=True),
    "llama-factory": Names(),
    "axolotl": Names("micro_batch_size", "num_epochs", "optimizer", "lr_scheduler", "cosine", 1, 1,
                     0, True),
}  # fmt: skip


def translate_batch(made: Translation, names: Names, num_devices: int) -> None:
    """Theirs is per device; ours is of all ranks together."""
    micro = int(made.number(names.micro_batch, names.default_micro_batch))
    times = int(made.number("gradient_accumulation_steps", 1))
    if made.has("batch_size") and not made.has("gradient_accumulation_steps"):
        times = max(1, int(made.number("batch_size")) // micro)
    made.put(names.micro_batch if made.has(names.micro_batch) else "", "data.micro_batch", micro)
    for key in ("gradient_accumulation_steps", "batch_size"):
        if made.has(key):
            made.done[key] = "data.global_batch"
    made.config["data.global_batch"] = micro * times * num_devices
    made.notes.append(
        f"data.global_batch is {micro} rows x {times} x {num_devices} devices: say how many there "
        "were with --devices"
    )


def translate_length(made: Translation, names: Names) -> None:
    steps = made.number("max_steps", -1)
    if steps > 0:
        made.put("max_steps", "train.max_steps", int(steps))
        made.leave(names.epochs, "max_steps goes before it")
        return
    if made.has("max_steps"):
        made.done["max_steps"] = "train.epochs"
    epochs = made.number(names.epochs, names.default_epochs)
    made.put(names.epochs if made.has(names.epochs) else "", "train.epochs", whole(epochs))


def translate_schedule(made: Translation, names: Names) -> None:
    key, theirs = names.schedule, str(made.source.get(names.schedule, names.default_schedule))
    if theirs not in SCHEDULES:
        made.leave(key, "temper has constant, linear, cosine and wsd; cosine stands there now")
    ours = SCHEDULES.get(theirs, "cosine")
    made.put(key if theirs in SCHEDULES and made.has(key) else "", "schedule.name", ours)
    translate_warmup(made, theirs)
    options = made.source.get("lr_scheduler_kwargs")
    options = options if isinstance(options, dict) else {}
    floor = made.source.get("cosine_min_lr_ratio", options.get("min_lr_rate"))
    if floor is not None and ours != "constant":
        made.config["schedule.floor_ratio"] = whole(to_number(key, floor))
        made.done.update({k: "schedule.floor_ratio" for k in ("cosine_min_lr_ratio",)
                          if made.has(k)})  # fmt: skip
    if made.has("lr_scheduler_kwargs"):
        unread = set(options) - {"min_lr_rate"} or (set() if floor is not None else {"its values"})
        if unread:
            made.leave("lr_scheduler_kwargs", f"not known here: {', '.join(sorted(unread))}")
        else:
            made.done["lr_scheduler_kwargs"] = "schedule.floor_ratio"


def translate_warmup(made: Translation, schedule: str) -> None:
    """Steps go before a ratio; since transformers 5 a number of steps below 1 is a ratio."""
    steps, ratio = made.number("warmup_steps", 0), made.number("warmup_ratio", 0)
    if schedule == "constant":
        made.leave("warmup_steps", "the schedule constant of theirs has no warm-up")
        made.leave("warmup_ratio", "the schedule constant of theirs has no warm-up")
    elif steps >= 1:
        made.put("warmup_steps", "schedule.warmup_steps", int(steps))
        made.leave("warmup_ratio", "warmup_steps goes before it")
    else:
        made.config["schedule.warmup_ratio"] = whole(steps or ratio)
        for key in ("warmup_steps", "warmup_ratio"):
            if made.has(key):
                made.done[key] = "schedule.warmup_ratio"


def translate_optimizer(made: Translation, names: Names) -> None:
    if not made.has(names.optimizer):
        return
    theirs = str(made.source[names.optimizer])
    for ours, known in OPTIMIZERS.items():
        if theirs in known:
            made.put(names.optimizer, "optimizer.state_dtype", ours)
            return
    made.leave(names.optimizer, "temper has AdamW; look at the learning rate before you start")


def translate_precision(made: Translation, names: Names) -> None:
    wanted = made.source.get("bf16", made.source.get("bfloat16", names.default_bfloat16))
    word = "auto" if str(wanted).lower() == "auto" else "float32"
    word = "bfloat16" if str(wanted).lower() in ("true", "full") else word
    for key in ("fp16", "float16"):
        if made.has(key) and str(made.source[key]).lower() == "true":
            made.leave(key, PRECISION)
            word = "bfloat16"
        elif made.has(key):
            made.done[key] = "model.dtype"
    for key in ("bf16", "bfloat16"):
        if made.has(key):
            made.done[key] = "model.dtype"
    for key in ("dtype", "torch_dtype"):
        made.leave(key, "the weights' own: temper keeps master weights in float32")
    made.leave("pure_bf16", "temper keeps master weights in float32")
    made.config["model.dtype"] = word


def translate_saves(made: Translation, names: Names) -> None:
    strategy = str(made.source.get("save_strategy", "steps"))
    steps = made.number("save_steps", names.default_save_steps)
    if strategy == "steps" and steps >= 1:
        made.put("save_steps" if made.has("save_steps") else "", "checkpoint.every_steps",
                 int(steps))  # fmt: skip
    else:
        made.leave("save_steps", STEPS)
    if strategy in ("steps", "no"):
        made.done.update({"save_strategy": "checkpoint.every_steps"} if made.has("save_strategy")
                         else {})  # fmt: skip
    else:
        made.leave("save_strategy", STEPS)
    made.leave("resume_from_checkpoint", RESUME)


def translate_evaluation(made: Translation, has_holdout: bool) -> None:
    key = "evaluation_strategy" if made.has("evaluation_strategy") else "eval_strategy"
    strategy = str(made.source.get(key, "steps" if made.has("eval_steps") else "no"))
    steps = made.number("eval_steps", made.number("logging_steps", 500))
    if not has_holdout:
        for name in (key, "eval_steps", "do_eval"):
            made.leave(name, "no evaluation set is named: add data.holdout")
    elif strategy == "steps" and steps >= 1:
        made.config["train.evaluate_every_steps"] = int(steps)
        for name in (key, "eval_steps", "do_eval"):
            if made.has(name):
                made.done[name] = "train.evaluate_every_steps"
    else:
        for name in (key, "eval_steps", "do_eval"):
            made.leave(name, "temper evaluates before and after the run, and every so many steps")
    translate_best(made, "train.evaluate_every_steps" in made.config)


def translate_best(made: Translation, is_measured: bool) -> None:
    """`is_measured`: a hold-out is, every so many steps."""
    is_best = made.flag("load_best_model_at_end")
    metric = str(made.source.get("metric_for_best_model", "loss"))
    if is_measured and is_best and metric in ("loss", "eval_loss"):
        made.put("load_best_model_at_end", "checkpoint.final", "best")
        made.config["checkpoint.keep_best"] = HOLDOUT
        made.done.update({"metric_for_best_model": "checkpoint.keep_best"}
                         if made.has("metric_for_best_model") else {})  # fmt: skip
    elif not is_best and made.has("load_best_model_at_end"):
        made.done["load_best_model_at_end"] = "checkpoint.final"
    for key in ("load_best_model_at_end", "metric_for_best_model"):
        if key not in made.done:
            made.leave(key, "the best is by the loss on a hold-out that is evaluated every so many "
                            "steps: checkpoint.keep_best")  # fmt: skip
    for key in ("early_stopping_patience", "early_stopping_steps"):
        if is_measured and made.has(key):
            made.put(key, "early_stop.patience", int(made.number(key)))
            made.config["early_stop.holdout"] = HOLDOUT
        else:
            made.leave(key, "it takes a hold-out that is evaluated every so many steps")


def translate_parallel(made: Translation) -> None:
    """DeepSpeed's stage from the name of its file, as all three name them, or from its map."""
    told = made.source.get("deepspeed")
    if isinstance(told, dict):
        zero = told.get("zero_optimization")
        stage = zero.get("stage") if isinstance(zero, dict) else None
    else:
        found = re.search(r"(?:zero|z|ds)[-_]?([0-3])", str(told or "").lower())
        stage = int(found[1]) if found else None
    if stage in (0, 1, 2, 3):
        made.put("deepspeed", "parallel.stage", stage)
    else:
        made.leave("deepspeed", "no ZeRO stage in it: set parallel.stage")
    if made.source.get("fsdp") or made.source.get("fsdp_config"):
        text = f"{made.source.get('fsdp')} {made.source.get('fsdp_config')}".lower()
        made.config["parallel.stage"] = 2 if "grad_op" in text else 3
        made.done.update({k: "parallel.stage" for k in ("fsdp", "fsdp_config") if made.has(k)})
    else:
        made.leave("fsdp", "it is empty")
        made.leave("fsdp_config", "it is empty")
    if made.has("use_cpu") and made.flag("use_cpu"):
        made.put("use_cpu", "model.device", "cpu")
    if made.has("gradient_checkpointing"):
        is_on = str(made.source["gradient_checkpointing"]).lower() in ("true", "offload", "unsloth")
        made.put("gradient_checkpointing", "train.recompute", is_on)


def translate_seeds(made: Translation) -> None:
    seed = int(made.number("data_seed", made.number("seed", 42)))
    made.config["data.seed"] = seed
    for key in ("data_seed", "seed"):
        if made.has(key):
            made.done[key] = "data.seed"
    if made.config.get("method", "full") != "full":
        made.config["adapter.seed"] = int(made.number("seed", 42))


def refuse_other_methods(made: Translation) -> None:
    """What is of no method of ours, and not said by a key of the table."""
    for key in ("quantization_method",):
        if str(made.source.get(key, "bnb")) not in ("bnb", "bitsandbytes"):
            made.leave(key, OTHER_METHOD)
        elif made.has(key):
            made.done[key] = "method"
