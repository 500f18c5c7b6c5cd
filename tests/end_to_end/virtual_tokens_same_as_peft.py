# SPDX-License-Identifier: Apache-2.0
"""Prefix and prompt tuning beside peft: training, files in both directions, answers.

For tiny models of several families an adapter that peft wrote is trained for twenty steps by temper
on two ranks and by peft with torch's AdamW. Compared are loss, gradient norm and learning rate of
each step, the trained tensor, the hold-out loss of the saved adapter, and greedy answers. The
documents are packed, two in a row, which peft cannot do: it sees each by itself.
"""

import hashlib
import shutil
from pathlib import Path

import lora_same_as_peft as lora
import numpy as np
import peft
import same_as_transformers as full
import torch
import workspace
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

TOKENS = 7
DOCUMENT = full.LENGTH // 2

# name: family, configuration of peft, method, activations recomputed
CASES = {
    "prefix_llama": ("llama_tied", peft.PrefixTuningConfig, "prefix", False),
    "prefix_grouped_heads": ("qwen3", peft.PrefixTuningConfig, "prefix", True),
    "prompt_llama": ("llama3_scaling", peft.PromptTuningConfig, "prompt", False),
    "prompt_qwen": ("qwen2", peft.PromptTuningConfig, "prompt", True),
}


def write_shard(path: Path, documents: np.ndarray, tokenizer: Path) -> None:
    """Conversations whose targets are all tokens but the first: they are packed, two in a row."""
    digest = hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    path.unlink(missing_ok=True)
    (tokenizer.parent / "chat_template.jinja").write_text("{{ x }}")
    identity = full.ShardIdentity("sft", full.VOCABULARY, digest, "{{ x }}", 2)
    mask = np.ones(documents.shape, np.uint8)
    mask[:, 0] = 0
    with full.ShardWriter(path, identity) as writer:
        lengths = np.full(len(documents), DOCUMENT)
        writer.append(documents.astype("<u2").ravel(), lengths, mask.ravel())
        writer.publish("{}")


def write_start(folder: Path, family: str, config_class: type) -> peft.PeftModel:
    base = full.write_base(folder, full.FAMILIES[family])
    config = config_class(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS)
    model = peft.get_peft_model(base, config)
    model.save_pretrained(folder / "start")
    return model


def loss_in_peft(model: torch.nn.Module, documents: torch.Tensor) -> torch.Tensor:
    """The mean over all targets; the prompt's own rows and the first token are none."""
    logits = model(input_ids=documents).logits[:, -DOCUMENT:-1]
    return cross_entropy(logits.reshape(-1, full.VOCABULARY), documents[:, 1:].reshape(-1))


def check_training(name: str, config: Path, model: torch.nn.Module, documents) -> None:
    workspace.run(2, "train", config)
    expected = full.train_in_transformers(model, lambda model: loss_in_peft(model, documents))
    found = workspace.step_lines(config)
    full.assert_same_steps(name, found, expected)
    assert found[-1]["loss"] < found[0]["loss"]
    ours = load_file(config.parent / "run" / "final" / "adapter_model.safetensors")
    theirs = peft.get_peft_model_state_dict(model)
    assert list(ours) == list(theirs) == ["prompt_embeddings"]
    assert torch.allclose(*(t["prompt_embeddings"] for t in (ours, theirs)), rtol=1e-3, atol=2e-4)


def check_saved(name: str, folder: Path, documents: torch.Tensor) -> None:
    """The saved adapter has the same loss and the same greedy answers here and in peft."""
    model = lora.load_in_peft(folder).eval()
    line = workspace.output(2, "eval", lora.write_evaluation(folder)).splitlines()[-1]
    ours = float(line.split("loss=")[1].split()[0])
    with torch.no_grad():
        theirs = loss_in_peft(model, documents).item()
    assert abs(ours - theirs) <= 1e-6 * theirs, f"{name}: loss {ours}, in peft {theirs}"

    prompt = documents[0, :5]
    answer = workspace.output(
        1, "generate", folder / "model", "--adapter", folder / "run/final", "--dtype", "float32",
        "--prompts", ",".join(map(str, prompt.tolist())), "--max-new-tokens", 12,
    )  # fmt: skip
    tokens = prompt.tolist()
    with torch.no_grad():
        for _ in range(12):
            logits = model(input_ids=torch.tensor([tokens])).logits
            tokens.append(logits[0, -1].argmax().item())
    found = [int(token) for token in answer.strip().split(",")]
    wanted = tokens[len(prompt) :]
    ends = [i for i, token in enumerate(wanted) if token == model.config.eos_token_id]
    assert found == wanted[: ends[0] if ends else None], f"{name}: {found}, in peft {wanted}"


def new_case(name: str) -> tuple[Path, np.ndarray]:
    """An empty folder, and documents for its shard."""
    folder = workspace.FOLDER / "virtual_tokens" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    random = np.random.default_rng(5)
    return folder, random.integers(3, full.VOCABULARY, (2 * full.ROWS, DOCUMENT))


def first_masters(config: Path) -> dict[str, torch.Tensor]:
    """What a run begins with: the state after a step whose rate rounds to 0."""
    workspace.run(2, "train", config, "train.max_steps=1", "schedule.warmup_steps=0",
                  "optimizer.learning_rate=1e-60")  # fmt: skip
    run = config.parent / "run"
    files = (run / "checkpoints/step-00000001/optimizer").glob("master-*.safetensors")
    tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    shutil.rmtree(run)
    return tensors


def check_projected() -> None:
    """A prefix that is trained through a projection, from the numbers that temper begins with."""
    folder, documents = new_case("projected")
    base = full.write_base(folder, full.FAMILIES["qwen3"])
    write_shard(folder / "train.h5", documents, folder / "model" / "tokenizer.json")
    model = peft.get_peft_model(
        base,
        peft.PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=TOKENS,
            prefix_projection=True,
            encoder_hidden_size=13,
        ),
    )
    options = f"method: prefix\nprefix: {{tokens: {TOKENS}, projection: 13}}\n"
    config = lora.write_config(folder, options, None)
    masters = first_masters(config)
    encoder = model.prompt_encoder["default"]
    own = {name.removeprefix("prompt_encoder."): tensor for name, tensor in masters.items()}
    prefix = own.pop("prompt_embeddings")
    encoder.load_state_dict(own)
    expected = encoder(torch.arange(TOKENS)).detach()
    assert torch.allclose(prefix, expected, rtol=1e-5, atol=1e-6)
    check_training("projected", config, model, torch.from_numpy(documents))
    plain = options.replace(", projection: 13", "")
    lora.write_config(folder, plain, folder / "start")
    check_saved("projected", folder, torch.from_numpy(documents))


def check_case(name: str, family: str, config_class: type, method: str, recomputes: bool) -> None:
    folder, documents = new_case(name)
    model = write_start(folder, family, config_class)
    write_shard(folder / "train.h5", documents, folder / "model" / "tokenizer.json")
    options = f"method: {method}\n{method}: {{tokens: {TOKENS}}}\n"
    config = lora.write_config(folder, options, folder / "start")
    if recomputes:
        config.write_text(config.read_text().replace("train: {", "train: {recompute: true, "))
    check_training(name, config, model, torch.from_numpy(documents))
    check_saved(name, folder, torch.from_numpy(documents))


def main() -> None:
    check_projected()
    for name, case in CASES.items():
        check_case(name, *case)


if __name__ == "__main__":
    main()
