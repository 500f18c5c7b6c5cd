# SPDX-License-Identifier: Apache-2.0
"""LoRA and QLoRA on every expert of a mixture, beside plain PyTorch: twenty steps, the files, the
hold-out loss and the merge in peft."""

import lora_same_as_peft as lora
import peft
import same_as_transformers as full
import torch
import workspace
from safetensors.torch import load_file, save_file
from torch.nn.utils import parametrize
from transformers import AutoModelForCausalLM


class Added(torch.nn.Module):
    """Adds the products of A and B to a weight: one, or one of each expert and each of its parts,
    by their paths."""

    def __init__(self, paths: list, pairs: dict, scale: float):
        super().__init__()
        self.paths, self.pairs, self.scale = paths, pairs, scale
        self.trained = torch.nn.ParameterList(
            pairs[path][part] for path in sum(paths, []) for part in "AB"
        )

    def of(self, path: str) -> torch.Tensor:
        return self.scale * self.pairs[path]["B"] @ self.pairs[path]["A"]

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        added = [torch.cat([self.of(path) for path in parts]) for parts in self.paths]
        return weight + torch.stack(added).view(weight.shape)


def add_pairs(model: torch.nn.Module, pairs: dict, scale: float) -> None:
    """Makes the model compute with low-rank additions to q_proj and to each matrix of experts."""
    model.requires_grad_(False)
    for layer, block in enumerate(model.model.layers):
        path = f"model.layers.{layer}.self_attn.q_proj"
        q_proj = block.self_attn.q_proj
        parametrize.register_parametrization(q_proj, "weight", Added([[path]], pairs, scale))
        experts = [
            f"model.layers.{layer}.block_sparse_moe.experts.{expert}"
            for expert in range(block.mlp.experts.num_experts)
        ]
        for name, parts in {"gate_up_proj": ("w1", "w3"), "down_proj": ("w2",)}.items():
            paths = [[f"{path}.{part}" for part in parts] for path in experts]
            parametrize.register_parametrization(
                block.mlp.experts, name, Added(paths, pairs, scale)
            )


def check_experts(name: str, quantisation) -> None:
    """LoRA on experts, by the names of files, beside plain PyTorch. peft, which in transformers 5
    trains the experts' common tensors otherwise, loads it and merges it."""
    folder, base, tokens = lora.new_case(name, "mixtral")
    targets = ["q_proj", "w1", "w2", "w3"]
    options = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=targets)
    options.save_pretrained(folder / "start")
    shapes = {
        key.removesuffix(".weight"): tensor.shape
        for key, tensor in load_file(folder / "model/model.safetensors").items()
        if key.removesuffix(".weight").endswith(tuple(targets))
    }
    pairs = {
        path: {
            "A": torch.nn.Parameter(0.1 * torch.randn(4, size)),
            "B": torch.nn.Parameter(0.05 * torch.randn(out, 4)),
        }
        for path, (out, size) in shapes.items()
    }
    tensors = {
        f"base_model.model.{path}.lora_{part}.weight": pair[part]
        for path, pair in pairs.items()
        for part in "AB"
    }
    save_file({key: one.detach().clone() for key, one in tensors.items()},
              folder / "start/adapter_model.safetensors")  # fmt: skip
    lora.quantise_blocks(base, quantisation)
    add_pairs(base, pairs, scale=2.0)
    method = "lora" if quantisation is None else "qlora"
    given = f"method: {method}\nlora: {{rank: 4, alpha: 8, targets: [{', '.join(targets)}]}}\n"
    config = lora.write_config(folder, given, folder / "start")
    workspace.run(2, "train", config)
    expected = full.train_in_transformers(base, lambda model: full.mean_loss(model, tokens))
    full.assert_same_steps(name, workspace.step_lines(config), expected)
    ours = load_file(folder / "run/final/adapter_model.safetensors")
    assert ours.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert torch.allclose(ours[key], tensor, rtol=1e-3, atol=2e-4), f"{name}: {key}"
    lora.check_saved(name, folder, tokens, quantisation)
    if quantisation is None:
        merged = folder / "merged"
        workspace.output(1, "merge", folder / "model", folder / "run/final", merged)
        found = AutoModelForCausalLM.from_pretrained(merged).state_dict()
        for key, tensor in lora.merge_in_peft(
            folder / "model", folder / "run/final", torch.float32
        ).items():
            assert torch.allclose(found[key], tensor, rtol=1e-5, atol=1e-6), f"{name}: {key}"
    column = "QLoRA on experts" if quantisation else "LoRA on experts"
    full.family_results.record(column, "mixtral", f"{full.STEPS} steps")


if __name__ == "__main__":
    full.family_results.forget(("LoRA on experts", "QLoRA on experts"), ("mixtral",))
    check_experts("experts", None)
    check_experts("experts_nf4", ("nf4", True))
