# SPDX-License-Identifier: Apache-2.0
"""What holds a model to where it began, beside plain PyTorch.

L2-SP, the divergence from the start model, the moving mean of the weights and rates by depth: each
for a family, all together, and the two that adapters have beside peft. The result of a run with a
mean is the mean.
"""

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lora_same_as_peft as lora
import peft
import same_as_transformers as full
import torch
from safetensors.torch import load_file
from torch.nn.functional import kl_div, log_softmax

STRENGTH, DECAY, WEIGHT, TEMPERATURE, LAYER_DECAY = 20.0, 0.9, 0.5, 2.0, 0.6
NUM_LAYERS = 2
PULL = f"train.l2_sp={STRENGTH}"
MEAN = f"train.ema.decay={DECAY}"
NEAR = f"train.kl={{weight: {WEIGHT}, temperature: {TEMPERATURE}}}"
BY_DEPTH = f"train.layer_decay={LAYER_DECAY}"


def log_distributions(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Of all targets, [n, vocabulary]."""
    logits = model(input_ids=tokens).logits[:, :-1].reshape(-1, full.VOCABULARY)
    return log_softmax(logits / TEMPERATURE, 1)


class Holding(full.Hooks):
    """Does what the overrides of a run say."""

    def __init__(self, overrides: tuple[str, ...], model: torch.nn.Module, tokens: torch.Tensor):
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.start = [p.detach().clone() for p in self.parameters]
        self.mean = [p.detach().clone() for p in self.parameters]
        self.has = {option: option in overrides for option in (PULL, MEAN, NEAR)}
        self.weight, self.tokens = WEIGHT, tokens
        if self.has[NEAR] and not isinstance(model, peft.PeftModel):
            self.other = copy.deepcopy(model)

    @contextmanager
    def start_of(self, model: torch.nn.Module) -> Iterator[torch.nn.Module]:
        if isinstance(model, peft.PeftModel):
            with model.disable_adapter():
                yield model
        else:
            yield self.other

    def divergence(self, model: torch.nn.Module) -> torch.Tensor | None:
        if not self.has[NEAR]:
            return None
        with torch.no_grad(), self.start_of(model) as start:
            wanted = log_distributions(start, self.tokens)
        found = log_distributions(model, self.tokens)
        return kl_div(found, wanted, reduction="batchmean", log_target=True) * TEMPERATURE**2

    @torch.no_grad()
    def before_update(self, rates: dict[torch.nn.Parameter, float]) -> None:
        for parameter, start in zip(self.parameters, self.start, strict=True):
            if self.has[PULL]:
                parameter.sub_(rates[parameter] * STRENGTH * (parameter - start))

    @torch.no_grad()
    def after_update(self) -> None:
        for parameter, mean in zip(self.parameters, self.mean, strict=True):
            mean.lerp_(parameter, 1 - DECAY)

    @torch.no_grad()
    def finish(self) -> None:
        for parameter, mean in zip(self.parameters, self.mean, strict=True):
            if self.has[MEAN]:
                parameter.copy_(mean)


def by_depth(name: str) -> tuple[float, float | None]:
    block = re.search(r"layers\.(\d+)\.", name)
    if block:
        return LAYER_DECAY ** (NUM_LAYERS - int(block[1])), None
    return LAYER_DECAY ** (NUM_LAYERS + 1 if "embed_tokens" in name else 0), None


def part(*overrides: str, is_trained: Callable[[str], bool] = lambda _: True) -> full.Part:
    names = tuple(option for option in overrides if not option.startswith("parallel"))
    return full.Part(
        overrides=overrides,
        is_trained=is_trained,
        group_of=by_depth if BY_DEPTH in overrides else full.in_no_group,
        hooks_of=lambda model, tokens: Holding(names, model, tokens),
    )


def above_the_first_block(name: str) -> bool:
    return "layers.1." in name or name.endswith("norm.weight")


# name: family, how it is trained
CASES = {
    "pull": ("llama_tied", part(PULL)),
    "mean": ("qwen2", part(MEAN, "parallel.stage=1")),
    "near": ("qwen3", part(NEAR)),
    "by_depth": ("llama_biases", part(BY_DEPTH)),
    "by_depth_tied": ("llama_tied", part(BY_DEPTH, NEAR, "parallel.stage=0")),
    "all_of_a_part": (
        "mistral_window",
        part(PULL, MEAN, NEAR, "train.only=[layers.1, norms]", is_trained=above_the_first_block),
    ),
}


def check_adapter() -> None:
    """The base, not the adapter that the run began with, is what it is kept near."""
    folder = full.workspace.FOLDER / "families" / "near_adapter"
    full.shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    base = full.write_base(folder, full.FAMILIES["llama_tied"])
    options = dict(r=4, lora_alpha=8, target_modules="all-linear")
    model = lora.write_start(folder, base, options, None)
    tokens = full.np.random.default_rng(5).integers(0, full.VOCABULARY, (full.ROWS, full.LENGTH))
    full.write_shard(folder / "train.h5", tokens, folder / "model" / "tokenizer.json")
    config = lora.write_config(
        folder, "method: lora\nlora: {rank: 4, alpha: 8, targets: all-linear}\n", folder / "start")
    full.workspace.run(2, "train", config, MEAN, NEAR)
    tokens = torch.from_numpy(tokens)
    expected = full.train_in_transformers(
        model, lambda model: full.mean_loss(model, tokens),
        hooks=Holding((MEAN, NEAR), model, tokens))  # fmt: skip
    assert expected[0]["kl"] > 0.01, "the adapter makes no difference"
    full.assert_same_steps("near_adapter", full.workspace.step_lines(config), expected)
    ours = load_file(folder / "run" / "final" / "adapter_model.safetensors")
    for key, tensor in peft.get_peft_model_state_dict(model).items():
        assert torch.allclose(ours[key], tensor, rtol=1e-3, atol=2e-4), key


def main() -> None:
    for name, (family, trained) in CASES.items():
        full.check_family(f"held_{name}", full.FAMILIES[family], trained)
    check_adapter()


if __name__ == "__main__":
    main()
