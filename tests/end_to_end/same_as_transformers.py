# SPDX-License-Identifier: Apache-2.0
"""Twenty training steps of tiny models of each family, beside transformers and torch's AdamW.

Every step sees the same four documents, so the order of rows does not matter. Compared are loss,
gradient norm and learning rate of each step, and every weight after the last.
"""

import dataclasses
import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import workspace
from torch.nn.functional import cross_entropy
from safetensors.torch import load_file, save_file
from transformers import (
    CONFIG_MAPPING,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    get_linear_schedule_with_warmup,
)

sys.path.insert(0, str(workspace.ROOT / "datasets"))
sys.path.insert(0, str(workspace.ROOT / "tests" / "support"))
import family_files  # noqa: E402
import family_results  # noqa: E402
import tiny_families  # noqa: E402
from temper_data.shard_writer import ShardIdentity, ShardWriter  # noqa: E402

ROWS, LENGTH, VOCABULARY, STEPS, WARMUP = 4, 48, 131, 20, 4
NUM_NEW_TOKENS = 32
LEARNING_RATE, WEIGHT_DECAY, MAX_NORM = 3e-3, 0.1, 0.2

SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
# As publishers leave them in config.json; no code of the family looks at them.
EXTRAS = {
    "activation": "swiglu",
    "finetuning_task": "chat",
    "model_name": "a model",
    "num_nextn_predict_layers": 1,
    "resid_pdrop": 0.1,
    "transformers.js_config": {"dtype": "q4"},
    "unsloth_fixed": True,
}
FAMILIES = {
    "llama_tied": LlamaConfig(**SIZES, **EXTRAS, tie_word_embeddings=True),
    "llama_biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "llama3_scaling": LlamaConfig(**SIZES, rope_parameters=LLAMA3),
    "mistral_window": MistralConfig(**SIZES, sliding_window=16),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, head_dim=32),
}

# One of each kind of block, norm, scale and table: see the cases that are in none.
TINY = {
    "gemma2": "gemma2, tight bounds",
    "gemma3_text": "gemma3_text, windows with positions of their own",
    "granite": "granite",
    "nemotron": "nemotron",
    "phi3": "phi3, window",
    "olmo2": "olmo2",
    "cohere2": "cohere2, windows",
    "gpt2": "gpt2",
    "gpt_neox": "gpt_neox",
    "phi": "phi",
    "falcon": "falcon, new",
    "olmo": "olmo, tied",
    "exaone": "exaone",
    "gemma3": "gemma3, with a part that sees",
    "mistral3": "mistral3, with a part that sees",
    "qwen3_moe": "qwen3_moe, a dense layer, weights renormalised",
    "qwen2_moe": "qwen2_moe, experts in each second layer",
    "mixtral": "mixtral",
    "olmoe": "olmoe",
    "granitemoeshared": "granitemoeshared",
    "gpt_oss": "gpt_oss, windows, narrow bounds",
    "glm4_moe": "glm4_moe, groups, norms of heads",
}
# The families whose blocks are made of what is in those above.
OF_KNOWN_PARTS = {
    "internlm3": "internlm3, biases",
    "ministral": "ministral, windows",
    "ministral3": "ministral3, growing queries",
    "smollm3": "smollm3, without positions in the second layer",
    "ernie4_5": "ernie4_5",
    "gemma": "gemma",
    "starcoder2": "starcoder2, window",
    "arcee": "arcee, yarn",
    "olmo3": "olmo3, yarn where attention is full",
    "glm": "glm",
    "glm4": "glm4, no biases",
    "exaone4": "exaone4, windows",
    "cohere": "cohere",
    "stablelm": "stablelm",
    "hunyuan_v1_dense": "hunyuan_v1_dense, stretched base",
    "granitemoe": "granitemoe, balanced",
}
for name, case in (TINY | OF_KNOWN_PARTS).items():
    model_type, changes = tiny_families.CASES[case]
    sizes = dict(vocab_size=VOCABULARY, max_position_embeddings=128)
    if "output_router_logits" in changes:
        sizes["output_router_logits"] = False  # The reference's loss asks for no balance.
    if model_type in CONFIG_MAPPING:  # The one that adapters needs is older.
        FAMILIES[name] = tiny_families.make_config(model_type, changes | sizes)

CONFIG = """\
run: {{folder: {folder}}}
model: {{path: {model}, dtype: float32}}
data:
  train: [{{path: {shard}}}]
  sequence_length: {length}
  global_batch: {rows}
  micro_batch: 1
train: {{max_steps: {steps}, max_grad_norm: {max_norm}}}
optimizer: {{learning_rate: {rate}, beta2: 0.95, weight_decay: {decay}}}
schedule: {{name: linear, warmup_steps: {warmup}}}
checkpoint: {{model_dtype: float32}}
"""


