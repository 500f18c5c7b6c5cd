# SPDX-License-Identifier: Apache-2.0
"""Logits and gradients of the real model against transformers, as decoder_oracle.py does for tiny
ones: fp32 to rounding, bf16 within the noise that transformers itself shows.

The reference is transformers in fp64: over this vocabulary PyTorch's fp32 cross-entropy alone moves
gradients by 3e-4, since its sum of exponentials loses the small ones.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
from decoder_oracle import noise, run_probe, run_reference, worst_element
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ["TEMPER_BUILD_DIR"]) / "end_to_end" / "model"
TEXTS = (
    "sbatch submits a batch script to Slurm. The batch script may be given to sbatch through a file"
    " name on the command line.",
    "The capital of France is Paris, and that of Italy is Rome.",
)
FLOAT32_BOUND = 1e-5  # Relative to the largest element.
GRADIENT_BOUND = 3e-5  # Thirty layers deep; transformers has more.


def make_documents(tokenizer) -> list[tuple[torch.Tensor, torch.Tensor]]:
    documents = []
    for text in TEXTS:
        tokens = torch.tensor(tokenizer(text)["input_ids"])
        documents.append((tokens, torch.cat([tokens[1:], torch.tensor([-100])])))
    return documents


def main() -> None:
    torch.set_num_threads(2)
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, ROOT / "datasets/fetch_model.py", FOLDER], check=True)
    documents = make_documents(AutoTokenizer.from_pretrained(FOLDER))
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    windows = [0] * model.config.num_hidden_layers

    exact = run_reference(model.double(), documents)
    theirs = run_reference(model.float(), documents)
    ours = run_probe(sys.argv[1], model, windows, documents, "float32")
    error, their_error = worst_element(ours, exact), worst_element(theirs, exact)
    logits = worst_element({"logits": ours["logits"]}, {"logits": exact["logits"]})
    print(f"float32: {error:.1e} off, transformers {their_error:.1e}; logits {logits:.1e}")
    assert logits <= FLOAT32_BOUND and error <= GRADIENT_BOUND

    narrow = noise(run_probe(sys.argv[1], model, windows, documents, "bfloat16"), exact)
    their_narrow = noise(run_reference(model.bfloat16(), documents), exact)
    ratios = {key: (narrow[key] / their_narrow[key].clamp(min=1e-4)).item() for key in exact}
    mean, worst = sum(ratios.values()) / len(ratios), max(ratios, key=ratios.get)
    print(f"bfloat16: noise {mean:.2f} of transformers', at most {ratios[worst]:.2f} ({worst})")
    assert mean <= 1.1 and ratios["logits"] <= 1.5


if __name__ == "__main__":
    main()
