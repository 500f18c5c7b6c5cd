# SPDX-License-Identifier: Apache-2.0
"""Parts of a model, and groups with rates and decays of their own, beside torch's.

The reference has `requires_grad_(False)` and parameter groups. Frozen tensors of the result are the
bytes of the model that the run began with.
"""

import re
from pathlib import Path

import same_as_transformers as full
from safetensors.torch import load_file


def is_norm(name: str) -> bool:
    return name.endswith("norm.weight")


def grouped(name: str) -> tuple[float, float | None]:
    """As the configuration of the case `groups` says it."""
    if is_norm(name):
        return 2.0, 0.3
    if "layers.0." in name:
        return 0.5, None
    return (1.0, 0.0) if "mlp.down_proj" in name else (1.0, None)


GROUPS = (
    "optimizer.groups=[{match: norms, learning_rate: 0.006, weight_decay: 0.3}, "
    "{match: [layers.0], learning_rate_ratio: 0.5}, "
    "{match: layers.1.mlp.down_proj, weight_decay: 0}]"
)

# name: family, and what is trained of it
CASES = {
    "upper_block": (
        "llama_tied",
        full.Part(("train.only=layers.1",), lambda name: "layers.1." in name),
    ),
    "norms": ("qwen3", full.Part(("train.only=norms",), is_norm, has_small_gradients=True)),
    "biases": (
        "llama_biases",
        full.Part(
            ("train.only=biases",),
            lambda name: name.endswith(".bias"),
            has_small_gradients=True,
        ),
    ),
    "some_matrices": (
        "qwen2",
        full.Part(
            (r"train.only=['self_attn\.[qv]_proj', up_proj]",),
            lambda name: re.search("q_proj|v_proj|up_proj", name) is not None,
        ),
    ),
    "no_embedding": (
        "mistral_window",
        full.Part(
            ("train.freeze=[embedding, layers.0.self_attn]",),
            lambda name: "embed_tokens" not in name and "layers.0.self_attn" not in name,
        ),
    ),
    "head": ("qwen3", full.Part(("train.only=head",), lambda name: name == "lm_head.weight")),
    "groups": ("llama_biases", full.Part((GROUPS,), group_of=grouped)),
    "groups_of_a_part": (
        "llama_tied",
        full.Part(
            ("train.freeze=[embedding, head, k_proj]", GROUPS),
            lambda name: "embed_tokens" not in name and "k_proj" not in name,
            grouped,
        ),
    ),
}


def check_frozen(folder: Path, part: full.Part) -> None:
    before = tensors_in(folder / "model")
    after = tensors_in(folder / "run" / "final")
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        is_same = after[name].dtype == tensor.dtype and after[name].equal(tensor)
        assert is_same != part.is_trained(name), name


def tensors_in(folder: Path) -> dict:
    return {name: tensor for file in sorted(folder.glob("*.safetensors"))
            for name, tensor in load_file(file).items()}  # fmt: skip


def main() -> None:
    for name, (family, part) in CASES.items():
        folder = full.check_family(f"part_{name}", full.FAMILIES[family], part)
        check_frozen(folder, part)


if __name__ == "__main__":
    main()