def write_shard(path: Path, tokens: np.ndarray, tokenizer: Path) -> None:
    """One document per row."""
    digest = hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    path.unlink(missing_ok=True)
    with ShardWriter(path, ShardIdentity("pretrain", VOCABULARY, digest, "", 2)) as writer:
        writer.append(tokens.astype("<u2").ravel(), np.full(ROWS, LENGTH), None)
        writer.publish("{}")


def write_base(folder: Path, config) -> torch.nn.Module:
    """Saves a random model in `model`; its weights are larger than by default: gradients matter."""
    torch.manual_seed(3)
    model = tiny_families.make_model(config).float()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.08)
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("_correction_bias"):
            torch.nn.init.normal_(buffer, std=0.1)
    model.save_pretrained(folder / "model")
    (folder / "model" / "tokenizer.json").write_text('{"model": {}}')
    return model


def mean_loss(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Over all tokens but the first of each row."""
    logits = model(input_ids=tokens).logits[:, :-1]
    return cross_entropy(logits.reshape(-1, VOCABULARY), tokens[:, 1:].reshape(-1))


def in_no_group(_: str) -> tuple[float, float | None]:
    return 1.0, None


class Hooks:
    """What a reference does beside its steps; this one does nothing."""

    weight = 0.0  # Of the divergence.

    def divergence(self, model: torch.nn.Module) -> torch.Tensor | None:
        """What comes to the loss with that weight."""

    def before_update(self, rates: dict[torch.nn.Parameter, float]) -> None:
        """`rates` are those of this step."""

    def after_update(self) -> None:
        pass

    def finish(self) -> None:
        """Leaves the result in the model."""


def train_in_transformers(
    model: torch.nn.Module,
    loss_of: Callable,
    decay: float = WEIGHT_DECAY,
    group_of: Callable[[str], tuple[float, float | None]] = in_no_group,
    hooks: Hooks | None = None,
) -> list[dict]:
    """The reference: gradients of the mean over all targets, clipped, decoupled decay.

    `group_of` a parameter's name: what its rate is a multiple of, and its decay. Without one it is
    as in transformers' Trainer: biases and the weights of norms do not decay.
    """
    hooks = hooks or Hooks()
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    trained = list(named.values())
    groups = {}
    for name, parameter in named.items():
        ratio, own_decay = group_of(name)
        decays = (parameter.ndim > 1 and not name.endswith("bias")) or "magnitude" in name
        own_decay = own_decay if own_decay is not None else decay if decays else 0.0
        groups.setdefault((ratio, own_decay), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": members, "lr": LEARNING_RATE * ratio, "weight_decay": own_decay}
            for (ratio, own_decay), members in groups.items()
        ],
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    schedule = get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
    schedule.step()  # Ours warms up one step ahead, and then stays a step at the peak.
    first_ratio = next(iter(groups))[0]
    steps = []
    for step in range(1, STEPS + 1):
        loss = loss_of(model)
        divergence = hooks.divergence(model)
        (loss if divergence is None else loss + hooks.weight * divergence).backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, MAX_NORM)
        rate = schedule.get_last_lr()[0] / first_ratio
        steps.append({"loss": loss.item(), "grad_norm": norm.item(), "learning_rate": rate})
        if divergence is not None:
            steps[-1]["kl"] = divergence.item()
        hooks.before_update({p: g["lr"] for g in optimizer.param_groups for p in g["params"]})
        optimizer.step()
        hooks.after_update()
        optimizer.zero_grad()
        if step != WARMUP:
            schedule.step()
    hooks.finish()
    return steps


def assert_same_steps(name: str, found: list[dict], expected: list[dict]) -> None:
    for step, (ours, theirs) in enumerate(zip(found, expected, strict=True), start=1):
        for key, value in theirs.items():
            assert np.isclose(ours[key], value, rtol=1e-4, atol=1e-9), (
                f"{name}, step {step}: {key} is {ours[key]}, the reference has {value}"
            )
    print(f"{name}: {len(expected)} steps agree, last loss {found[-1]['loss']:.5f}")


@dataclasses.dataclass
class Part:
    """What of a model is trained, and how, beside the whole at one rate."""

    overrides: tuple[str, ...] = ()
    is_trained: Callable[[str], bool] = lambda _: True
    group_of: Callable[[str], tuple[float, float | None]] = in_no_group
    has_small_gradients: bool = False  # They are never clipped.
    hooks_of: Callable[[torch.nn.Module, torch.Tensor], Hooks] = lambda model, tokens: Hooks()


def write_run(folder: Path, tokens: np.ndarray) -> Path:
    """A shard for the model in `folder`, and a configuration."""
    write_shard(folder / "train.h5", tokens, folder / "model" / "tokenizer.json")
    config_file = folder / "run.yaml"
    config_file.write_text(
        CONFIG.format(
            folder=folder / "run",
            model=folder / "model",
            shard=folder / "train.h5",
            length=LENGTH,
            rows=ROWS,
            steps=STEPS,
            max_norm=MAX_NORM,
            rate=LEARNING_RATE,
            decay=WEIGHT_DECAY,
            warmup=WARMUP,
        )
    )
    return config_file


def check_family(name: str, config, part: Part | None = None) -> Path:
    """Trains one family both ways and compares; returns its folder. Raises AssertionError."""
    part = part or Part()
    folder = workspace.FOLDER / "families" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = write_base(folder, config)
    rename_tensors(name, folder / "model")
    tokens = np.random.default_rng(5).integers(0, VOCABULARY, (ROWS, LENGTH))
    config_file = write_run(folder, tokens)
    workspace.run(2, "train", config_file, *part.overrides)
    tokens = torch.from_numpy(tokens)
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(part.is_trained(parameter_name))
    expected = train_in_transformers(
        model, lambda model: mean_loss(model, tokens), group_of=part.group_of,
        hooks=part.hooks_of(model, tokens),
    )  # fmt: skip
    assert_same_steps(name, workspace.step_lines(config_file), expected)
    is_clipped = any(step["grad_norm"] > MAX_NORM for step in expected)
    assert is_clipped or part.has_small_gradients, "clipping never binds"
    final, report = family_files.open_model(
        folder / "run" / "final", dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values()), report
    files = [folder / place / "config.json" for place in ("model", "run/final")]
    assert files[0].read_bytes() == files[1].read_bytes()
    check_passed_on(name, folder)
    for (parameter_name, ours), theirs in zip(
        final.named_parameters(), model.parameters(), strict=True
    ):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=2e-4), f"{name}: {parameter_name}"
    return folder


# How tensors are called in files that others have published or saved: OpenAI, older transformers.
OTHER_NAMES = {
    "gpt2": [("transformer.", "")],
    "mistral3": [
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head.", "lm_head."),
        ("vision_tower.", "model.vision_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
    ],
}

MASK = "h.0.attn.bias"  # That its files have, and nobody reads.


def rename_tensors(name: str, model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    for old, new in OTHER_NAMES.get(name, []):
        tensors = {
            (new + key[len(old) :] if key.startswith(old) else key): value
            for key, value in tensors.items()
        }
    if name == "gpt2":
        tensors[MASK] = torch.ones(1, 1, 8, 8).tril()
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def all_tensors(folder: Path) -> dict[str, torch.Tensor]:
    parts = [load_file(path) for path in folder.glob("*.safetensors")]
    return {key: tensor for part in parts for key, tensor in part.items()}


def check_passed_on(name: str, folder: Path) -> None:
    """Files have the names that they had, in an export, too, and what does not read text has its
    bytes."""
    export = folder / "export"
    workspace.output(1, "export", folder / "run/checkpoints/latest", export)
    before, *others = map(all_tensors, (folder / "model", folder / "run" / "final", export))
    before.pop(MASK, None)
    for after in others:
        assert before.keys() == after.keys(), f"{name}: {before.keys() ^ after.keys()}"
        for key, tensor in before.items():
            if any(part in key for part in ("vision", "multi_modal", "correction_bias")):
                assert torch.equal(tensor.view(torch.uint8), after[key].view(torch.uint8)), key


def check_answers(name: str, folder: Path) -> None:
    """Greedy decoding of what was trained, by its caches, beyond windows."""
    final = folder / "run" / "final"
    model = family_files.open_model(final, dtype=torch.float32)
    prompt = list(range(3, 20))
    options = ("--max-new-tokens", NUM_NEW_TOKENS, "--dtype", "float32")
    prompts = folder / "prompts.txt"
    prompts.write_text(",".join(map(str, prompt)) + "\n")
    answer = workspace.output(1, "generate", final, "--prompts", prompts, *options)
    ends = model.config.get_text_config().eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    expected = model.generate(
        torch.tensor([prompt]), max_new_tokens=NUM_NEW_TOKENS, do_sample=False, eos_token_id=None
    )[0, len(prompt) :].tolist()
    assert not set(expected) & set(ends), f"{name}: the answer ends early"
    assert [int(token) for token in answer.split(",")] == expected, name


def main() -> None:
    columns = ("training and saving", "greedy answers")
    family_results.forget(columns, {config.model_type for config in FAMILIES.values()})
    for name, config in FAMILIES.items():
        folder = check_family(name, config)
        family_results.record(columns[0], config.model_type, f"{STEPS} steps")
        check_answers(name, folder)
        family_results.record(columns[1], config.model_type, f"{NUM_NEW_TOKENS} tokens")


if __name__ == "__main__":
    main()
