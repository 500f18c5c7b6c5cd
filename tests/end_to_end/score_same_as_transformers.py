# SPDX-License-Identifier: Apache-2.0
"""`temper score` beside transformers and peft: log-probabilities of each token, greedy or not.

Tiny random models of each family, some with an adapter that peft wrote, and the real model. The
reference sees each request by itself, temper all of them at once, on two ranks.
"""

import json
import random
import shutil
from pathlib import Path

import peft
import same_as_transformers as full
import torch
import workspace
from transformers import AutoModelForCausalLM, AutoTokenizer

BOUND = 1e-4
LORA = dict(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
ADAPTERS = {
    "lora": ("llama_biases", peft.LoraConfig(task_type="CAUSAL_LM", **LORA)),
    "dora": ("qwen3", peft.LoraConfig(task_type="CAUSAL_LM", use_dora=True, **LORA)),
    "prefix": ("mistral_window", peft.PrefixTuningConfig(task_type="CAUSAL_LM",
                                                         num_virtual_tokens=5)),
    "prompt": ("qwen2", peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)),
}  # fmt: skip
TEXTS = (
    "The capital of France is", " Paris, which lies on the Seine.", " Berlin.", " a city",
    "Water boils at a temperature of", " 100 degrees", " ten",
)  # fmt: skip


def reference(model: torch.nn.Module, context: list[int], continuation: list[int]):
    """The log-probabilities of the continuation's tokens, and whether all of them are greedy."""
    ids = torch.tensor([context + continuation])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, -len(continuation) - 1 : -1].float()
    wanted = torch.tensor(continuation)[:, None]
    values = torch.log_softmax(logits, 1).gather(1, wanted)[:, 0]
    return values, bool((logits.argmax(1) == wanted[:, 0]).all())


def greedy_answer(model: torch.nn.Module, context: list[int], count: int) -> list[int]:
    ids = list(context)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(context) :]


def random_requests(model: torch.nn.Module) -> list[tuple]:
    """Three continuations for each context, one of them the greedy one; in no order."""
    draw = random.Random(2)
    requests = []
    for length in (1, 2, 7, 40, 77):
        context = draw.choices(range(full.VOCABULARY), k=length)
        continuations = [draw.choices(range(full.VOCABULARY), k=k) for k in (1, 9)]
        for continuation in (*continuations, greedy_answer(model, context, 5)):
            requests.append((context, continuation))
    draw.shuffle(requests)
    return requests


def check(name: str, model: torch.nn.Module, requests: list[tuple], *arguments) -> None:
    path = workspace.FOLDER / "score.jsonl"
    keys = ("context", "continuation")
    lines = (json.dumps(dict(zip(keys, request, strict=True))) for request in requests)
    path.write_text("".join(line + "\n" for line in lines))
    options = ("--requests", path, "--tokens", "--dtype", "float32")
    answers = workspace.output(2, "score", *arguments, *options).splitlines()
    worst, num_greedy = 0.0, 0
    for request, line in zip(requests, answers, strict=True):
        found = json.loads(line)
        values, is_greedy = reference(model, *request)
        worst = max(worst, (torch.tensor(found["logprobs"]) - values).abs().max().item())
        assert found["tokens"] == len(values) and found["greedy"] == is_greedy, (name, request)
        assert abs(found["logprob"] - values.sum().item()) < BOUND * len(values), (name, request)
        num_greedy += is_greedy
    assert worst < BOUND, (name, worst)
    assert 0 < num_greedy < len(requests), (name, num_greedy)
    print(f"{name}: {len(requests)} requests, {num_greedy} greedy, largest difference {worst:.1e}")


def check_family(folder: Path, family: str) -> None:
    model = full.write_base(folder, full.FAMILIES[family]).eval()
    check(family, model, random_requests(model), folder / "model")


def check_adapter(folder: Path, name: str) -> None:
    family, config = ADAPTERS[name]
    torch.manual_seed(4)
    model = peft.get_peft_model(full.write_base(folder, full.FAMILIES[family]), config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder / "adapter")
    requests = random_requests(model)
    check(f"{name} on {family}", model, requests, folder / "model", "--adapter", folder / "adapter")


def check_real_model() -> None:
    folder = workspace.FOLDER / "model"
    workspace.python("datasets/fetch_model.py", str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    first, *answers, second, number, word = [tokenizer(text)["input_ids"] for text in TEXTS]
    requests = [(first, answer) for answer in answers] + [(second, number), (second, word)]
    requests.append((first, greedy_answer(model, first, 4)))
    check("SmolLM2-135M", model, requests, folder)


def main() -> None:
    workspace.FOLDER.mkdir(parents=True, exist_ok=True)
    folder = workspace.FOLDER / "score"
    for family in full.FAMILIES.keys() - full.OF_KNOWN_PARTS.keys():
        shutil.rmtree(folder, ignore_errors=True)
        check_family(folder, family)
    for name in ADAPTERS:
        shutil.rmtree(folder)
        check_adapter(folder, name)
    check_real_model()


if __name__ == "__main__":
    main()
