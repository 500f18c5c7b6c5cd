# SPDX-License-Identifier: Apache-2.0
"""Logits and gradients of the real model against transformers, as decoder_oracle.py does for tiny
ones: fp32 to rounding, bf16 within the noise that transformers itself shows.

The reference is transformers in fp64: over this vocabulary PyTorch's fp32 cross-entropy alone moves
gradients by 3e-4, since its sum of exponentials loses the small ones. With that sum in fp64, its
gradients are as far off as ours are, 3e-6 in length; with the linear layers in fp64 too it would be
1.2e-6: it is the rounding of the library's fp32 matrix products that is left. Where it falls in
one tensor is chance: of all 272, the worst is 0.9e-5 to 1.3e-5 off, in either program.
"""

import copy
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from decoder_oracle import Probe, Program, noise, run_probe, run_reference, worst_element
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ["TEMPER_BUILD_DIR"]) / "end_to_end" / "model"
TEXTS = (
    "sbatch submits a batch script to Slurm. The batch script may be given to sbatch through a file"
    " name on the command line.",
    "The capital of France is Paris, and that of Italy is Rome.",
)
# One at a time, so many tokens from these places of each: the noise of bf16 in a single text is a
# matter of luck (ratios of 0.7 to 1.6; their mean here is off by 0.06), and processors without
# instructions for it take long.
NOISE_TOKENS = 24
NOISE_BEGINS = (0, 12, 24)
NOISE_TEXTS = (
    "A job that asks for more memory than any node has will never start. Ask for less, or spread"
    " the work over several nodes, and look at the reason that the queue shows for a pending job"
    " before you write to the people who run the machine.",
    "Water boils at one hundred degrees Celsius at sea level. On a high mountain the air presses"
    " less on its surface, so that it boils at a lower temperature, and it takes longer to cook"
    " an egg there than it does at home.",
    "Licensed under the Apache License, Version 2.0 (the License); you may not use this file"
    " except in compliance with the License. You may obtain a copy of the License at the address"
    " below, unless required by applicable law or agreed to in writing.",
    "The old man went down to the harbour every morning before the sun rose, mended his nets, and"
    " waited for the boats to come in. He had not been at sea himself for ten years, but he still"
    " knew by the smell of the wind what the day would bring.",
)
FLOAT32_BOUND = 1e-5  # Relative: of logits to the largest, of all gradients together in length.
TENSOR_BOUND = 2e-5  # Of one tensor's gradient in length.
ELEMENT_BOUND = 5e-5  # Of one gradient, relative to the largest of its tensor.


def make_documents(
    tokenizer, texts: tuple, begin: int = 0, most: int | None = None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Tokens and targets of each text, or of so many of its tokens."""
    documents = []
    for text in texts:
        tokens = torch.tensor(tokenizer(text)["input_ids"][begin:][:most])
        documents.append((tokens, torch.cat([tokens[1:], torch.tensor([-100])])))
    return documents


def gradient_lengths(result: dict, exact: dict) -> tuple[float, float]:
    """The length of the difference, relative to the gradient's: of the worst tensor, and of all
    gradients as one."""
    names = [name for name in exact if name not in ("loss", "logits")]
    tensor = max(noise(result, {name: exact[name] for name in names}).values())
    found, wanted = (
        torch.cat([run[name].flatten() for name in names]).double() for run in (result, exact)
    )
    return tensor.item(), ((found - wanted).norm() / wanted.norm()).item()


def check_float32(ours: dict, theirs: dict, exact: dict) -> None:
    logits = worst_element({"logits": ours["logits"]}, {"logits": exact["logits"]})
    print(f"float32: logits {logits:.1e} off")
    for name, result in (("temper", ours), ("transformers", theirs)):
        tensor, together = gradient_lengths(result, exact)
        element = worst_element(result, exact)
        print(f"  gradients of {name}: all {together:.1e}, tensor {tensor:.1e}, one {element:.1e}")
        if result is ours:
            assert together <= FLOAT32_BOUND
            assert tensor <= TENSOR_BOUND and element <= ELEMENT_BOUND
    assert logits <= FLOAT32_BOUND


def noise_ratios(model, narrow, probe: Probe, document: tuple) -> dict[str, float]:
    """Of temper's bf16 noise to that of transformers, by tensor."""
    exact = run_reference(model, [document])
    ours = noise(probe.run([document]), exact)
    theirs = noise(run_reference(narrow, [document]), exact)
    return {name: (ours[name] / theirs[name].clamp(min=1e-4)).item() for name in exact}


def check_bfloat16(program: Program, model, documents: list[tuple]) -> None:
    narrow = copy.deepcopy(model).bfloat16()
    with Probe(program, model, "bfloat16") as probe:
        ratios = [noise_ratios(model, narrow, probe, document) for document in documents]
    by_text = [statistics.mean(ratio.values()) for ratio in ratios]
    logits = statistics.mean(ratio["logits"] for ratio in ratios)
    mean = statistics.mean(by_text)
    texts = ", ".join(f"{ratio:.2f}" for ratio in by_text)
    print(f"bfloat16: noise {mean:.2f} of transformers' ({texts}), of logits {logits:.2f}")
    assert mean <= 1.1 and logits <= 1.2


def main() -> None:
    torch.set_num_threads(2)
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, ROOT / "datasets/fetch_model.py", FOLDER], check=True)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)

    documents = make_documents(tokenizer, TEXTS)
    exact = run_reference(model.double(), documents)
    theirs = run_reference(model.float(), documents)
    with Program(sys.argv[1]) as program:
        ours = run_probe(program, model, documents, "float32")
        check_float32(ours, theirs, exact)
        documents = []
        for begin in NOISE_BEGINS:
            documents += make_documents(tokenizer, NOISE_TEXTS, begin, NOISE_TOKENS)
        check_bfloat16(program, model.double(), documents)


if __name__ == "__main__":
    main()
