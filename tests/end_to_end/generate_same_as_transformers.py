# SPDX-License-Identifier: Apache-2.0
"""Greedy answers of `temper generate` beside transformers', token for token, in fp32.

usage: generate_same_as_transformers.py [bottleneck|families]

100 prompts to tiny random models of families whose parts cover those of all, with `families` of
every one, and, some of them, with an adapter of each method that peft, or with `bottleneck`
AdapterHub's library, wrote. The reference answers prompts of one
length at once, temper all of them, on two ranks. With an adapter it takes whole forward passes:
transformers' generate() leaves out the prefix that peft hands over, on a model with windows.
"""

import json
import random
import shutil
import sys
from pathlib import Path

import same_as_transformers as full
import torch
import workspace

NUM_NEW_TOKENS = 12
LENGTHS = (1, 2, 3, 5, 8, 13, 17, 21, 34, 55)
FOLDER = workspace.FOLDER / "-".join(["generate", *sys.argv[1:]])  # Both may run at once.


def make_prompts() -> list[list[int]]:
    """Ten of each length."""
    draw = random.Random(3)
    return [draw.choices(range(full.VOCABULARY), k=length) for length in LENGTHS for _ in range(10)]


def generated(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    return model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NUM_NEW_TOKENS,
        do_sample=False, pad_token_id=0,
    )  # fmt: skip


def most_probable(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        for _ in range(NUM_NEW_TOKENS):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1].argmax(1, keepdim=True)], 1)
    return ids


def reference(model: torch.nn.Module, prompts: list[list[int]], go_on) -> list[list[int]]:
    ends = model.config.get_text_config().eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    answers = []
    for first in range(0, len(prompts), 10):
        ids = torch.tensor(prompts[first : first + 10])
        for answer in go_on(model, ids)[:, ids.shape[1] :].tolist():
            cuts = [place for place, token in enumerate(answer) if token in ends]
            answers.append(answer[: cuts[0]] if cuts else answer)
    return answers


def check(name: str, model: torch.nn.Module, *arguments, go_on=most_probable) -> None:
    prompts = make_prompts()
    path = FOLDER / "requests.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    options = ("--requests", path, "--max-new-tokens", NUM_NEW_TOKENS, "--dtype", "float32")
    lines = workspace.output(2, "generate", *arguments, *options).splitlines()
    found = [json.loads(line)["answers"][0]["ids"] for line in lines]
    expected = reference(model.eval(), prompts, go_on)
    assert len(found) == len(expected) == 100
    for prompt, ours, theirs in zip(prompts, found, expected, strict=True):
        assert ours == theirs, f"{name}: to {prompt} {ours}, in transformers {theirs}"
    different = len(set(map(tuple, expected)))
    assert different > 20, f"{name}: only {different} of the answers differ"
    print(f"{name}: 100 greedy answers agree, {different} different ones")


def new_folder() -> Path:
    folder = FOLDER / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_base(folder: Path, family: str) -> torch.nn.Module:
    """As other tests have it, but for biases of such a size that answers depend on the prompts."""
    model = full.write_base(folder, full.FAMILIES[family])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                torch.nn.init.normal_(parameter, 0.0, 0.1)
    model.save_pretrained(folder / "model")
    return model


def shake(model: torch.nn.Module) -> None:
    """Changes what an adapter trains, which adds nothing at first."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


def check_families(families: set[str]) -> None:
    for family in sorted(families):
        folder = new_folder()
        check(family, write_base(folder, family), folder / "model", go_on=generated)


def check_peft() -> None:
    import peft
    from score_same_as_transformers import ADAPTERS

    for name, (family, config) in ADAPTERS.items():
        folder = new_folder()
        model = peft.get_peft_model(write_base(folder, family), config)
        shake(model)
        model.save_pretrained(folder / "adapter")
        check(f"{name} on {family}", model, folder / "model", "--adapter", folder / "adapter")


def check_qlora() -> None:
    """On blocks that bitsandbytes quantised and dequantised; temper quantises them by itself."""
    import lora_same_as_peft as lora
    import peft

    folder, quantisation = new_folder(), ("nf4", True)
    model = write_base(folder, "qwen3")
    lora.quantise_blocks(model, quantisation)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear",
        init_lora_weights=False,
    )  # fmt: skip
    model = peft.get_peft_model(model, config)
    shake(model)
    model.save_pretrained(folder / "start")
    options = "method: qlora\nlora: {rank: 4, alpha: 8, targets: all-linear}\n"
    options += "quantise: {type: nf4, double: true}\n"
    path = lora.write_config(folder, options, folder / "start")
    check("qlora on qwen3", model, path, "--weights", "base")


def check_bottleneck() -> None:
    import adapters

    for family, config in (
        ("llama_biases", adapters.DoubleSeqBnConfig()),
        ("qwen2", adapters.SeqBnConfig()),
    ):
        folder = new_folder()
        model = write_base(folder, family)
        adapters.init(model)
        model.add_adapter("a_task", config=config)
        model.set_active_adapters("a_task")
        for name, parameter in model.named_parameters():
            parameter.requires_grad = ".adapters.a_task." in name
        shake(model)
        model.save_adapter(folder / "adapter", "a_task", use_safetensors=True)
        check(f"bottleneck on {family}", model, folder / "model", "--adapter", folder / "adapter")


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    if sys.argv[1:] == ["bottleneck"]:
        check_bottleneck()
        return
    if sys.argv[1:] == ["families"]:
        check_families(set(full.FAMILIES))
        return
    check_families(full.FAMILIES.keys() - full.OF_KNOWN_PARTS.keys())
    check_peft()
    check_qlora()


if __name__ == "__main__":
    main()
